"""Text as one long line of ids, read through a window that slides over it.

The line is `<|endoftext|> document <|endoftext|> document ... <|endoftext|>`: every token of every document is one the
model learns to predict, its first one after `<|endoftext|>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tui_chat.errors import UsageError
from tui_chat.training.chunks import chunks
from tui_chat.training.dialogue import END_OF_TEXT
from tui_chat.training.memmap import Ids, write_ids
from tui_chat.training.tokenizer import token_id

_BATCH = 64
"""Chunks encoded in one call."""

_SCANNED = 1 << 22
"""Ids looked at in one go, so that a large file need not fit into memory."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Training rows cut from one line of ids.

    In another process open the file again (`memmap.open_array`) rather than send this: sending copies the ids.

    Attributes:
        ids: (n_ids,) uint16 or uint32, usually memory-mapped.
        length: Predicted tokens of a row.
        stride: Tokens from the beginning of a window to that of the next; `length` reads every token once an epoch.

    Raises:
        UsageError: The text is shorter than a window, or windows would leave tokens out.
    """

    ids: Ids
    length: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.length:
            raise UsageError(
                f"a stride of {self.stride} does not suit a context of {self.length}: use 1 to {self.length}"
            )
        if len(self.ids) < self.length + 1:
            fits = len(self.ids) - 1
            remedy = f"use --context {fits} or less, or give more text" if fits > 0 else "give more text"
            raise UsageError(
                f"a context of {self.length} is longer than the text, of which {max(0, fits)} tokens can be "
                f"predicted: {remedy}"
            )

    @property
    def n_rows(self) -> int:
        """Windows there are; the last one begins nearer to the one before it where the text's end asks for that."""
        return -(-(len(self.ids) - 1 - self.length) // self.stride) + 1

    @property
    def n_tokens(self) -> int:
        """Predicted tokens of all windows; more than the text has where they overlap."""
        return self.n_rows * self.length - self._n_again

    def rows(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The windows `indices` (B,): ids (B, length + 1) int64 and weights (B, length) float32.

        Weights are 1, but for tokens of the last window that the one before it has predicted already.
        """
        last_start = len(self.ids) - 1 - self.length
        starts = np.minimum(indices * self.stride, last_start)
        ids = self.ids[starts[:, None] + np.arange(self.length + 1)].astype(np.int64)
        weights = np.ones((len(indices), self.length), dtype=np.float32)
        weights[indices == self.n_rows - 1, : self._n_again] = 0.0
        return ids, weights

    @property
    def _n_again(self) -> int:
        """Tokens at the beginning of the last window that only fill it up."""
        return (self.n_rows - 1) * self.stride - (len(self.ids) - 1 - self.length)


def write_documents(path: Path, documents: Iterable[str], tokenizer: Tokenizer) -> Ids:
    """Write the line of ids of `documents`; `path` is replaced only when the new file is whole.

    Control tokens that stand in a document are read as the letters they are written with.

    Returns:
        (n_ids,) uint16 or uint32, memory-mapped.

    Raises:
        StorageError: The file cannot be written.
    """
    return write_ids(path, document_ids(documents, tokenizer), tokenizer.get_vocab_size())


def check_documents(ids: Ids, length: int, end: int) -> None:
    """See that one of several documents at least has a whole window in it: no more is learnt from rows that are longer.

    Args:
        ids: The line of ids of all documents.
        length: Predicted tokens of a row.
        end: Id of `<|endoftext|>`, which stands between documents alone.

    Raises:
        UsageError: None has; the text says which context fits.
    """
    pieces = range(0, len(ids), _SCANNED)
    places = np.concatenate([start + np.flatnonzero(ids[start : start + _SCANNED] == end) for start in pieces])
    fits = int(np.diff(places).max(initial=0))
    if len(places) > 2 and fits < length:
        raise UsageError(
            f"a context of {length} is longer than any document, of which the longest to train on has {fits} tokens "
            f"to predict: use --context {fits} or less, or give longer texts"
        )


def document_ids(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[Sequence[int]]:
    """The line of ids of `documents` in pieces."""
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    end = [token_id(tokenizer, END_OF_TEXT)]
    yield end
    batch: list[str] = []
    for document in documents:
        for chunk in chunks(document):
            batch.append(chunk)
            if len(batch) == _BATCH:
                yield from _encoded(batch, plain)
                batch = []
        yield from _encoded(batch, plain)
        batch = []
        yield end


def _encoded(batch: list[str], tokenizer: Tokenizer) -> Iterator[Sequence[int]]:
    for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
        yield encoding.ids
