"""The parts of a training that can be looked at alone: the schedule, the groups, continuations, the run's folder."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tests.training.learning import SHAPE, facts_at, text_config  # noqa: E402 (after the check for PyTorch)
from tui_chat.checkpoints.runs import read_progress  # noqa: E402
from tui_chat.errors import UsageError  # noqa: E402
from tui_chat.training.checkpoint import save  # noqa: E402
from tui_chat.training.config import Compile, Device, Precision  # noqa: E402
from tui_chat.training.continuation import continue_texts  # noqa: E402
from tui_chat.training.device import choose_compile, choose_device, choose_precision, free_bytes  # noqa: E402
from tui_chat.training.distributed import Group, launched  # noqa: E402
from tui_chat.training.events import Sampled  # noqa: E402
from tui_chat.training.models import Model, build_model  # noqa: E402
from tui_chat.training.optimizer import build_optimizer, learning_rate_at  # noqa: E402
from tui_chat.training.presets import reshaped  # noqa: E402
from tui_chat.training.run_folder import opened  # noqa: E402

CPU = torch.device("cpu")


def test_learning_rate_rises_then_falls() -> None:
    config = text_config(Path(), warmup_steps=10, learning_rate=1.0, final_share=0.1)
    rates = [learning_rate_at(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    # The rise takes at most half of a short training.
    assert learning_rate_at(config, 2, 6) == pytest.approx(1.0)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_only_matrices_decay(arch: str) -> None:
    model = build_model(replace(reshaped(SHAPE, arch=arch), tied=False))
    decaying, others = build_optimizer(model, text_config(Path(), weight_decay=0.2)).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.2, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[1] for p in decaying["params"]} == {"weight"}
    assert any(names[id(p)] == "head.weight" for p in decaying["params"])
    assert all(p.dim() == 1 or names[id(p)].startswith(("embedding", "positions")) for p in others["params"])
    assert len(decaying["params"]) + len(others["params"]) == len(names)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_continuations_are_the_likeliest_tokens(arch: str, tiny_tokenizer: Tokenizer) -> None:
    shape = reshaped(replace(SHAPE, vocab_size=512), arch=arch)
    model: Model = build_model(shape, seed=3, dropout=0.5)
    prompts = ["What is a token?", "Hi", "", "What is a token?"]
    written = continue_texts(model, tiny_tokenizer, prompts, 6)
    assert model.training
    model.eval()
    for prompt, continuation in zip(prompts, written, strict=True):
        ids = tiny_tokenizer.encode(prompt, add_special_tokens=False).ids or [0]
        begin = len(ids)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        assert continuation.text == tiny_tokenizer.decode(ids[begin:]) or continuation.stopped
    drawn = [continue_texts(model, tiny_tokenizer, prompts, 6, temperature=1.0, seed=s) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_continuations_end_with_the_context(tiny_tokenizer: Tokenizer) -> None:
    model = build_model(replace(reshaped(SHAPE, arch="gpt2"), vocab_size=512, context=16))
    prompt = "Tell me a very long story about a small boat and the sea, and then another one about a stone."
    assert len(tiny_tokenizer.encode(prompt).ids) > 16
    (continuation,) = continue_texts(model, tiny_tokenizer, [prompt], 100)
    assert len(tiny_tokenizer.encode(continuation.text).ids) <= 17


def test_devices() -> None:
    assert choose_device(Device.CPU) == CPU
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device that PyTorch can use here: use --device cpu"):
            choose_device(Device.CUDA)
    assert 1 << 20 < free_bytes(CPU) < 1 << 50


def test_precision_is_low_only_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision(Precision.BFLOAT16, CPU) is Precision.BFLOAT16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    assert choose_precision(Precision.AUTO, CPU) is Precision.FLOAT32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert choose_precision(Precision.AUTO, CPU) is Precision.BFLOAT16
    assert choose_precision(Precision.FLOAT32, CPU) is Precision.FLOAT32


def test_compiling_must_be_possible_and_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    assert choose_compile(Compile.AUTO, CPU, 1e15) and not choose_compile(Compile.AUTO, CPU, 1e12)
    assert choose_compile(Compile.ON, CPU, 1.0) and not choose_compile(Compile.OFF, CPU, 1e18)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not choose_compile(Compile.AUTO, CPU, 1e15)


def test_rows_are_shared_out_without_loss() -> None:
    rows = np.arange(11)
    shares = [Group(rank, 3).share(rows) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(rows) and max(map(len, shares)) <= 4


def test_torchrun_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="start with torchrun"):
        launched()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched() == Group(3, 4, 1)


def test_a_run_is_written_to_once_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = pytest.raises(UsageError, match=r"a training runs in .* already")
    with opened(run, resume=False), refused, opened(run, resume=False):
        pass
    assert not run.exists()
    run.mkdir()
    with (run / "run.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="wait until it ends"), opened(run, resume=False):
            pass


def test_a_half_written_line_does_not_spoil_the_next(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    shape = replace(SHAPE, vocab_size=512)
    save(tmp_path, build_model(shape), tiny_tokenizer, None, facts_at(1, 3.0, shape=shape))
    (tmp_path / "progress.jsonl").write_text(
        '{"event": "sample", "step": 1, "prompt": "a", "text": "b"}\n{"event": "pro'
    )
    (tmp_path / ".step-000002.partial").mkdir()
    with opened(tmp_path, resume=True) as folder:
        assert folder.start is not None and folder.start.step == 1
        folder.append(Sampled(2, "c", "d"))
        folder.append(Sampled(3, "c", "é\n"))
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert len(lines) == 4 and json.loads(lines[3])["text"] == "é\n"
    assert [sample.step for sample in read_progress(tmp_path).samples] == [1, 2, 3]
    assert not list(tmp_path.glob(".*"))


def test_going_on_needs_a_checkpoint_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no checkpoint to go on from"), opened(tmp_path, resume=True):
        pass
    (tmp_path / "step-000004").mkdir()
    (tmp_path / "step-000004" / "checkpoint.json").write_text("{")
    refused = pytest.raises(UsageError, match=r"no checkpoint that can be read \(.*cannot be read")
    with refused, opened(tmp_path, resume=True):
        pass
