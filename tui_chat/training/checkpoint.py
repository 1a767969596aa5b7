"""Saving and loading the state of a training.

A checkpoint is a folder with the weights (safetensors, float32), the tokenizer, the state of the optimizer and the
facts. It is written beside its place, made sure to be on the disk and renamed into it: a process killed in the middle
of that, or a full disk, leaves the one before whole.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tui_chat.checkpoints.facts import OPTIMIZER, TOKENIZER, WEIGHTS, CheckpointFacts
from tui_chat.checkpoints.runs import another_place, read_run
from tui_chat.checkpoints.shape import ModelShape
from tui_chat.checkpoints.unwritten import why_unwritten
from tui_chat.errors import StorageError, TuiChatError, UsageError
from tui_chat.training.models import Model, build_model
from tui_chat.training.tokenizer import load_tokenizer as load_tokenizer_file

_COMPARED = ("arch", "vocab_size", "width", "n_layers", "n_heads", "n_kv_heads", "ffn_width", "positions", "tied")
"""Sizes that are told first when a checkpoint does not suit a model."""


def save(
    run: Path, model: Model, tokenizer: Tokenizer, optimizer_state: Mapping[str, Any] | None, facts: CheckpointFacts
) -> CheckpointFacts:
    """Write `run/step-NNNNNN`, then remove all checkpoints but this one and the best.

    Args:
        run: Folder of the run, which is there.
        model: Whose weights to save.
        tokenizer: The model's.
        optimizer_state: To go on from; None for a checkpoint that is only to be used.
        facts: What to say of it; path and lowest loss of the run are filled in.

    Returns:
        The facts as they were written.

    Raises:
        StorageError: It could not be written; the checkpoints before it are as they were.
        TuiChatError: The validation loss or a weight is no number, so there is nothing worth keeping.
    """
    _check_numbers(run, model, facts)
    path = run / f"step-{facts.step:06d}"
    partial, replaced = run / f".{path.name}.partial", run / f".{path.name}.replaced"
    best = _best_loss(run, facts)
    facts = replace(facts, path=path, best_validation_loss=best)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        weights = {name: tensor.detach().cpu().float().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, partial / WEIGHTS)
        # safetensors makes files that only their owner may read.
        (partial / WEIGHTS).chmod(0o666 & ~_umask())
        # The library's own way of writing a file tells of a full disk with a plain Exception.
        (partial / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
        if optimizer_state is not None:
            torch.save(optimizer_state, partial / OPTIMIZER)
        facts.write(partial)
        for written in partial.iterdir():
            _flush(written)
        _flush(partial)
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
        partial.rename(path)
        _flush(run)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not path.exists():
            with contextlib.suppress(OSError):
                replaced.rename(path)
        raise StorageError(_failure(run, facts.step, error)) from error
    shutil.rmtree(replaced, ignore_errors=True)
    _remove_others(run, facts)
    return facts


def load_model(facts: CheckpointFacts) -> Model:
    """The model with its weights, float32, ready to be read from.

    Raises:
        UsageError: The weights cannot be read or are those of another model.
    """
    model = build_model(facts.shape)
    load_weights(model, facts)
    return model.eval()


def load_weights(model: Model, facts: CheckpointFacts) -> None:
    """Put the weights of a checkpoint into `model`.

    Raises:
        UsageError: The checkpoint is of another architecture or other sizes (the text says which), or damaged.
    """
    check_shape(facts, model.shape)
    try:
        weights = load_file(facts.path / WEIGHTS)
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{facts.path / WEIGHTS}: the weights cannot be read ({error})") from error
    except RuntimeError as error:
        raise UsageError(f"{facts.path / WEIGHTS}: these are not the weights its facts speak of ({error})") from error


def load_tokenizer(facts: CheckpointFacts) -> Tokenizer:
    """The tokenizer a checkpoint was trained with.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return load_tokenizer_file(facts.path / TOKENIZER)
    except Exception as error:  # the tokenizers library raises nothing more special
        raise UsageError(f"{facts.path / TOKENIZER}: the tokenizer cannot be read ({error})") from error


def load_optimizer(facts: CheckpointFacts) -> dict[str, Any]:
    """The state of the optimizer.

    Raises:
        UsageError: It was not kept, or cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(facts.path / OPTIMIZER, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UsageError(
            f"{facts.path} has no state of the optimizer, so no training can go on from it: begin a new one that "
            "starts from it (tui-chat tune)"
        ) from error
    except Exception as error:  # unpickling a damaged file raises whatever its bytes lead to
        raise UsageError(f"{facts.path / OPTIMIZER}: the state of the optimizer cannot be read ({error})") from error
    return state


def check_shape(facts: CheckpointFacts, shape: ModelShape) -> None:
    """See that a checkpoint is of a model of this shape.

    Raises:
        UsageError: It is not; the text says what differs.
    """
    names = (*_COMPARED, *(name for name in ModelShape.__dataclass_fields__ if name not in _COMPARED))
    there = {name: getattr(facts.shape, name) for name in names}
    wished = {name: getattr(shape, name) for name in names}
    differing = [f"{name} {there[name]}, not {wished[name]}" for name in names if there[name] != wished[name]]
    if differing:
        raise UsageError(
            f"{facts.path} is a checkpoint of another model ({'; '.join(differing)}): give the same options as when it "
            f"was trained, or begin a new training with {another_place(facts.path.parent)}"
        )


def what_is_kept(run: Path) -> str:
    """Which checkpoint is there to go on from, for the end of an error's text."""
    last = read_run(run).latest
    if last is None:
        return "there is no checkpoint yet"
    return f"the checkpoint of step {last.step} is whole: go on from it with --resume"


def _best_loss(run: Path, facts: CheckpointFacts) -> float | None:
    losses = [facts.progress.validation_loss, facts.best_validation_loss]
    losses += [other.progress.validation_loss for other in read_run(run).checkpoints if other.step < facts.step]
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=None)


def _check_numbers(run: Path, model: Model, facts: CheckpointFacts) -> None:
    loss = facts.progress.validation_loss
    # Weights whose squares are no numbers make a norm of them silence: the loss is then that of a guess, and finite.
    if loss is not None and not math.isfinite(loss):
        what = "validation loss is not a number"
    elif not all(bool(weight.detach().float().square().sum().isfinite()) for weight in model.state_dict().values()):
        what = "size of the weights is not a number"
    else:
        return
    raise TuiChatError(f"the {what} at step {facts.step}: try a lower --lr; {what_is_kept(run)}")


def _remove_others(run: Path, newest: CheckpointFacts) -> None:
    found = read_run(run)
    best = found.best
    kept = {newest.path} if best is None else {newest.path, best.path}
    for other in found.checkpoints:
        if other.path not in kept:
            # Readers may have a file of it open; what cannot go now goes with the next save.
            shutil.rmtree(other.path, ignore_errors=True)


def _failure(run: Path, step: int, error: BaseException) -> str:
    reason, remedy = why_unwritten(run, error)
    kept = f"{remedy}; {what_is_kept(run)}" if remedy else what_is_kept(run)
    return f"the checkpoint of step {step} could not be written to {run}, because {reason}: {kept}"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
