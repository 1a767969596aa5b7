"""How a model is loaded, and what is then known of it. Import them from `engine.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BYTES_PER_NUMBER: Mapping[str, float] = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
"""Storage types of the KV cache; a block of Q8_0 holds 32 numbers in 34 bytes (ggml `block_q8_0`)."""


_ONE_ROUNDING = 63
"""Most tokens computed at a time that all round alike; see `LoadOptions.ubatch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded. `None` and 0 mean: let the program choose."""

    n_ctx: int = 0
    """Tokens the context holds; 0 takes the model's own, at most 4096."""
    n_batch: int = 512
    """Tokens evaluated in one prefill chunk."""
    n_ubatch: int = 0
    """Tokens computed at a time within a chunk; see `ubatch` for 0."""
    n_threads: int = 0
    """CPU threads; 0 takes the physical cores (one thread for a model of a few MB)."""
    n_gpu_layers: int = -1
    """Layers put on the GPU; -1 all, where the build can."""
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: Literal["f32", "f16", "q8_0"] = "f16"
    """Storage type of the keys in the KV cache."""
    type_v: Literal["f32", "f16", "q8_0"] = "f16"
    """Storage type of the values in the KV cache."""
    use_mmap: bool = True
    use_mlock: bool = False
    eos_token: str | None = None
    """One more token that ends an answer, by its text; the vocabulary must have it."""

    def ubatch(self, n_batch: int, on_gpu: bool) -> int:
        """`n_ubatch` as it acts in chunks of `n_batch`.

        From 64 tokens on (GGML_FA_TILE_Q), ggml's flash attention on the processor computes in tiles, which rounds
        differently; of that, quantised weights make 0.4 nats. Below, the same tokens give the same logits to the last
        bit, however they are cut into chunks: so that is what 0 takes there, and `n_batch` on a GPU.
        """
        return min(self.n_ubatch or (n_batch if on_gpu else _ONE_ROUNDING), n_batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of the loaded model and of where it runs."""

    path: Path
    name: str
    architecture: str
    description: str
    """llama.cpp's short description: architecture, size and quantisation."""
    n_params: int
    size_bytes: int
    n_vocab: int
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int
    n_gpu_layers: int
    """Layers that really were put on a GPU."""
    devices: tuple[str, ...]
    """Devices that hold layers, as llama.cpp names them; `("CPU",)` without offload."""
    flash_attn: str
    type_k: str
    type_v: str
    bos_id: int | None
    eos_id: int | None
    bos_token: str
    eos_token: str
    eog_ids: frozenset[int]
    """All tokens that end an answer."""
    chat_template: str | None
    metadata: Mapping[str, str]
    """The file's scalar metadata, as text."""
    load_s: float
