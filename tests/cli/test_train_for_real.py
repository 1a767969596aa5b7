"""`tui-chat train` with the loop itself: a small model learns for some steps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.told import LINE
from tui_chat.checkpoints.runs import trainings_dir
from tui_chat.cli.program import run

pytest.importorskip("torch", reason="needs the extra `train`")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A real training of some steps in a process of its own: its folder and its JSON lines."""
    out = tmp_path_factory.mktemp("trained") / "small"
    return out, lines_of(train_in_process("--out", str(out), "--steps", "12"))


def train_in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    small = "--preset tiny --validate-every 6 --checkpoint-every 6 --sample-every 6 --report-every 2 --threads 1"
    return subprocess.run(
        [sys.executable, "-m", "tui_chat", "train", *small.split(), "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def lines_of(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert (result.returncode, result.stderr) == (0, "")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    for document in documents:
        jsonschema.validate(document, LINE)
    return documents


def test_ctrl_c_while_the_other_process_starts_ends_all_at_once(tmp_path: Path) -> None:
    arguments = "--preset tiny --processes 2 --device cpu --json --steps 100000 --out"
    training = subprocess.Popen(
        [sys.executable, "-m", "tui_chat", "train", *arguments.split(), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert training.stdout is not None
    try:
        next(line for line in training.stdout if '"stage": "training"' in line)
        wait_for(lambda: any("spawn_main" in command for command in commands_of_group(training.pid)))
        os.killpg(training.pid, signal.SIGINT)
        out, err = training.communicate(timeout=100)
    finally:
        training.kill()
    assert (training.returncode, err) == (130, "tui-chat: error: stopped before the first step\n")
    assert json.loads(out.splitlines()[-1])["state"] == "stopped"
    wait_for(lambda: not list(commands_of_group(training.pid)))


def commands_of_group(group: int) -> Iterator[str]:
    """Command lines of the processes of a process group."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(folder.name)) == group:
                yield (folder / "cmdline").read_text()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class TestForReal:
    """With the loop itself."""

    def test_every_stage_is_told_and_the_record_holds_the_same_lines(
        self, learnt: tuple[Path, list[dict[str, Any]]]
    ) -> None:
        out, lines = learnt
        stages = [line["stage"] for line in lines if line["event"] == "stage"]
        assert list(dict.fromkeys(stages)) == ["corpus", "tokenizer", "data", "model", "training", "generation"]
        assert [line["step"] for line in lines if line["event"] == "progress"] == [2, 4, 6, 8, 10, 12]
        assert {line["step"] for line in lines if line["event"] == "sample"} >= {6, 12}
        assert lines[-1]["state"] == "finished" and lines[-1]["step"] == 12
        assert lines[-1]["n_parameters"] > 10_000
        record = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
        assert record == lines[1:-1]  # "reading" came before the run's folder was opened

    def test_it_is_listed_described_and_exported(
        self, learnt: tuple[Path, list[dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, lines = learnt
        trainings_dir().mkdir(parents=True)
        shutil.copytree(out, trainings_dir() / "small")
        assert run(["list", "--json", "--latest"]) == 0
        (training,) = json.loads(capsys.readouterr().out)["trainings"]
        assert training["checkpoints"][0]["spec"] == "small/step-000012"
        assert run(["info", "small", "--json"]) == 0
        training = json.loads(capsys.readouterr().out)["training"]
        assert training["loss"] == lines[-1]["loss"]
        assert training["preset"] == "tiny"
        target = tmp_path / "small.gguf"
        assert run(["export", "small", "--out", str(target)]) == 0
        capsys.readouterr()
        assert run(["generate", "--model", str(target), "--raw", "Old Piet", "--max-tokens", "3", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["usage"]["generated"] <= 3

    def test_it_goes_on(self, learnt: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
        shutil.copytree(learnt[0], tmp_path / "again")
        arguments = ("--resume", "--out", str(tmp_path / "again"), "--steps", "14")
        lines = lines_of(train_in_process(*arguments))
        assert [line["step"] for line in lines if line["event"] == "progress"] == [14]
        assert (lines[-1]["state"], lines[-1]["step"]) == ("finished", 14)
        refused = train_in_process("--out", str(tmp_path / "again"))
        assert refused.returncode == 2
        assert "go on with --resume" in refused.stderr and refused.stderr.count("\n") == 1
