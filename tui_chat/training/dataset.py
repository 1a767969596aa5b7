"""What a training reads: rows of ids with loss weights, in an order that is known from seed and position.

Text comes as windows that slide over it (`windows.py`), dialogues as packed rows (`packing.py`); the loop need not know
which.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tui_chat.training.packing import PROMPT_WEIGHT, EncodedDialogue, PackedRows, encode, pack
from tui_chat.training.windows import Windows

__all__ = ["PROMPT_WEIGHT", "EncodedDialogue", "PackedRows", "RowOrder", "Rows", "Windows", "encode", "pack"]


class Rows(Protocol):
    """Rows to train on: `Windows` or `PackedRows`."""

    @property
    def n_rows(self) -> int:
        """Rows there are."""

    @property
    def length(self) -> int:
        """Predicted tokens of a row."""

    @property
    def n_tokens(self) -> int:
        """Predicted tokens that have a weight."""

    def rows(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The rows `indices` (B,): ids (B, length + 1) int64 and weights (B, length) float32."""


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
        parts: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        place, end = start, start + count
        while place < end:
            epoch, index = divmod(place, self.n_rows)
            parts.append(self._epoch_order(epoch)[index : index + end - place])
            place += len(parts[-1])
        return np.concatenate(parts)

    def _epoch_order(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.n_rows)
            self._epoch = epoch
        return self._order
