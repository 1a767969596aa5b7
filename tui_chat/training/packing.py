"""Dialogues as ids with loss weights, packed into rows of one length.

A row holds whole dialogues, each ended by `<|endoftext|>`, so every answer is seen with all that it refers to. What is
left over at the end of a row is padding with weight 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tui_chat.errors import UsageError
from tui_chat.training.dialogue import END_OF_TEXT, Dialogue
from tui_chat.training.memmap import Ids, id_type, open_array, write_array, write_ids
from tui_chat.training.tokenizer import token_id

PROMPT_WEIGHT = 0.1
"""Loss weight of tokens the model is given. Not 0: it could not continue a user's text at all."""

OPENING = 4
"""Tokens at the beginning of what the assistant says: after them an answer known by heart goes on by itself."""

_LOOK_AHEAD = 256
"""Dialogues a row may choose from to fill its end."""

_BATCH = 2_000
"""Dialogues encoded in one call."""


@dataclass(frozen=True, slots=True)
class EncodedDialogue:
    """One dialogue: `ids` and, for each, whether the model itself writes it. Both have the same length."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]
    opened: bool = False
    """Whether its end says nothing, as the last answer is only begun."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Training rows.

    Attributes:
        ids: (n_rows, length + 1) uint16 or uint32; the model reads all but the last and predicts all but the first.
        weights: (n_rows, length) float32; loss weight of each predicted token.
        n_left_out: Dialogues too long for a row.
    """

    ids: Ids
    weights: npt.NDArray[np.float32]
    n_left_out: int = 0

    @property
    def n_rows(self) -> int:
        """Rows there are."""
        return len(self.ids)

    @property
    def length(self) -> int:
        """Predicted tokens of a row."""
        return int(self.weights.shape[1])

    @property
    def n_tokens(self) -> int:
        """Predicted tokens that have a weight: neither padding nor masked."""
        return int(np.count_nonzero(self.weights))

    def rows(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The rows `indices` (B,): ids (B, length + 1) int64 and weights (B, length) float32."""
        return self.ids[indices].astype(np.int64), np.array(self.weights[indices])


def encode(dialogues: Sequence[Dialogue], tokenizer: Tokenizer) -> list[EncodedDialogue]:
    """Ids and ownership of every dialogue, ended by `<|endoftext|>`."""
    return list(encoded(dialogues, tokenizer))


def encoded(dialogues: Iterable[Dialogue], tokenizer: Tokenizer) -> Iterator[EncodedDialogue]:
    """As `encode`, one after the other.

    Each piece is encoded by itself; the borders lie at control tokens or line ends, where no merge crosses.
    """
    source = iter(dialogues)
    end = token_id(tokenizer, END_OF_TEXT)
    while batch := list(islice(source, _BATCH)):
        pieces = [list(dialogue.render()) for dialogue in batch]
        texts = [text for parts in pieces for text, _ in parts]
        encodings = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
        for dialogue, parts in zip(batch, pieces, strict=True):
            ids: list[int] = []
            own: list[bool] = []
            for _, is_own in parts:
                piece = next(encodings).ids
                ids += piece
                own += [is_own] * len(piece)
            yield EncodedDialogue((*ids, end), (*own, False), dialogue.opened)


def pack(
    dialogues: Iterable[EncodedDialogue],
    length: int,
    pad_id: int,
    *,
    prompt_weight: float = PROMPT_WEIGHT,
    opening_weight: float = 1.0,
) -> PackedRows:
    """Fill rows of `length` predicted tokens with whole dialogues, in memory; longer ones are left out.

    Args:
        dialogues: What to pack.
        length: Predicted tokens of a row.
        pad_id: Fills what is left over.
        prompt_weight: Loss weight of what the model is given: 0 to learn from the answers alone, 1 from everything.
        opening_weight: Of the first `OPENING` tokens of an answer that is only begun.

    Raises:
        ValueError: Not one dialogue fits.
    """
    kept = list(dialogues)
    plan = plan_rows([len(dialogue.ids) for dialogue in kept], length + 1)
    if not plan:
        raise ValueError(f"no dialogue fits into {length} tokens")
    largest = max(pad_id, max(max(kept[i].ids) for row in plan for i in row))
    ids = np.full((len(plan), length + 1), pad_id, dtype=id_type(largest + 1))
    weights = np.zeros((len(plan), length + 1), dtype=np.float32)
    for r, row in enumerate(plan):
        flat = [i for index in row for i in kept[index].ids]
        ids[r, : len(flat)] = flat
        weights[r, : len(flat)] = np.concatenate(
            [loss_weights(np.array(kept[i].own), prompt_weight, opening_weight, opened=kept[i].opened) for i in row]
        )
    n_left_out = len(kept) - sum(map(len, plan))
    return PackedRows(ids, np.ascontiguousarray(weights[:, 1:]), n_left_out)


