"""llama.cpp must compute what PyTorch computes, for a model of the moment and for the one that ships."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("safetensors", reason="needs the extra `train`")

from tests.training.conftest import SHIPPED_CHECKPOINT  # noqa: E402 (after the check for PyTorch)
from tui_chat.engine.engine import Engine  # noqa: E402
from tui_chat.engine.gguf import validate  # noqa: E402
from tui_chat.engine.types import LoadOptions  # noqa: E402
from tui_chat.models.resolve import builtin_path  # noqa: E402
from tui_chat.training.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from tui_chat.training.dialogue import CHAT_TEMPLATE, Dialogue  # noqa: E402
from tui_chat.training.export import FileType, export  # noqa: E402
from tui_chat.training.model import ModelConfig  # noqa: E402
from tui_chat.training.train import TrainConfig, train  # noqa: E402

EXACT = LoadOptions(n_ctx=512, n_threads=1, type_k="f32", type_v="f32", flash_attn="off")
"""A half-precision cache alone costs more than the tolerance."""


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train(
        TrainConfig(
            out=tmp_path_factory.mktemp("tiny"),
            model=ModelConfig(vocab_size=400, width=64, n_layers=2, n_heads=2, ffn_width=96, context=512),
            n_dialogues=800,
            n_validation=20,
            n_steps=30,
            batch_tokens=512,
            length=128,
            long_length=256,
            warmup_steps=5,
            learning_rate=1e-2,
            bf16=False,
            compile=False,
            n_threads=1,
        )
    )


@pytest.fixture(scope="module")
def shipped_checkpoint() -> Checkpoint:
    return load_checkpoint(SHIPPED_CHECKPOINT)


def torch_logits(checkpoint: Checkpoint, ids: list[int]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = checkpoint.model()(torch.tensor([ids]))[0].numpy()
    return logits


def llama_logits(engine: Engine, ids: list[int]) -> npt.NDArray[np.float32]:
    return np.stack([engine.logits(ids[: n + 1]) for n in range(len(ids))])


def sample_ids(checkpoint: Checkpoint, dialogues: list[Dialogue], count: int) -> list[list[int]]:
    tokenizer = checkpoint.tokenizer()
    encoded = (tokenizer.encode(d.text, add_special_tokens=False).ids for d in dialogues)
    return [ids for ids in encoded if 20 < len(ids) < 400][:count]


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


@pytest.mark.parametrize("which", ["tiny_checkpoint", "shipped_checkpoint"])
def test_f32_logits_equal_pytorch(
    which: str, request: pytest.FixtureRequest, dialogues: list[Dialogue], tmp_path: Path
) -> None:
    checkpoint: Checkpoint = request.getfixturevalue(which)
    path = export(checkpoint, tmp_path / "model.gguf", FileType.F32)
    validate(path)
    with Engine.load(path, EXACT) as engine:
        for ids in sample_ids(checkpoint, dialogues, 6):
            difference = np.abs(llama_logits(engine, ids) - torch_logits(checkpoint, ids))
            assert difference.max() <= 1e-3


def test_shipped_file_agrees_with_the_trained_weights(
    shipped_checkpoint: Checkpoint, dialogues: list[Dialogue]
) -> None:
    same_best, divergences = [], []
    with Engine.load(builtin_path(), EXACT) as engine:
        for ids in sample_ids(shipped_checkpoint, dialogues, 16):
            ours, theirs = torch_logits(shipped_checkpoint, ids), llama_logits(engine, ids)
            same_best.append(ours.argmax(-1) == theirs.argmax(-1))
            p, q = log_softmax(ours), log_softmax(theirs)
            divergences.append((np.exp(p) * (p - q)).sum(-1))
    assert np.concatenate(same_best).mean() >= 0.99
    assert np.concatenate(divergences).mean() <= 1e-3


@pytest.mark.parametrize("file_type", list(FileType))
def test_every_type_loads_and_says_what_it_is(file_type: FileType, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = export(tiny_checkpoint, tmp_path / "model.gguf", file_type, name="tiny")
    progress = tiny_checkpoint.progress
    with Engine.load(path, EXACT) as engine:
        info = engine.info
        assert info.name == "tiny" and info.architecture == "qwen3"
        assert info.n_params == tiny_checkpoint.model().n_parameters
        assert (info.n_embd, info.n_layer, info.n_head, info.n_ctx_train) == (64, 2, 2, 512)
        assert (info.bos_token, info.eos_token) == ("<|endoftext|>", "<|im_end|>")
        assert not engine.vocab.add_bos
        assert {engine.vocab.find("<|im_end|>"), engine.vocab.find("<|endoftext|>")} <= info.eog_ids
        assert info.chat_template == CHAT_TEMPLATE
        facts = info.metadata
    assert facts["tui_chat.training.steps"] == str(progress.step)
    assert facts["tui_chat.training.tokens"] == str(progress.n_tokens)
    assert facts["tui_chat.training.corpus_sha256"] == tiny_checkpoint.corpus_sha256
    assert facts["tui_chat.training.longest_row"] == "256"
    assert progress.validation_loss is not None
    perplexity = float(facts["tui_chat.training.validation_perplexity"])
    assert perplexity == pytest.approx(math.exp(progress.validation_loss), rel=1e-4)


def test_a_broken_export_leaves_the_old_file(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", fail)
    with pytest.raises(OSError, match="disk full"):
        export(tiny_checkpoint, path, FileType.F16)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


def test_shipped_files_belong_together(shipped_checkpoint: Checkpoint, pocket: Engine) -> None:
    assert builtin_path().stat().st_size < 8_000_000
    assert pocket.info.metadata["tui_chat.training.steps"] == str(shipped_checkpoint.progress.step)
    assert pocket.info.metadata["tui_chat.training.corpus_sha256"] == shipped_checkpoint.corpus_sha256
    assert pocket.info.name == "pocket" and pocket.info.n_ctx_train == 2048
    shipped_tokenizer = builtin_path().with_name("tokenizer.json").read_text(encoding="utf-8")
    assert shipped_tokenizer == (SHIPPED_CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8")


def test_shipped_model_runs_to_the_end_of_its_context() -> None:
    with Engine.load(builtin_path(), LoadOptions(n_ctx=2048, n_threads=1)) as engine:
        ids = (engine.vocab.tokenize("A token is a small piece of text. ") * 300)[:2047]
        assert np.isfinite(engine.logits(ids)).all()
