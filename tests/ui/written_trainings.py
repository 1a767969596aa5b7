"""Runs as a training leaves them on disk, written by hand: the same figures every time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tui_chat.checkpoints.facts import CheckpointFacts, Progress
from tui_chat.checkpoints.record import RECORD
from tui_chat.checkpoints.runs import LOCK, trainings_dir
from tui_chat.checkpoints.shape import ModelShape

SHAPE = ModelShape(vocab_size=64, width=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_width=32, context=64)

PROMPTS = ("The miller of Alder Bridge", "Every morning the bell")

TEXTS = (
    (" the the a of of and the the", " , . the the , and a a the"),
    (" went to the bridge and the mill was of the", " rang and the children the water"),
    (" went down to the river to look at the wheel.", " rang over the river and the ducks woke up."),
    (" got up before the sun and went down to the river.", " rang seven times, and the whole village got up."),
)
"""What the model wrote at each quarter of the way."""


def progress_at(step: int, n_steps: int, *, measured: bool) -> Progress:
    """A report whose figures follow from the step alone."""
    loss = 1.1 + 3.1 * math.exp(-4 * step / n_steps) + 0.06 * math.sin(step * 1.7)
    return Progress(
        step=step,
        n_steps=n_steps,
        n_tokens=step * 2048,
        train_loss=loss,
        validation_loss=round(loss + 0.12 + 0.3 * (step / n_steps) ** 2, 4) if measured else None,
        learning_rate=3e-3 * 0.5 * (1 + math.cos(math.pi * step / n_steps)),
        gradient_norm=0.4 + 1.2 * math.exp(-5 * step / n_steps),
        tokens_per_s=11_840.0,
        seconds=step * 0.16,
    )


def write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Appends events to the record of a run."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / RECORD).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def progress_line(progress: Progress) -> dict[str, Any]:
    """The event of a report."""
    values = {name: getattr(progress, name) for name in Progress.__dataclass_fields__}
    return {"event": "progress", **values, "perplexity": progress.perplexity, "seconds_left": progress.seconds_left}


def sample_line(step: int, prompt: str, text: str) -> dict[str, Any]:
    """The event of a sample."""
    return {"event": "sample", "step": step, "prompt": prompt, "text": text}


def write_facts(run: Path, progress: Progress) -> None:
    """A checkpoint of which only the facts are there."""
    folder = run / f"step-{progress.step:06d}"
    folder.mkdir(parents=True)
    CheckpointFacts(path=folder, shape=SHAPE, progress=progress, corpus="demo.txt").write(folder)


def write_run(
    name: str,
    *,
    upto: int = 800,
    n_steps: int = 1000,
    every: int = 10,
    ended: str | None = None,
    written: int = 1_700_000_000,
    checkpoints: bool = True,
    directory: Path | None = None,
) -> Path:
    """A run that has come to step `upto`.

    Args:
        name: What it is called.
        upto: Its last report.
        n_steps: Steps in all.
        every: Steps between two reports; every fifth report has a validation loss.
        ended: "finished" or "failed"; None leaves it without an end.
        written: When it wrote last, in seconds since 1970.
        checkpoints: Whether the two last quarters were saved.
        directory: Where runs lie.
    """
    run = (directory or trainings_dir()) / name
    lines: list[dict[str, Any]] = [{"event": "stage", "stage": "training", "text": "training on 4,096 tokens"}]
    for step in range(every, upto + 1, every):
        lines.append(progress_line(progress_at(step, n_steps, measured=step % (5 * every) == 0)))
        quarter, rest = divmod(step * 4, n_steps)
        if rest == 0:
            lines += [sample_line(step, prompt, TEXTS[quarter - 1][place]) for place, prompt in enumerate(PROMPTS)]
            if checkpoints and quarter >= 2:
                write_facts(run, progress_at(step, n_steps, measured=True))
    if ended == "failed":
        lines.append({"event": "failed", "step": upto, "text": "the loss is not a number: try --lr 1e-3"})
    elif ended == "finished":
        lines.append({"event": "finished", "step": upto, "path": str(run)})
    write_lines(run, lines)
    (run / LOCK).touch()
    for path in (*run.rglob("*.json"), run / RECORD):
        os.utime(path, (written, written))
    return run
