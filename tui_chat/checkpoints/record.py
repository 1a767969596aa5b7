"""The record of a training, `progress.jsonl`: one JSON object a line, read while it is still being written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tui_chat.checkpoints.facts import Progress, whole

RECORD = "progress.jsonl"
"""Name of the record in a run's folder. A training that is resumed appends to it."""

State = Literal["running", "finished", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model wrote after a fixed prompt, at one moment of its training."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class RunProgress:
    """What a record tells. Steps that a resumed training did again are there once, as they were done last."""

    stages: tuple[str, ...] = ()
    """What the training said of each of its stages, in order."""
    progress: tuple[Progress, ...] = ()
    """Steps rise."""
    samples: tuple[Sample, ...] = ()
    """Steps do not fall."""
    state: State = "stopped"
    """"stopped" is neither running, nor finished, nor failed: interrupted or killed."""
    problem: str = ""
    """Why it failed, or what of the record cannot be read."""


def read_record(run_path: Path, *, running: bool) -> RunProgress:
    """The record in a run's folder; an empty one where nothing is written yet.

    Args:
        run_path: The folder.
        running: Whether the training runs still.
    """
    reader = _Reader()
    unreadable = ""
    try:
        for line in _whole_lines((run_path / RECORD).read_bytes()):
            reader.take(line)
    except FileNotFoundError:
        pass
    except OSError as error:
        unreadable = f"{run_path / RECORD} cannot be read: {error.strerror or error}"
    return reader.result(running, unreadable)


def _whole_lines(data: bytes) -> Iterator[dict[str, Any] | None]:
    """Each line as an object; None for one that is damaged. A last line without its end may still grow."""
    *lines, tail = data.split(b"\n")
    for line in lines:
        if line.strip():
            yield _object(line)
    last = _object(tail)
    if last is not None:
        yield last


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


class _Reader:
    """Takes the lines of a record in order."""

    def __init__(self) -> None:
        self.stages: dict[str, str] = {}
        self.progress: list[Progress] = []
        self.samples: list[Sample] = []
        self.ended: Literal["finished", "failed", "stopped"] = "stopped"
        self.failure = ""
        self.n_damaged = 0

    def take(self, values: dict[str, Any] | None) -> None:
        try:
            self._take(values or {})
        except (KeyError, TypeError, ValueError, OverflowError):
            self.n_damaged += 1

    def _take(self, values: dict[str, Any]) -> None:
        event = values["event"]
        match event:
            case "stage":
                self.stages[str(values["stage"])] = str(values["text"])
            case "progress":
                progress = _progress(values)
                self.progress = _before(self.progress, progress.step)
                self.progress.append(progress)
            case "sample":
                sample = Sample(whole(values["step"]), str(values["prompt"]), str(values["text"]))
                self.samples = _up_to(self.samples, sample)
                self.samples.append(sample)
            case "failed":
                self.failure = str(values["text"])
        # Whatever follows an end belongs to a training that was taken up again.
        self.ended = event if event in ("finished", "failed") else "stopped"

    def result(self, running: bool, unreadable: str) -> RunProgress:
        problems = [unreadable] if unreadable else []
        if self.ended == "failed" and not running:
            problems.append(self.failure)
        if self.n_damaged:
            lines = "1 line" if self.n_damaged == 1 else f"{self.n_damaged} lines"
            problems.append(f"{lines} of {RECORD} cannot be read")
        return RunProgress(
            stages=tuple(self.stages.values()),
            progress=tuple(self.progress),
            samples=tuple(self.samples),
            state="running" if running else self.ended,
            problem="; ".join(problems),
        )


def _before(progress: list[Progress], step: int) -> list[Progress]:
    while progress and progress[-1].step >= step:
        progress.pop()
    return progress


def _up_to(samples: list[Sample], new: Sample) -> list[Sample]:
    """The samples without those of later steps, and without an earlier one of the same step and prompt."""
    while samples and samples[-1].step > new.step:
        samples.pop()
    return [old for old in samples if (old.step, old.prompt) != (new.step, new.prompt)]


_WHOLE = {"step", "n_steps", "n_tokens"}


def _progress(values: dict[str, Any]) -> Progress:
    found: dict[str, Any] = {}
    for field in fields(Progress):
        if field.name not in values:
            continue
        value = values[field.name]
        if field.name in _WHOLE:
            found[field.name] = whole(value)
        elif field.name == "validation_loss" and value is None:
            found[field.name] = None
        else:
            # JSON has no word for what is not a number.
            found[field.name] = math.nan if value is None else float(value)
    return Progress(**found)
