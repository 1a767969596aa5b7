"""One token's way through the chain: every candidate as it stood after every stage.

The stages are run once more over the whole vocabulary by the sampler that draws (`Sampler.choose`), and what each of
them left is kept as one array. Rows for people are made from those on demand, a slice at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.cuts import Column, Ids, Reason, how_changed, why_removed
from tui_chat.engine.expsums import ExpSums
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.selection import best_first, falling, select
from tui_chat.engine.types import SamplingParams, StageTrace

_SUM_IN_FLOAT64_BELOW = 4096


class Basis(StrEnum):
    """What an answer to "what if" was computed from."""

    EXACT = "exact"
    """The logits as they were; sums over unlikely tokens are right to five digits."""
    ROUNDED = "rounded"
    """The outcome lies among unlikely tokens, whose logits were kept as float16: a neighbour may be meant."""
    TRUNCATED = "truncated"
    """The best few tokens alone, the others supposed to fall off geometrically; or what mirostat or adaptive-p learnt
    from such."""


class Order(StrEnum):
    """How the rows of a waterfall are sorted."""

    RAW = "raw"
    """By the model's logits."""
    FINAL = "final"
    """Survivors as the draw saw them, then the others by the model's logits."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate. Tuples have one entry a column, None once it was removed."""

    id: int
    logits: tuple[float | None, ...]
    """Nats."""
    p: tuple[float | None, ...]
    """Among the survivors of that column."""
    removed: int | None
    """The column whose stage removed it."""
    reason: Reason | None
    """Why that stage removed it."""
    changes: tuple[Reason, ...]
    """How stages moved the logit of this token in particular."""
    interval: tuple[float, float] | None
    """It is picked where from <= u < to; None for what did not survive."""


@dataclass(frozen=True, eq=False)
class Waterfall:
    """A table over the vocabulary. Made by `cascade`."""

    position: int
    params: SamplingParams
    history: Sequence[int]
    """The tokens before it."""
    columns: tuple[Column, ...]
    """`raw` and the stages, in order."""
    picked: int
    u: float | None
    """The draw; None when greedy."""
    ids: Ids
    """(n_survivors,) what the draw chose from, best first."""
    p: NDArray[np.float64]
    """(n_survivors,) their probabilities."""
    basis: Basis = Basis.EXACT
    known: Ids | None = None
    """The tokens whose logits are known; None for all. There are rows of these alone."""

    @property
    def n_rows(self) -> int:
        """How many candidates there are to be shown."""
        return len(self.columns[0].logits) if self.known is None else len(self.known)

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """(n_survivors,) the running sum of `p`: where the interval of each survivor ends."""
        return np.cumsum(self.p)

    def order(self, start: int, stop: int, by: Order = Order.FINAL) -> Ids:
        """The tokens of rows `start` to `stop`."""
        stop = min(stop, self.n_rows)
        if start >= stop:
            return np.empty(0, np.int32)
        if by is Order.RAW:
            return self._raw_head(stop)[start:]
        survivors = self._known_survivors
        if stop <= len(survivors):
            return survivors[start:stop]
        head = self._raw_head(stop)
        others = head[self.columns[-1].logits[head] == -np.inf]
        return np.concatenate((survivors, others))[start:stop]

    def place(self, token: int, by: Order = Order.FINAL) -> int:
        """The row of a token.

        Raises:
            KeyError: Nothing is known of it.
        """
        raw = self.columns[0].logits
        if self.known is not None:
            found = np.flatnonzero(self.order(0, self.n_rows, by) == token)
            if not len(found):
                raise KeyError(token)
            return int(found[0])
        if not 0 <= token < len(raw):
            raise KeyError(token)
        if by is Order.FINAL and len(found := np.flatnonzero(self.ids == token)):
            return int(found[0])
        before = raw > raw[token]
        before[:token] |= raw[:token] == raw[token]  # ties by rising id
        if by is Order.RAW:
            return int(np.count_nonzero(before))
        return len(self.ids) + int(np.count_nonzero(before)) - int(np.count_nonzero(before[self.ids]))

    def find(self, needle: bytes, pieces: Sequence[bytes]) -> Ids:
        """The tokens whose bytes hold `needle`, best first.

        Args:
            needle: What to look for.
            pieces: Of all tokens, by id (`Vocabulary.pieces`).
        """
        known: Sequence[int] = range(len(pieces)) if self.known is None else self.known.tolist()
        ids = np.array([token for token in known if needle in pieces[token]], np.int32)
        return falling(ids, self.columns[0].logits[ids])[0]

    def row(self, token: int) -> Row:
        """The row of one token."""
        return self._rows(np.array([token], np.int32))[0]

    def rows(self, start: int, stop: int, by: Order = Order.FINAL) -> tuple[Row, ...]:
        """Rows `start` to `stop`."""
        return tuple(self._rows(self.order(start, stop, by)))

    @cached_property
    def _known_survivors(self) -> Ids:
        return self.ids if self.known is None else self.ids[np.isin(self.ids, self.known)]

    @cached_property
    def _raw_order(self) -> Ids:
        raw = self.columns[0].logits
        ids = np.arange(len(raw), dtype=np.int32) if self.known is None else self.known
        return falling(ids, raw[ids])[0]

    def _raw_head(self, stop: int) -> Ids:
        raw = self.columns[0].logits
        if self.known is not None or "_raw_order" in self.__dict__ or stop * 16 > len(raw):
            return self._raw_order[:stop]
        return best_first(select(raw, stop).ids, raw)[:stop].astype(np.int32)

    def _rows(self, ids: Ids) -> list[Row]:
        logits = np.array([column.logits[ids] for column in self.columns])
        stands = logits > -np.inf
        removed = np.where(stands.all(axis=0), len(self.columns), stands.argmin(axis=0))
        reasons: dict[int, Reason] = {}
        for index in set(removed.tolist()) - {0, len(self.columns)}:
            group = ids[removed == index]
            why = why_removed(self.columns[index - 1], self.columns[index], self.params, group)
            reasons.update(zip(group.tolist(), why, strict=True))
        p = [column.p(ids).tolist() for column in self.columns]
        end = len(self.columns)
        return [
            Row(
                token,
                tuple(logits[:last, at].tolist()) + (None,) * (end - last),
                tuple(p[i][at] if i < last else None for i in range(end)),
                last if last < end else None,
                reasons.get(token),
                self._changes(token, last),
                self._interval(token) if last == end else None,
            )
            for at, (token, last) in enumerate(zip(ids.tolist(), removed.tolist(), strict=True))
        ]

    def _changes(self, token: int, last: int) -> tuple[Reason, ...]:
        pairs = zip(self.columns, self.columns[1 : last + 1], strict=False)
        found = [how_changed(before, after, self.params, self.history, token) for before, after in pairs]
        return tuple(reason for reason in found if reason is not None)

    def _interval(self, token: int) -> tuple[float, float] | None:
        at = np.flatnonzero(self.ids == token)
        if not len(at):
            return None
        i = int(at[0])
        return float(self.cumulative[i - 1]) if i else 0.0, float(self.cumulative[i])