def pack_on_disk(
    dialogues: Iterable[EncodedDialogue],
    length: int,
    pad_id: int,
    path: Path,
    vocab_size: int,
    *,
    prompt_weight: float = PROMPT_WEIGHT,
    opening_weight: float = 1.0,
    may_be_short: bool = False,
) -> PackedRows:
    """As `pack`, with the rows in files: in memory is a byte a token, not the dialogues or the rows.

    Args:
        dialogues: What to pack; read once.
        length: Predicted tokens of a row.
        pad_id: Fills what is left over.
        path: Beginning of the files' names, such as `scratch/train`; `open_rows` takes it too.
        vocab_size: Decides how wide an id is.
        prompt_weight: As for `pack`.
        opening_weight: As for `pack`.
        may_be_short: Whether it is right that all dialogues together do not fill a row, as in a small validation part.

    Raises:
        UsageError: Not one dialogue fits, or all together do not fill a row; the text says which context does.
        StorageError: The files cannot be written.
    """
    flat = _named(path, "flat")
    lengths: list[int] = []
    own_bytes, opened = bytearray(), bytearray()

    def pieces() -> Iterator[tuple[int, ...]]:
        for dialogue in dialogues:
            lengths.append(len(dialogue.ids))
            own_bytes.extend(dialogue.own)
            opened.append(dialogue.opened)
            yield dialogue.ids

    try:
        ids = write_ids(flat, pieces(), vocab_size)
        own = np.frombuffer(bytes(own_bytes), dtype=np.bool_)
        check_length(lengths, length, may_be_short=may_be_short)
        room = length + 1
        plan = plan_rows(lengths, room)
        starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))

        def row_ids() -> Iterator[npt.NDArray[np.uint16 | np.uint32]]:
            for row in plan:
                filled = np.full(room, pad_id, dtype=ids.dtype)
                used = 0
                for i in row:
                    filled[used : used + lengths[i]] = ids[starts[i] : starts[i + 1]]
                    used += lengths[i]
                yield filled

        def row_weights() -> Iterator[npt.NDArray[np.float32]]:
            for row in plan:
                filled = np.zeros(room, dtype=np.float32)
                used = 0
                for i in row:
                    filled[used : used + lengths[i]] = loss_weights(
                        own[starts[i] : starts[i + 1]], prompt_weight, opening_weight, opened=bool(opened[i])
                    )
                    used += lengths[i]
                yield filled[1:]

        write_array(_named(path, "ids"), row_ids(), ids.dtype)
        write_array(_named(path, "weights"), row_weights(), np.float32)
    finally:
        with suppress(OSError):
            flat.unlink()
    rows = open_rows(path, length)
    return PackedRows(rows.ids, rows.weights, len(lengths) - sum(map(len, plan)))


def loss_weights(
    own: npt.NDArray[np.bool_], prompt_weight: float, opening_weight: float, *, opened: bool = False
) -> npt.NDArray[np.float32]:
    """Loss weight of every token of a dialogue.

    Args:
        own: (n,) whether the model itself writes it.
        prompt_weight: Of the others.
        opening_weight: Of the first `OPENING` of each stretch of its own, where it is opened.
        opened: Whether it is only begun: the token that ends it has no weight then.

    Returns:
        (n,), 1 for the rest of its own.
    """
    weights = np.where(own, 1.0, prompt_weight).astype(np.float32)
    if opened:
        for begin in np.flatnonzero(np.diff(own, prepend=False) & own):
            opening = slice(begin, begin + OPENING)
            weights[opening][own[opening]] = opening_weight
        weights[-1] = 0.0
    return weights


def open_rows(path: Path, length: int) -> PackedRows:
    """The rows `pack_on_disk` wrote under `path`, memory-mapped: for other processes of the same training.

    Raises:
        StorageError: They are not there or not whole.
    """
    ids, weights = open_array(_named(path, "ids")), open_array(_named(path, "weights"))
    return PackedRows(ids.reshape(-1, length + 1), weights.reshape(-1, length))


def plan_rows(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which dialogues stand in which row, in order.

    Every row begins with the dialogue that has waited longest and takes what still fits among the next ones.

    Args:
        lengths: Tokens of each dialogue.
        room: Tokens of a row. Dialogues longer than that are in none.
    """
    source = iter([index for index, length in enumerate(lengths) if length <= room])
    waiting: list[int] = []
    rows: list[list[int]] = []
    while True:
        waiting += islice(source, _LOOK_AHEAD - len(waiting))
        if not waiting:
            return rows
        row, used, kept = [waiting[0]], lengths[waiting[0]], []
        for index in waiting[1:]:
            if used + lengths[index] <= room:
                row.append(index)
                used += lengths[index]
            else:
                kept.append(index)
        waiting = kept
        rows.append(row)


def check_length(lengths: Sequence[int], length: int, *, may_be_short: bool = False) -> None:
    """See that rows of `length` predicted tokens suit dialogues of these `lengths`.

    Raises:
        UsageError: None fits, or all of them together do not fill one row; the text says which context does.
    """
    if not lengths:
        raise UsageError("there is not one conversation to learn from: give more")
    shortest, together = min(lengths), sum(lengths)
    if shortest > length + 1:
        raise UsageError(
            f"no conversation fits into rows of {length} tokens: the shortest has {shortest}, of which {shortest - 1} "
            f"are to be guessed, as the first is only read: use --context {shortest - 1} or more "
            f"(all fit with {max(lengths) - 1})"
        )
    if together < length + 1 and not may_be_short:
        raise UsageError(
            f"a context of {length} is longer than all conversations together, which have {together - 1} tokens to "
            f"guess: use --context {together - 1} or less (at least {shortest - 1}), or give more of them"
        )


def _named(path: Path, part: str) -> Path:
    return path.with_name(f"{path.name}.{part}.npy")
