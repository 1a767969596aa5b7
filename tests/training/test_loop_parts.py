"""The parts of a training that can be looked at alone: the schedule, the groups, continuations, the run's folder."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from tokenizers import Tokenizer

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tests.training.learning import SHAPE, Recorder, facts_at, text_config  # noqa: E402 (after the check for PyTorch)
from tui_chat.checkpoints.runs import read_progress, trainings_dir  # noqa: E402
from tui_chat.errors import TuiChatError, UsageError  # noqa: E402
from tui_chat.training import device, distributed, events, loop, planning  # noqa: E402
from tui_chat.training.checkpoint import save  # noqa: E402
from tui_chat.training.config import Compile, Device, Precision  # noqa: E402
from tui_chat.training.continuation import continue_texts  # noqa: E402
from tui_chat.training.device import choose_compile, choose_device, choose_precision, free_bytes  # noqa: E402
from tui_chat.training.distributed import Group, OthersEndedError, companions, joined, launched  # noqa: E402
from tui_chat.training.models import Model, build_model  # noqa: E402
from tui_chat.training.optimizer import build_optimizer, learning_rate_at  # noqa: E402
from tui_chat.training.presets import reshaped  # noqa: E402
from tui_chat.training.run_folder import opened  # noqa: E402
from tui_chat.training.train import train  # noqa: E402

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


def test_files_a_container_has_read_do_not_count_as_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:   8000 kB\n")
    for name, text in (("max", "4096000"), ("current", "4000000"), ("stat", "anon 1\ninactive_file 3000000\nslab 2\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    there = {"/proc/meminfo": meminfo, "/sys/fs/cgroup": tmp_path}
    monkeypatch.setattr(device, "Path", there.__getitem__)
    assert free_bytes(CPU) == 4_096_000 - 1_000_000


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


def test_a_process_that_dies_before_it_joins_is_noticed(tmp_path: Path) -> None:
    died = pytest.raises(OthersEndedError, match=r"process 1 .* before its first step \(exit status 1\): try fewer")
    with died, companions(2, os._exit, ()) as look, joined(Group(0, 2), CPU, tmp_path / "meeting", look):
        pass


def write_mask(rank: int, path: Path) -> None:
    """Say in a file which signals this process is deaf to."""
    path.write_text(" ".join(str(int(number)) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())))


def test_ctrl_c_reaches_the_first_process_alone(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with companions(2, write_mask, (tmp_path / "mask",)):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
        (child,) = (child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess"))
        # From its first instruction, long before its imports are done.
        mask = re.findall(r"SigBlk:\t(\w+)", Path(f"/proc/{child.pid}/status").read_text())[0]
        assert int(mask, 16) >> (signal.SIGINT - 1) & 1
        child.join(100)
    assert str(int(signal.SIGINT)) in (tmp_path / "mask").read_text().split()


def test_the_others_end_without_a_word_on_what_is_kept() -> None:
    told = pytest.raises(OthersEndedError, match=r"^another process of the training ended \(no reason given\)$")
    with told, distributed._others_may_end():
        raise RuntimeError
    with pytest.raises(RuntimeError, match="can't allocate"), distributed._others_may_end():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


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


def test_a_moment_s_look_at_the_lock_does_not_refuse_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "run.lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        waits = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if sum(waits) > 0.9:
                fcntl.flock(looking, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", wait)
        with opened(tmp_path, resume=False) as folder:
            assert folder.is_held and len(waits) > 1


def test_a_lock_that_went_while_it_was_waited_for_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, flock = tmp_path / "run", fcntl.flock

    def late(lock: IO[str], kind: int) -> None:
        monkeypatch.undo()
        # The training before it was refused and takes its folder away.
        shutil.rmtree(run)
        flock(lock, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with opened(run, resume=False) as folder:
        assert folder.is_held


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "progress.jsonl").write_text("mine")
    (tmp_path / ".step-backup").mkdir()
    words = "no checkpoint to go on from" if resume else "holds files that are not a training's: give another --out"
    with pytest.raises(UsageError, match=words), opened(tmp_path, resume=resume):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step-backup", "progress.jsonl"]


def test_only_what_a_killed_save_left_is_cleared(tmp_path: Path) -> None:
    for name in (".step-000002.partial", ".step-000002.replaced", ".rows", ".step-backup", ".step-2.partial.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "run.lock").touch()
    with opened(tmp_path, resume=False):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".step-2.partial.old", ".step-backup", "run.lock"]


def test_checkpoints_that_cannot_be_read_are_not_mixed_with_others(tmp_path: Path) -> None:
    (tmp_path / "step-000004").mkdir()
    (tmp_path / "step-000004" / "checkpoint.json").write_text('{"version": 2}')
    (tmp_path / "progress.jsonl").write_text("{}\n")
    (tmp_path / "run.lock").touch()
    with pytest.raises(UsageError, match=r"cannot be read .*format 2 is newer"), opened(tmp_path, resume=False):
        pass
    assert (tmp_path / "progress.jsonl").read_text() == "{}\n"


def test_a_half_written_line_does_not_spoil_the_next(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    shape = replace(SHAPE, vocab_size=512)
    save(tmp_path, build_model(shape), tiny_tokenizer, None, facts_at(1, 3.0, shape=shape))
    (tmp_path / "progress.jsonl").write_text(
        '{"event": "sample", "step": 1, "prompt": "a", "text": "b"}\n{"event": "pro'
    )
    (tmp_path / ".step-000002.partial").mkdir()
    with opened(tmp_path, resume=True) as folder:
        assert folder.start is not None and folder.start.step == 1
        folder.begin()
        folder.append(events.Sampled(2, "c", "d"))
        folder.append(events.Sampled(3, "c", "é\n"))
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


@pytest.mark.parametrize(
    ("place", "name", "step"),
    [
        (planning, "build_model", 0),
        (torch.optim.AdamW, "step", 0),
        (loop.Loop, "validation_loss", 6),
        (loop.Loop, "sample", 6),
    ],
)
def test_memory_may_run_out_anywhere(
    place: object, name: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*arguments: object, **named: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    told = Recorder()
    monkeypatch.setattr(place, name, too_much)
    with pytest.raises(
        TuiChatError, match=r"^out of memory with 8 rows of 32 tokens in a pass: try .*; the(re is no)? "
    ):
        train(text_config(tmp_path), told)
    assert isinstance(told[-1], events.Failed) and told[-1].step == step


def test_what_is_kept_is_said_when_another_process_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: object) -> None:
        raise OthersEndedError("another process of the training ended (closed)")

    monkeypatch.setattr(loop.Loop, "update", gone)
    with pytest.raises(TuiChatError, match=r"ended \(closed\); there is no checkpoint yet$"):
        train(text_config(tmp_path))
    assert read_progress(tmp_path).state == "failed"


def test_a_step_of_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a step would read 100,000,000 rows and there are \d+: give --batch and"):
        train(text_config(tmp_path / "run", batch=10**8))
    assert not (tmp_path / "run").exists()


def test_another_name_is_the_remedy_where_a_training_has_one() -> None:
    run = trainings_dir() / "taken"
    facts = facts_at(3)
    (run / "step-000003").mkdir(parents=True)
    facts.write(run / "step-000003")
    with pytest.raises(UsageError, match=r"up to step 3: go on with --resume, or give another --name$"):
        train(text_config(run))


def test_processes_need_a_row_and_a_core_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="100 processes cannot share the 8 rows of a step: use --processes 8 at most"):
        train(text_config(tmp_path / "none", processes=100))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    told = Recorder()
    train(text_config(tmp_path / "some", processes=8, steps=1), told)
    stage = [event for event in told.of(events.StageBegan) if event.stage == "training"][-1]
    assert stage.facts["processes"] == 1 and "1 process (not 8, as there is 1 core)" in stage.text
