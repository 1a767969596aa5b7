"""Dialogues as ids with loss weights, packed into rows of one length.

A row holds whole dialogues, each ended by `<|endoftext|>`, so every answer is seen with all that it refers to. What is
left over at the end of a row is padding with weight 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tui_chat.training.dialogue import END_OF_TEXT, Dialogue
from tui_chat.training.tokenizer import token_id

PROMPT_WEIGHT = 0.1
"""Loss weight of tokens the model is given. Not 0: it could not continue a user's text at all."""

_LOOK_AHEAD = 256
"""Dialogues a row may choose from to fill its end."""


@dataclass(frozen=True, slots=True)
class EncodedDialogue:
    """One dialogue: `ids` and, for each, whether the model itself writes it. Both have the same length."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Training rows.

    Attributes:
        ids: (n_rows, length + 1) uint16; the model reads all but the last and predicts all but the first.
        weights: (n_rows, length) float32; loss weight of each predicted token.
    """

    ids: npt.NDArray[np.uint16]
    weights: npt.NDArray[np.float32]

    @property
    def n_tokens(self) -> int:
        """Predicted tokens that are no padding."""
        return int(np.count_nonzero(self.weights))


def encode(dialogues: Sequence[Dialogue], tokenizer: Tokenizer) -> list[EncodedDialogue]:
    """Ids and ownership of every dialogue, ended by `<|endoftext|>`.

    Each piece is encoded by itself; the borders lie at control tokens or line ends, where no merge crosses.
    """
    pieces = [list(dialogue.render()) for dialogue in dialogues]
    encodings = iter(tokenizer.encode_batch([text for parts in pieces for text, _ in parts], add_special_tokens=False))
    end = token_id(tokenizer, END_OF_TEXT)
    encoded = []
    for parts in pieces:
        ids: list[int] = []
        own: list[bool] = []
        for _, is_own in parts:
            piece = next(encodings).ids
            ids += piece
            own += [is_own] * len(piece)
        encoded.append(EncodedDialogue((*ids, end), (*own, False)))
    return encoded


def pack(dialogues: Iterable[EncodedDialogue], length: int, pad_id: int) -> PackedRows:
    """Fill rows of `length` predicted tokens with whole dialogues; longer ones are left out.

    Raises:
        ValueError: Not one dialogue fits.
    """
    room = length + 1
    source = iter([dialogue for dialogue in dialogues if len(dialogue.ids) <= room])
    waiting: list[EncodedDialogue] = []
    rows: list[list[EncodedDialogue]] = []
    while True:
        while len(waiting) < _LOOK_AHEAD and (dialogue := next(source, None)) is not None:
            waiting.append(dialogue)
        if not waiting:
            break
        row, used, kept = [waiting[0]], len(waiting[0].ids), []
        for dialogue in waiting[1:]:
            if used + len(dialogue.ids) <= room:
                row.append(dialogue)
                used += len(dialogue.ids)
            else:
                kept.append(dialogue)
        waiting = kept
        rows.append(row)
    if not rows:
        raise ValueError(f"no dialogue fits into {length} tokens")
    ids = np.full((len(rows), room), pad_id, dtype=np.uint16)
    weights = np.zeros((len(rows), room), dtype=np.float32)
    for r, row in enumerate(rows):
        flat = [i for dialogue in row for i in dialogue.ids]
        own = [o for dialogue in row for o in dialogue.own]
        ids[r, : len(flat)] = flat
        weights[r, : len(flat)] = np.where(own, 1.0, PROMPT_WEIGHT)
    return PackedRows(ids, np.ascontiguousarray(weights[:, 1:]))


class RowOrder:
    """Which rows a step reads: every epoch a new order, known from seed and position alone, so a run can resume.

    Args:
        n_rows: Rows there are.
        seed: Of the order.
    """

    def __init__(self, n_rows: int, seed: int) -> None:
        self.n_rows = n_rows
        self.seed = seed
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def rows(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Indices of `count` rows from the endless sequence, beginning at its place `start`."""
        return np.array([self._at(start + i) for i in range(count)], dtype=np.int64)

    def _at(self, place: int) -> int:
        epoch, index = divmod(place, self.n_rows)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.n_rows)
            self._epoch = epoch
        return int(self._order[index])
