"""Trainings on disk, made without training: weights of noise and a vocabulary of a few merges."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS, CheckpointFacts, Progress
from tui_chat.checkpoints.runs import trainings_dir
from tui_chat.checkpoints.shape import ModelShape
from tui_chat.checkpoints.tensors import parameter_shapes
from tui_chat.training.tokenizer import train_tokenizer

SHAPE = ModelShape(vocab_size=270, width=32, n_layers=2, n_heads=2, n_kv_heads=2, ffn_width=64, context=64)

FIRST_SAVED_S = 1_800_000_000
"""Time of the first checkpoint's files; later steps are a second later each."""


def tokenizer() -> Tokenizer:
    return train_tokenizer(["the sea and the boat and the bread of the village"] * 4, SHAPE.vocab_size)


def make_checkpoint(
    run: str,
    step: int,
    *,
    loss: float = 2.0,
    shape: ModelShape = SHAPE,
    saved_s: int = 0,
    kind: str = "text",
    settings: Mapping[str, Any] | None = None,
) -> CheckpointFacts:
    """A checkpoint in the run's folder, as a training would have left it.

    Args:
        run: Name of the run.
        step: Of the checkpoint, out of 1,000.
        loss: On validation texts; the training loss is a tenth lower.
        shape: Sizes of the model.
        saved_s: Seconds after the first; the step by default.
        kind: "text" or "chat".
        settings: Of the training.
    """
    path = trainings_dir() / run / f"step-{step:06d}"
    path.mkdir(parents=True)
    rng = np.random.default_rng(step)
    weights = {name: rng.normal(0, 0.2, size).astype(np.float32) for name, size in parameter_shapes(shape)}
    save_file(weights, path / WEIGHTS)
    tokenizer().save(str(path / TOKENIZER))
    progress = Progress(
        step=step,
        n_steps=1000,
        n_tokens=step * 512,
        train_loss=loss - 0.1,
        validation_loss=loss,
        learning_rate=1e-3,
        gradient_norm=0.5,
        tokens_per_s=1000.0,
        seconds=step * 0.5,
    )
    facts = CheckpointFacts(
        path=path,
        shape=shape,
        progress=progress,
        best_validation_loss=loss,
        seed=7,
        corpus="texts/harbour.txt",
        corpus_sha256="ab" * 32,
        kind=kind,
        row_lengths=(64,),
        created="2026-05-04T10:20:30+00:00",
        settings=settings or {"batch": 8},
    )
    facts.write(path)
    for file in path.iterdir():
        os.utime(file, (FIRST_SAVED_S + (saved_s or step),) * 2)
    return facts