def cascade(
    sampler: Sampler,
    logits: NDArray[np.float32],
    history: Sequence[int],
    *,
    basis: Basis = Basis.EXACT,
    known: Ids | None = None,
    ran: int | None = None,
) -> Waterfall:
    """The waterfall of the token that comes after `history`.

    Args:
        sampler: Stands at that place. It is not moved on.
        logits: (n_vocab,) float32, raw; kept, so not to be written to afterwards.
        history: The tokens before it.
        basis: What `logits` are.
        known: The tokens whose logits are known, None for all.
        ran: The token that these very settings did pick, where that is known.

    Raises:
        DecodeError: A logit is NaN or +inf.
        SamplingError: No candidate is left.
    """
    exp_sums = ExpSums()
    raw = _column("raw", logits, logits, exp_sums)
    columns: list[Column] = []

    def watch(name: str, view: NDArray[np.void]) -> None:
        left = np.ascontiguousarray(view["logit"])
        dense = np.full(len(logits), -np.inf, np.float32)
        dense[view["id"]] = left
        columns.append(_column(name, dense, left, exp_sums))

    choice = sampler.choose(logits, len(history), watch=watch)
    return Waterfall(
        position=len(history),
        params=sampler.params,
        history=history,
        columns=(raw, *(_noted(column, stage, sampler) for column, stage in zip(columns, choice.stages, strict=True))),
        picked=choice.id if ran is None else ran,
        u=choice.u,
        ids=choice.ids,
        p=choice.p,
        basis=basis,
        known=known,
    )


def _noted(column: Column, stage: StageTrace, sampler: Sampler) -> Column:
    refused = sampler.refused_by_text if column.name == "logit_bias" else ()
    return replace(column, note=stage.note, refused=refused) if stage.note or refused else column


def _column(name: str, dense: NDArray[np.float32], left: NDArray[np.float32], exp_sums: ExpSums) -> Column:
    """A column of the (n_vocab,) logits `dense`; `left` holds the same, perhaps without what was removed."""
    finite = left > -np.inf
    if not finite.all():
        left = left[finite]
    if not len(left):
        return Column(name, dense, 0, -math.inf, -math.inf)
    highest = float(left.max())
    if len(left) < _SUM_IN_FLOAT64_BELOW:
        total = float(np.exp(left.astype(np.float64) - highest).sum())
    else:
        total, _ = exp_sums(left, highest)
    return Column(name, dense, len(left), highest, highest + math.log(total))
