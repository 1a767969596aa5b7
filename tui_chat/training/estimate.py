"""What a training costs, said before it starts, and rows that fit into the memory there is. Needs no PyTorch."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tui_chat.checkpoints.shape import ModelShape
from tui_chat.training.config import TrainConfig

_SHORTEST = 8
"""Tokens of the shortest row worth training on."""

_USABLE = 0.8
"""Share of the free memory a training may fill; the estimate of what it needs is rough."""


_PROCESS_BYTES = 200_000_000
"""What each further process takes before it computes anything: Python, PyTorch and the talk with the others."""


@dataclass(frozen=True, slots=True)
class Portions:
    """How the rows of a step are computed: in passes whose gradients are added up."""

    rows_per_pass: int
    """Of one process, at the first row length; longer rows are as many fewer."""
    passes: int
    """Of a step."""
    n_bytes: int
    """Memory this takes, as estimated."""
    fits: bool
    """Whether that is free."""


def portion(config: TrainConfig, shape: ModelShape, n_processes: int, free_bytes: int) -> Portions:
    """Halve the rows of a pass, and double the passes, until the memory does; the gradient of a step stays the same.

    Args:
        config: Of the training.
        shape: Of the model, with the vocabulary it really has.
        n_processes: That share a step and, on a processor, its memory.
        free_bytes: What is free for all of them together; 0 where that is unknown.
    """
    rows, passes = -(-config.batch // n_processes), config.accumulate
    longest = max(config.row_lengths)

    def needed(rows: int) -> int:
        # Rows of another length are as many fewer, but never less than one.
        of_each = max(shape.training_bytes(rows, config.length), shape.training_bytes(1, longest))
        return of_each * n_processes + _PROCESS_BYTES * (n_processes - 1)

    room = _USABLE * free_bytes if free_bytes else float("inf")
    while needed(rows) > room and rows > 1:
        rows, passes = -(-rows // 2), passes * 2
    return Portions(rows, passes, needed(rows), needed(rows) <= room)


def remedy(config: TrainConfig, shape: ModelShape, rows: int, free_bytes: int) -> str:
    """What to do when the memory did not do: a batch and a context that should fit.

    Args:
        config: Of the training.
        shape: Of the model.
        rows: Of the pass that was too large.
        free_bytes: What is free for one process when none of the training is there; 0 where that is unknown.
    """
    room = _USABLE * free_bytes if free_bytes else float("inf")
    # What failed was too much whatever the estimate says of it, so at least one of the two becomes smaller.
    length = max(config.row_lengths)
    smaller = f"{shape.n_parameters:,} parameters are too many for it: try a smaller --width, --layers or --vocab"
    if rows == 1 and length <= _SHORTEST:
        return smaller
    batch, context = max(1, rows // 2), length if rows > 1 else max(_SHORTEST, length // 2)
    while shape.training_bytes(batch, context) > room and (batch > 1 or context > _SHORTEST):
        batch, context = (batch // 2, context) if batch > 1 else (batch, max(_SHORTEST, context // 2))
    if shape.training_bytes(batch, context) > room:
        return smaller
    passes = -(-config.batch * config.accumulate // batch)
    advice = f"try --batch {batch}{f' --accumulate {passes}' if passes > 1 else ''} --context {context}"
    # Where most of it is the weights and what the optimizer knows of them, shorter rows may not be enough.
    mostly_weights = 2 * shape.training_bytes(0, 0) > shape.training_bytes(rows, length)
    return advice + (", or a smaller --width or --layers" if mostly_weights else "")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in the words of PyTorch's various devices."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text
        for words in ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
    )


def quantity(number: float) -> str:
    """`number` for people, with three digits: 3.44 M."""
    for size, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:.3g} "


def counted(number: int, thing: str) -> str:
    """`number` of a thing for people: 1 layer, 7,500 steps."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
