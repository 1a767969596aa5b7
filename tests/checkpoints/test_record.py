"""The record of a training, read while it grows, after it broke off, and after it was taken up again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoints.made import progress_event, write_record
from tui_chat.checkpoints.record import RECORD, RunProgress, Sample, read_record


def read(run: Path, *, running: bool = False) -> RunProgress:
    return read_record(run, running=running)


def sample(step: int, text: str, prompt: str = "The") -> dict[str, Any]:
    return {"event": "sample", "step": step, "prompt": prompt, "text": text}


def test_nothing_yet(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == RunProgress()
    assert read(tmp_path / "none", running=True).state == "running"
    write_record(tmp_path, [])
    assert read(tmp_path) == RunProgress()


def test_a_whole_record(tmp_path: Path) -> None:
    events = [
        {"event": "stage", "stage": "tokenizer", "text": "512 tokens"},
        {"event": "stage", "stage": "model", "text": "1 M parameters"},
        progress_event(10, 3.0, perplexity=20.1, seconds_left=4.0, learning_rate=1e-3, tokens_per_s=100),
        sample(10, " a"),
        progress_event(20, 2.5, validation_loss=2.4),
        {"event": "checkpoint", "step": 20, "path": "/x/step-000020", "best": True},
        sample(20, " b"),
        {"event": "finished", "step": 20, "path": "/x/step-000020"},
    ]
    write_record(tmp_path, events)
    found = read(tmp_path)
    assert found.stages == ("512 tokens", "1 M parameters")
    assert [(p.step, p.train_loss, p.validation_loss) for p in found.progress] == [(10, 3.0, None), (20, 2.5, 2.4)]
    assert found.progress[0].tokens_per_s == 100
    assert found.samples == (Sample(10, "The", " a"), Sample(20, "The", " b"))
    assert (found.state, found.problem) == ("finished", "")
    assert read(tmp_path, running=True).state == "running"


def test_a_half_written_line_is_left_for_later(tmp_path: Path) -> None:
    line = json.dumps(progress_event(20)).encode()
    for cut in range(1, len(line), 5):
        write_record(tmp_path, [progress_event(10)], tail=line[:cut])
        found = read(tmp_path)
        assert [p.step for p in found.progress] == [10]
        assert not found.problem
    write_record(tmp_path, [progress_event(10)], tail=line)
    assert [p.step for p in read(tmp_path).progress] == [10, 20]


def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_record(tmp_path, [progress_event(10), progress_event(20)])
    file = tmp_path / RECORD
    bad = b'\xff\xfe\n[1]\n{"event":"progress","step":15}\n{"event":"progress","step":"x"}\n{}\n' + b"[" * 100_000
    file.write_bytes(file.read_bytes() + bad + b"\n" + json.dumps(progress_event(30)).encode() + b"\n\n")
    found = read(tmp_path)
    assert [p.step for p in found.progress] == [10, 20, 30]
    assert "6 lines" in found.problem


def test_steps_done_again_are_there_once(tmp_path: Path) -> None:
    events = [progress_event(n, 5.0 - n / 100) for n in (10, 20, 30)]
    first = [sample(10, "old"), sample(30, "gone"), {"event": "stage", "stage": "model", "text": "then"}]
    again: list[dict[str, Any]] = [
        {"event": "stage", "stage": "model", "text": "now"},
        progress_event(20, 1.0),
        sample(20, "new"),
    ]
    write_record(tmp_path, [*events, *first, *again, progress_event(30, 0.5)])
    found = read(tmp_path)
    assert [(p.step, p.train_loss) for p in found.progress] == [(10, 4.9), (20, 1.0), (30, 0.5)]
    assert [s.text for s in found.samples] == ["old", "new"]
    assert found.stages == ("now",)


def test_a_failure_and_what_comes_after_it(tmp_path: Path) -> None:
    failed = {"event": "failed", "step": 12, "text": "the loss is not a number at step 12"}
    write_record(tmp_path, [progress_event(10), failed])
    found = read(tmp_path)
    assert (found.state, found.problem) == ("failed", "the loss is not a number at step 12")
    write_record(tmp_path, [progress_event(10), failed, progress_event(11)])
    assert (read(tmp_path).state, read(tmp_path).problem) == ("stopped", "")


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    write_record(tmp_path, [progress_event(1, math.nan), progress_event(2) | {"train_loss": None}])
    assert all(math.isnan(p.train_loss) for p in read(tmp_path).progress)


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORD).mkdir()
    assert RECORD in read(tmp_path).problem


@given(st.binary(max_size=200), st.lists(st.integers(0, 30), max_size=12))
def test_whatever_is_in_it_steps_rise(tmp_path_factory: pytest.TempPathFactory, noise: bytes, steps: list[int]) -> None:
    run = tmp_path_factory.mktemp("run")
    lines = [json.dumps(progress_event(step)).encode() for step in steps]
    (run / RECORD).write_bytes(b"\n".join([*lines[:3], noise, *lines[3:]]) + b"\n")
    found = [p.step for p in read(run).progress]
    assert found == sorted(set(found))
    assert not steps or found[-1] == steps[-1]
