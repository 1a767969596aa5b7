"""The full distributions of the newest tokens, so that other settings can be tried on them without the model.

A row is named by the tokens before it, not by the answer it belongs to: after a fork, a rewind or a replay the same
prefix finds the same row. 256 rows of 151,936 tokens are 78 MB as float16; the best of each row, and so nearly all that
a chain lets live, are kept beside it as the float32 they were.

The engine's thread writes, any thread reads. Nobody waits: a reader whose row was written over meanwhile gets nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.llama import LIB_DIR
from tui_chat.engine.selection import Selection, best_first, select

CAPACITY = 256
"""Rows kept."""
_HEAD_AT_LEAST, _HEAD, _MOST_HEAD = 40, 64, 1024
"""How many logits of a row are kept as they were: what top-k selected, if that is enough and not too much."""
_MOST_FLOAT16 = np.float32(65504)


def prefix_key(ids: Iterable[int], key: int = 0) -> int:
    """Names a sequence of tokens, within this process.

    Args:
        ids: The tokens.
        key: Of the tokens before them.
    """
    for token in ids:
        key = hash((key, token))
    return key


@dataclass(frozen=True, slots=True, eq=False)
class StoredLogits:
    """One row, read back."""

    logits: NDArray[np.float32]
    """(n_vocab,) raw; those of `exact` as they were, the others rounded to float16."""
    exact: NDArray[np.int32]
    """Ascending ids of the best tokens; no other has a higher logit."""


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    key: int
    ids: NDArray[np.int32]
    logits: NDArray[np.float32]


class RecentLogits:
    """A ring of rows.

    Args:
        n_vocab: Size of the vocabulary.
        capacity: Rows kept; memory is taken as they fill.
    """

    def __init__(self, n_vocab: int, capacity: int = CAPACITY) -> None:
        self._rows = np.empty((capacity, n_vocab), np.float16)
        self._slots: list[_Slot | None] = [None] * capacity
        self._places: dict[int, int] = {}
        self._next = 0

    @property
    def size_bytes(self) -> int:
        """Memory of a full ring, without what is kept as float32 (at most 8 KiB a row)."""
        return self._rows.nbytes

    def put(self, key: int, logits: NDArray[np.float32], selection: Selection | None) -> Selection:
        """Keep the distribution of the token after a prefix.

        Args:
            key: The prefix (`prefix_key`).
            logits: (n_vocab,) float32, raw, contiguous.
            selection: The best of them, if they are known.

        Returns:
            `selection`, or a new one where it held too few or too many.
        """
        if selection is None or not _HEAD_AT_LEAST <= len(selection.ids) <= _MOST_HEAD:
            selection = select(logits, _HEAD)
        ids = selection.ids.astype(np.int32)
        if len(ids) > _MOST_HEAD:  # so many are equal
            ids = np.sort(best_first(selection.ids, logits)[:_MOST_HEAD]).astype(np.int32)
        best = logits[ids]
        if selection.highest > _MOST_FLOAT16:
            logits = np.minimum(logits, _MOST_FLOAT16)
        if (place := self._places.get(key)) is None:
            place, self._next = self._next, (self._next + 1) % len(self._slots)
        if (old := self._slots[place]) is not None:
            self._slots[place] = None  # from here on readers of the old row know that it is gone
            self._places.pop(old.key, None)
        _to_float16(logits, self._rows[place])
        self._slots[place] = _Slot(key, ids, best)
        self._places[key] = place
        return selection

    def get(self, key: int) -> StoredLogits | None:
        """The distribution of the token after a prefix, a copy; None when it is not kept, or no more."""
        place = self._places.get(key, 0)
        slot = self._slots[place]
        if slot is None or slot.key != key:
            return None
        logits = np.empty(self._rows.shape[1], np.float32)
        _to_float32(self._rows[place], logits)
        if self._slots[place] is not slot:
            return None
        logits[slot.ids] = slot.logits
        return StoredLogits(logits, slot.ids)


class _Conversions:
    """ggml's vector conversions (ggml-cpu.h); numpy's own take twenty times as long.

    Raises:
        OSError, AttributeError: This build does not show them.
    """

    def __init__(self) -> None:
        library = ctypes.PyDLL(str(next(iter(LIB_DIR.glob("*ggml-cpu.*")), "")))
        self.to_float16: Any = library.ggml_cpu_fp32_to_fp16
        self.to_float32: Any = library.ggml_cpu_fp16_to_fp32
        for function in (self.to_float16, self.to_float32):
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None


def _find_conversions() -> _Conversions | None:
    try:
        return _Conversions()
    except (OSError, AttributeError):
        return None


_conversions = _find_conversions()


def _to_float16(source: NDArray[np.float32], target: NDArray[np.float16]) -> None:
    if _conversions is None:
        with np.errstate(over="ignore"):
            target[:] = source
    else:
        _conversions.to_float16(source.ctypes.data, target.ctypes.data, len(source))


def _to_float32(source: NDArray[np.float16], target: NDArray[np.float32]) -> None:
    if _conversions is None:
        target[:] = source
    else:
        _conversions.to_float32(source.ctypes.data, target.ctypes.data, len(source))
