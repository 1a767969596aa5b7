"""Checkpoints: a directory with the weights, the tokenizer, the state of the optimizer and a JSON file of facts.

A checkpoint is written beside its place and renamed into it: a process killed in the middle of that leaves the one
before whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tui_chat.errors import UsageError
from tui_chat.training.model import Decoder, ModelConfig
from tui_chat.training.tokenizer import load_tokenizer

WEIGHTS, TOKENIZER, OPTIMIZER, META = "model.safetensors", "tokenizer.json", "optimizer.pt", "checkpoint.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is and how well it does. Losses are nats a token."""

    step: int
    n_steps: int
    n_tokens: int
    """Predicted tokens so far, padding not counted."""
    train_loss: float
    """Mean over the assistant's tokens since the last report, in the reporting process's share of the rows."""
    validation_loss: float | None
    """Mean over the assistant's tokens of the validation dialogues, where it was measured."""
    learning_rate: float
    gradient_norm: float
    tokens_per_s: float
    seconds: float
    """Spent in training, over all sessions."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state of a training."""

    path: Path
    config: ModelConfig
    progress: Progress
    seed: int
    corpus_sha256: str
    trained_lengths: tuple[int, ...]
    """Row lengths the training used, in tokens."""

    def model(self) -> Decoder:
        """The decoder with its weights, float32."""
        model = Decoder(self.config)
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(self.path / WEIGHTS).items()})
        return model.eval()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the model was trained with."""
        return load_tokenizer(self.path / TOKENIZER)


def save_checkpoint(
    directory: Path,
    model: Decoder,
    tokenizer: Tokenizer,
    optimizer_state: dict[str, Any] | None,
    progress: Progress,
    *,
    seed: int,
    corpus_sha256: str,
    trained_lengths: tuple[int, ...],
    keep: int = 2,
) -> Checkpoint:
    """Write `directory/step-NNNNNN`, then remove all but the newest `keep` checkpoints."""
    path = directory / f"step-{progress.step:06d}"
    partial = directory / f".{path.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial / WEIGHTS)
    tokenizer.save(str(partial / TOKENIZER))
    if optimizer_state is not None:
        torch.save(optimizer_state, partial / OPTIMIZER)
    meta = {
        "config": asdict(model.config),
        "progress": asdict(progress),
        "seed": seed,
        "corpus_sha256": corpus_sha256,
        "trained_lengths": trained_lengths,
    }
    (partial / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    for written in partial.iterdir():
        with written.open("rb+") as file:
            os.fsync(file.fileno())
    if path.exists():
        shutil.rmtree(path)
    partial.rename(path)
    for old in sorted(directory.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return load_checkpoint(path)


def save_slim(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Write `checkpoint` without the optimizer's state and with weights in half precision; a quarter of the size."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    weights = checkpoint.model().state_dict()
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, path / WEIGHTS)
    (path / WEIGHTS).chmod(0o644)
    for name in (TOKENIZER, META):
        shutil.copyfile(checkpoint.path / name, path / name)
    return load_checkpoint(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in `path`, or the newest one below it.

    Raises:
        UsageError: There is none, or its facts cannot be read.
    """
    if not (path / META).is_file():
        steps = sorted(path.glob("step-*"))
        if not steps:
            raise UsageError(f"{path}: there is no checkpoint here; give the folder a training wrote to")
        path = steps[-1]
    try:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        return Checkpoint(
            path=path,
            config=ModelConfig(**meta["config"]),
            progress=Progress(**meta["progress"]),
            seed=meta["seed"],
            corpus_sha256=meta["corpus_sha256"],
            trained_lengths=tuple(meta["trained_lengths"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path / META}: the checkpoint's facts cannot be read ({error})") from error
