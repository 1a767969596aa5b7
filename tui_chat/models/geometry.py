"""Models of a known shape with random weights: how fast would this one run here, before it is downloaded?

Speed depends on shapes and storage types, not on what the weights say, so a file of noise answers it. The tokens are
those of a real vocabulary, padded out to the size of the model that is imitated.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter
    from numpy.typing import NDArray

_BLOCK = 32
"""Weights in a Q8_0 block: one float16 scale, then this many int8 (ggml `block_q8_0`)."""
_BLOCK_BYTES = 34
_NOISE_BLOCKS = 1 << 17


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a decoder-only transformer, in llama.cpp's terms."""

    name: str
    architecture: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    n_vocab: int
    tied: bool
    """Whether the output matrix is the embedding."""
    rope_base: float

    @property
    def n_params(self) -> int:
        """Weights in all tensors."""
        return sum(int(np.prod(shape)) for _, shape in self.tensors())

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """(name, shape) of every tensor; matrices are (rows out, columns in)."""
        q, kv = self.n_head * self.head_dim, self.n_head_kv * self.head_dim
        yield "token_embd.weight", (self.n_vocab, self.n_embd)
        yield "output_norm.weight", (self.n_embd,)
        if not self.tied:
            yield "output.weight", (self.n_vocab, self.n_embd)
        for layer in range(self.n_layer):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (self.n_embd,)
            yield block + "attn_q.weight", (q, self.n_embd)
            yield block + "attn_k.weight", (kv, self.n_embd)
            yield block + "attn_v.weight", (kv, self.n_embd)
            yield block + "attn_output.weight", (self.n_embd, q)
            if self.architecture == "qwen3":
                yield block + "attn_q_norm.weight", (self.head_dim,)
                yield block + "attn_k_norm.weight", (self.head_dim,)
            yield block + "ffn_norm.weight", (self.n_embd,)
            yield block + "ffn_gate.weight", (self.n_ff, self.n_embd)
            yield block + "ffn_up.weight", (self.n_ff, self.n_embd)
            yield block + "ffn_down.weight", (self.n_embd, self.n_ff)


GEOMETRIES = {
    g.name: g
    for g in (
        Geometry("tiny", "qwen3", 4, 256, 4, 2, 64, 768, 32_000, True, 1e6),
        Geometry("qwen3-0.6b", "qwen3", 28, 1024, 16, 8, 128, 3072, 151_936, True, 1e6),
        Geometry("qwen3-4b", "qwen3", 36, 2560, 32, 8, 128, 9728, 151_936, True, 1e6),
        Geometry("llama3-8b", "llama", 32, 4096, 32, 8, 128, 14_336, 128_256, False, 5e5),
    )
}
"""The shapes that can be imitated, by name."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokenizer section of a GGUF file with a byte-level BPE."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str
    eos_id: int
    template: str | None


def vocabulary_of(path: Path) -> Vocabulary:
    """The tokens of a GGUF file whose tokenizer is a byte-level BPE ("gpt2"), such as the built-in model."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    return Vocabulary(
        tokens=tuple(_strings(reader, "tokenizer.ggml.tokens")),
        types=tuple(int(value) for value in _contents(reader, "tokenizer.ggml.token_type")),
        merges=tuple(_strings(reader, "tokenizer.ggml.merges")),
        pre=str(_contents(reader, "tokenizer.ggml.pre")),
        eos_id=int(_contents(reader, "tokenizer.ggml.eos_token_id")),
        template=_contents(reader, "tokenizer.chat_template") if "tokenizer.chat_template" in reader.fields else None,
    )


def ensure_model(geometry: Geometry, vocabulary: Vocabulary, directory: Path) -> Path:
    """The Q8_0 file of a geometry in `directory`, written on first use.

    Raises:
        OSError: It cannot be written, for want of space for example.
    """
    path = directory / f"{geometry.name}-random-Q8_0.gguf"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid.uuid4().hex[:8]}.partial")
        try:
            write_model(partial, geometry, vocabulary)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def write_model(path: Path, geometry: Geometry, vocabulary: Vocabulary) -> None:
    """Write a GGUF of this geometry: matrices Q8_0 noise with standard deviation 1/sqrt(columns), norms 1."""
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, geometry.architecture)
    _write_metadata(writer, geometry, vocabulary)
    rng = np.random.default_rng(0)
    noise = rng.integers(-127, 128, (_NOISE_BLOCKS, _BLOCK), np.int8)
    for name, shape in geometry.tensors():
        if len(shape) == 1:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * shape[0])
        else:
            stored = (shape[0], shape[1] // _BLOCK * _BLOCK_BYTES)
            size = stored[0] * stored[1]
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), size, GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, shape in geometry.tensors():
        writer.write_tensor_data(np.ones(shape, np.float32) if len(shape) == 1 else _noise_matrix(shape, noise))
    writer.close()


def _noise_matrix(shape: tuple[int, ...], noise: NDArray[np.int8]) -> NDArray[np.uint8]:
    """(rows, bytes a row) of Q8_0 blocks; the noise repeats, which changes no timing."""
    rows, columns = shape
    blocks = np.empty((rows * columns // _BLOCK, _BLOCK_BYTES), np.uint8)
    uniform_std = 127 / np.sqrt(3)
    blocks[:, :2] = np.array([1 / (np.sqrt(columns) * uniform_std)], np.float16).view(np.uint8)
    for start in range(0, len(blocks), len(noise)):
        part = blocks[start : start + len(noise), 2:]
        part[:] = noise[: len(part)].view(np.uint8)
    return blocks.reshape(rows, columns // _BLOCK * _BLOCK_BYTES)


def _write_metadata(writer: GGUFWriter, geometry: Geometry, vocabulary: Vocabulary) -> None:
    from gguf import LlamaFileType, TokenType

    writer.add_name(f"{geometry.name} (random weights)")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(40_960)
    writer.add_embedding_length(geometry.n_embd)
    writer.add_block_count(geometry.n_layer)
    writer.add_feed_forward_length(geometry.n_ff)
    writer.add_head_count(geometry.n_head)
    writer.add_head_count_kv(geometry.n_head_kv)
    writer.add_key_length(geometry.head_dim)
    writer.add_value_length(geometry.head_dim)
    writer.add_rope_dimension_count(geometry.head_dim)
    writer.add_rope_freq_base(geometry.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(geometry.n_vocab)
    padding = geometry.n_vocab - len(vocabulary.tokens)
    if padding < 0:
        raise ValueError(f"{geometry.name} has {geometry.n_vocab} tokens, fewer than the vocabulary it is to hold")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list([*vocabulary.tokens, *(f"[pad{i}]" for i in range(padding))])
    writer.add_token_types([*vocabulary.types, *([TokenType.UNUSED] * padding)])
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.eos_id)
    writer.add_bos_token_id(vocabulary.eos_id)
    writer.add_add_bos_token(False)
    if vocabulary.template:
        writer.add_chat_template(vocabulary.template)


def _contents(reader: GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def _strings(reader: GGUFReader, key: str) -> list[str]:
    return [str(value) for value in _contents(reader, key)]
