"""Runs on disk: found, named, running or not, whatever state their folders are in."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkpoints.made import make_checkpoint, progress_event, write_record
from tui_chat import paths
from tui_chat.checkpoints.facts import FACTS, WEIGHTS
from tui_chat.checkpoints.runs import (
    LOCK,
    Run,
    find_checkpoint,
    is_running,
    list_runs,
    near_runs,
    read_progress,
    run_name,
    seek_checkpoint,
    trainings_dir,
)
from tui_chat.errors import ModelNotFoundError, UsageError


@pytest.fixture
def runs() -> Path:
    """Two runs in the usual place: "demo" with three checkpoints, then "a story" with one."""
    demo = trainings_dir() / "demo"
    for step, loss in ((250, 2.0), (500, 1.5), (750, 1.7)):
        age(make_checkpoint(demo / f"step-{step:06d}", step=step, validation_loss=loss).path, 1_000 + step)
    story = trainings_dir() / "a story"
    age(make_checkpoint(story / "step-000100", step=100, validation_loss=3.0, kind="text").path, 5_000)
    return trainings_dir()


def age(path: Path, seconds: int) -> None:
    os.utime(path / FACTS, (seconds, seconds))


@contextmanager
def another_process_training(run: Path) -> Iterator[None]:
    """Holds the lock as a training does, in another process; its end is waited for."""
    run.mkdir(parents=True, exist_ok=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
    command = [sys.executable, "-c", f"{code}; sys.stdin.read()", str(run / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate("", timeout=60)


def names(found: tuple[Run, ...]) -> list[str]:
    return [run.name for run in found]


def message(text: str, directory: Path | None = None) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        find_checkpoint(text, directory)
    return str(caught.value)


def test_no_directory_no_runs(home: Path) -> None:
    assert list_runs() == ()
    assert not home.exists()
    for text in ("latest", "best", "demo"):
        assert "tui-chat train" in message(text)


def test_runs_are_listed_newest_last(runs: Path) -> None:
    found = list_runs()
    assert names(found) == ["demo", "a story"]
    assert [facts.step for facts in found[0].checkpoints] == [250, 500, 750]
    assert found[0].latest is not None and found[0].latest.step == 750
    assert found[0].best is not None and found[0].best.step == 500
    write_record(runs / "demo", [progress_event(800)])
    assert names(list_runs()) == ["a story", "demo"]
    assert all(not run.problem for run in found)
    assert trainings_dir().parent == paths.data_dir()


@pytest.mark.parametrize(
    ("text", "run", "step"),
    [
        ("latest", "a story", 100),
        ("BEST", "demo", 500),
        (" demo ", "demo", 750),
        ("demo/latest", "demo", 750),
        ("demo/best", "demo", 500),
        ("demo/step-250", "demo", 250),
        ("demo/step-000250", "demo", 250),
        ("demo/250", "demo", 250),
        ("a story", "a story", 100),
        ("a story/best", "a story", 100),
        ("demo/", "demo", 750),
    ],
)
def test_names(runs: Path, text: str, run: str, step: int) -> None:
    facts = find_checkpoint(text)
    assert (facts.path.parent.name, facts.step) == (run, step)
    assert run_name(facts.path) == run


def test_paths(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "else where"
    for step in (10, 20):
        make_checkpoint(elsewhere / f"step-{step:06d}", step=step, validation_loss=float(step))
    assert find_checkpoint(str(elsewhere)).step == 20
    assert find_checkpoint(str(elsewhere / "step-000010")).step == 10
    assert find_checkpoint(f"{elsewhere}/best").step == 10
    assert find_checkpoint(f"{elsewhere}/10").step == 10
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("else where/step-000010").step == 10
    # A folder of that name that no training wrote does not hide a run.
    (tmp_path / "demo").mkdir()
    assert find_checkpoint("demo").step == 750
    alone = make_checkpoint(tmp_path / "kept").path
    assert find_checkpoint(str(alone)).step == 250
    assert run_name(alone) == "kept"


def test_another_directory(runs: Path, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "mine" / "r" / "step-000003", step=3)
    assert find_checkpoint("latest", tmp_path / "mine").step == 3
    assert find_checkpoint("r", tmp_path / "mine").step == 3
    assert "r" in message("demo", tmp_path / "mine")


def test_what_is_not_there_is_named_with_what_is(runs: Path) -> None:
    assert "near it: demo" in message("dmeo")
    assert near_runs("DEM") == ["demo"]
    assert "there are: a story, demo" in message("zzz") or "there are: demo, a story" in message("zzz")
    words = message("demo/step-999")
    assert "250, 500, 750" in words and "demo/best" in words
    assert "250, 500, 750" in message("demo/nonsense")


@pytest.mark.parametrize("text", ["", "  ", "\0", "owner/name:file.gguf", "zzz", "zzz/best", "x" * 5000, "~nobody/x"])
def test_other_texts_may_mean_something_else(runs: Path, text: str) -> None:
    assert seek_checkpoint(text) is None


def test_a_validation_loss_beats_a_training_loss(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "r" / "step-000001", step=1, train_loss=0.5, validation_loss=None)
    make_checkpoint(tmp_path / "r" / "step-000002", step=2, train_loss=1.0, validation_loss=4.0)
    assert find_checkpoint("r/best", tmp_path).step == 2


def test_a_loss_that_is_no_number_is_the_worst(tmp_path: Path) -> None:
    for step, loss in ((1, math.nan), (2, 4.0), (3, math.inf), (4, 5.0)):
        make_checkpoint(tmp_path / "r" / f"step-{step:06d}", step=step, validation_loss=loss)
    make_checkpoint(tmp_path / "a" / "step-000001", step=1, validation_loss=math.nan)
    assert find_checkpoint("r/best", tmp_path).step == find_checkpoint("best", tmp_path).step == 2
    assert find_checkpoint("a/best", tmp_path).step == 1


def test_a_save_broken_off_is_no_checkpoint(runs: Path) -> None:
    partial = make_checkpoint(runs / "demo" / ".step-001000.partial", step=1000).path
    (partial / WEIGHTS).write_bytes(b"half")
    make_checkpoint(runs / "demo" / "step-002000.partial", step=2000)
    assert find_checkpoint("demo").step == 750
    assert not list_runs()[0].problem
    only = runs / "killed" / ".step-000001.partial"
    only.mkdir(parents=True)
    assert "killed" not in names(list_runs())


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "half", "newer", "list", "shape", "binary", "deep", "step", "loss", "flag", "rows", "text"],
)
def test_damaged_facts_are_reported_and_passed_over(runs: Path, damage: str) -> None:
    file = runs / "demo" / "step-000750" / FACTS
    text = file.read_text(encoding="utf-8")
    match damage:
        case "missing":
            file.unlink()
        case "empty":
            file.write_text("")
        case "half":
            file.write_text(text[: len(text) // 2])
        case "newer":
            file.write_text(text.replace('"version": 1', '"version": 2'))
        case "list":
            file.write_text("[]")
        case "shape":
            file.write_text(text.replace('"width": 64', '"width": 65'))
        case "binary":
            file.write_bytes(b"\xff\xfe\0")
        case "deep":
            file.write_text("[" * 100_000)
        case "step":
            file.write_text(text.replace('"step": 750', '"step": null'))
        case "loss":
            file.write_text(text.replace('"validation_loss": 1.7', '"validation_loss": "low"'))
        case "flag":
            file.write_text(text.replace('"n_layers": 2', '"n_layers": true'))
        case "rows":
            file.write_text(text.replace('"row_lengths": []', '"row_lengths": [null]'))
        case "text":
            file.write_text(text.replace('"created": ""', '"created": 5'))
    run = next(run for run in list_runs() if run.name == "demo")
    assert [facts.step for facts in run.checkpoints] == [250, 500]
    assert "step-000750" in run.problem
    assert find_checkpoint("demo").step == 500
    with pytest.raises(UsageError, match="step-000750"):
        find_checkpoint("demo/750")


def test_a_run_without_a_checkpoint_yet(runs: Path) -> None:
    write_record(runs / "young", [progress_event(5)])
    assert names(list_runs())[-1] == "young"
    assert list_runs()[-1].latest is None and list_runs()[-1].best is None
    assert "no checkpoint yet" in message("young")
    assert find_checkpoint("latest").path.parent.name == "a story"
    with another_process_training(runs / "young"):
        assert "wait" in message("young")


def test_two_runs_of_which_one_is_running(runs: Path) -> None:
    for name in ("demo", "a story"):
        (runs / name / LOCK).touch()
        write_record(runs / name, [progress_event(5)])
    with another_process_training(runs / "a story"):
        assert is_running(runs / "a story")
        assert not is_running(runs / "demo")
        assert read_progress(runs / "a story").state == "running"
        assert read_progress(runs / "demo").state == "stopped"
    assert not is_running(runs / "a story")
    assert read_progress(runs / "a story").state == "stopped"


def test_asking_whether_it_runs_leaves_nothing_behind(runs: Path) -> None:
    assert not is_running(runs / "demo")
    assert not is_running(runs / "none")
    assert not (runs / "demo" / LOCK).exists()
