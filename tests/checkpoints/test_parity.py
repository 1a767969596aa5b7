"""llama.cpp must compute what PyTorch computes, for every kind of model that can be trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from safetensors.torch import save_file  # noqa: E402 (after the check for PyTorch)

from tests.checkpoints.made import QWEN3, make_checkpoint  # noqa: E402
from tui_chat.checkpoints.export import export  # noqa: E402
from tui_chat.checkpoints.facts import WEIGHTS, CheckpointFacts  # noqa: E402
from tui_chat.checkpoints.file_type import FileType  # noqa: E402
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions  # noqa: E402
from tui_chat.checkpoints.tensors import parameter_shapes  # noqa: E402
from tui_chat.engine.engine import Engine  # noqa: E402
from tui_chat.engine.gguf import validate  # noqa: E402
from tui_chat.engine.types import LoadOptions  # noqa: E402
from tui_chat.training.models import build_model  # noqa: E402

EXACT = LoadOptions(n_ctx=128, n_threads=1, type_k="f32", type_v="f32", flash_attn="off")
"""A half-precision cache alone costs more than the tolerance."""

EXACT_GELU = torch.nn.functional.gelu

LLAMA = replace(QWEN3, qk_norm=False)
GPT2 = replace(LLAMA, arch=Architecture.GPT2, positions=Positions.LEARNED, norm_eps=1e-5)

SHAPES = {
    "qwen3": QWEN3,
    "qwen3, shared keys": replace(QWEN3, n_kv_heads=2),
    "qwen3, untied": replace(QWEN3, tied=False),
    "llama": LLAMA,
    "llama, shared keys": replace(LLAMA, n_kv_heads=1, rope_base=500.0),
    "llama, untied": replace(LLAMA, tied=False, n_kv_heads=2),
    "gpt2, learned": GPT2,
    "gpt2, learned, untied": replace(GPT2, tied=False),
    "gpt2, sinusoidal": replace(GPT2, positions=Positions.SINUSOIDAL),
    "gpt2, sinusoidal, untied, odd sizes": replace(
        GPT2, positions=Positions.SINUSOIDAL, tied=False, width=60, n_heads=3, n_kv_heads=3, ffn_width=77
    ),
}


def trained_like(shape: ModelShape) -> Any:
    """A model whose norms and biases matter, and whose logits spread over some nats."""
    model = build_model(shape, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
            elif "embedding" in name or "positions" in name or "head" in name:
                parameter.mul_(8)
            else:
                parameter.mul_(5)
    return model.eval()


def saved(model: Any, shape: ModelShape, path: Path) -> CheckpointFacts:
    facts = make_checkpoint(path, shape=shape)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path / WEIGHTS)
    return facts


def torch_logits(model: Any, ids: list[int]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = model(torch.tensor([ids]))[0].numpy()
    return logits


def llama_logits(engine: Engine, ids: list[int]) -> npt.NDArray[np.float32]:
    return np.stack([engine.logits(ids[: n + 1]) for n in range(len(ids))])


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def some_ids(shape: ModelShape) -> list[list[int]]:
    rng = np.random.default_rng(11)
    return [rng.integers(0, shape.vocab_size, length).tolist() for length in (48, 32)]


@contextmanager
def both(name: str, path: Path, file_type: FileType) -> Iterator[tuple[Any, Engine, ModelShape]]:
    shape = SHAPES[name]
    model = trained_like(shape)
    file = export(saved(model, shape, path / "step-000250"), path / "model.gguf", file_type, name=name)
    validate(file)
    with Engine.load(file, EXACT) as engine:
        yield model, engine, shape


@pytest.mark.parametrize("name", SHAPES)
def test_the_parameters_are_those_of_the_model(name: str) -> None:
    shape = SHAPES[name]
    ours = {key: tuple(tensor.shape) for key, tensor in build_model(shape).state_dict().items()}
    assert ours == dict(parameter_shapes(shape))
    assert shape.n_parameters == sum(int(np.prod(sizes)) for _, sizes in parameter_shapes(shape))


def half_gelu(x: Any, approximate: str) -> Any:
    """GELU as llama.cpp has it on a CPU: looked up by and as half-precision numbers between -10 and 10."""
    looked_up = EXACT_GELU(x.half().float(), approximate=approximate).half().float()
    return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, looked_up))


@pytest.mark.parametrize("name", SHAPES)
def test_f32_logits_equal_pytorch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with both(name, tmp_path, FileType.F32) as (model, engine, shape):
        assert engine.info.architecture == shape.gguf_architecture
        for ids in some_ids(shape):
            found, exact = llama_logits(engine, ids), torch_logits(model, ids)
            assert exact.std() > 1, "logits this flat would hide a difference"
            with monkeypatch.context() as patch:
                patch.setattr("torch.nn.functional.gelu", half_gelu)
                # Nothing but that table is different, so the layout of every tensor is right.
                assert np.abs(found - torch_logits(model, ids)).max() <= 3e-4
            # The table alone costs gpt2 1.2e-3 where logits spread this far; llama has none.
            limit = 2e-3 if shape.arch is Architecture.GPT2 else 1e-4
            assert np.abs(found - exact).max() <= limit
            p, q = log_softmax(exact), log_softmax(found)
            assert (np.exp(p) * (p - q)).sum(-1).mean() <= 1e-6


@pytest.mark.parametrize("name", [name for name in SHAPES if name.startswith("gpt2")])
def test_f32_logits_of_first_weights_equal_pytorch(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    model = build_model(shape, seed=3).eval()
    file = export(saved(model, shape, tmp_path / "step-000250"), tmp_path / "m.gguf", FileType.F32, name=name)
    with Engine.load(file, EXACT) as engine:
        for ids in some_ids(shape):
            assert np.abs(llama_logits(engine, ids) - torch_logits(model, ids)).max() <= 1e-3


@pytest.mark.parametrize("name", SHAPES)
def test_q8_0_keeps_the_distribution(name: str, tmp_path: Path) -> None:
    divergences = []
    with both(name, tmp_path, FileType.Q8_0) as (model, engine, shape):
        for ids in some_ids(shape):
            p, q = log_softmax(torch_logits(model, ids)), log_softmax(llama_logits(engine, ids))
            divergences.append((np.exp(p) * (p - q)).sum(-1))
    assert 0 < np.concatenate(divergences).mean() <= 1e-3
