"""What other settings would have made of an answer that is written: no forward pass, only stored distributions.

Every token is asked at its own place: the tokens before it are the ones that were written, and the draw is the one that
belongs to its seed and position. So all that comes after the first token that differs holds for the old prefix only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.cuts import Ids
from tui_chat.engine.recent import RecentLogits, StoredLogits, prefix_key
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.stages import summed_biases
from tui_chat.engine.types import GeneratedToken, SamplingParams, TokenTrace
from tui_chat.engine.waterfall import Basis, Waterfall, cascade
from tui_chat.errors import SamplingError

MakeSampler = Callable[[SamplingParams, Sequence[int]], Sampler]
"""(settings, all tokens before the answer) -> the sampler of its first token; see `generation.make_sampler`."""

_LEAST_TAIL, _MOST_TAIL = 512, 4096
_TAIL_ENDS = 1e-6
_NEAR = 2e-4
"""Shares that end this near to the draw may end on its other side, where unlikely tokens are kept as float16."""


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """An answer as it stands."""

    before: Sequence[int]
    """All tokens before the first one of `tokens`."""
    tokens: Sequence[GeneratedToken]
    ran: Sequence[SamplingParams]
    """The settings that each of `tokens` was drawn with; none where nothing drew them."""
    n_vocab: int
    make_sampler: MakeSampler

    def history(self, index: int) -> list[int]:
        """All tokens before number `index` of the answer."""
        return [*self.before, *(token.id for token in self.tokens[:index])]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would have come out in the place of one token."""

    index: int
    """Of the token in the answer, from 0."""
    id: int
    """The token that was written."""
    would: int | None
    """The token that would have been; None for one that is not known, or where the settings leave none."""
    basis: Basis

    @property
    def differs(self) -> bool:
        """Whether another token would have come out."""
        return self.would != self.id


def what_if(
    written: Written, params: SamplingParams, recent: RecentLogits | None = None, cancel: CancelFlag | None = None
) -> Iterator[Outcome]:
    """Ask every token of an answer, from the first to the last.

    What mirostat and adaptive-p learn on the way, they learn from the tokens that were written. Behind a token that a
    grammar refuses nothing is asked: no such prefix could stand there.

    Args:
        written: The answer.
        params: The other settings.
        recent: Full distributions; tokens that are not in it answer from their traces.
        cancel: Ends it before the next token.

    Yields:
        An outcome for each token that was drawn and has a trace: what was forced has none.
    """
    sampler = written.make_sampler(params, written.before)
    try:
        for token, outcome in _asked(sampler, written, params, recent, len(written.tokens)):
            if outcome is not None and not token.forced:
                yield outcome
            if cancel is not None and cancel.is_set():
                return
            try:
                sampler.accept(token.id)
            except SamplingError:
                return
    finally:
        sampler.close()


def waterfall_at(
    written: Written, index: int, params: SamplingParams, recent: RecentLogits | None = None
) -> Waterfall | None:
    """The waterfall of one token of an answer, under these settings; None without a trace and a stored distribution.

    Raises:
        SamplingError: The settings leave no token, or their grammar refuses the answer before this one.
    """
    history = written.history(index)
    token, stored = written.tokens[index], None
    if recent is not None:
        stored = recent.get(prefix_key(history))
    learns = params.mirostat > 0 or params.adaptive_target >= 0
    led = learns or params.grammar != ""  # through the answer; the other stages look back at it by themselves
    sampler = written.make_sampler(params, written.before if led else history)
    try:
        guessed = False
        if learns:
            for before, outcome in _asked(sampler, written, params, recent, index):
                guessed = guessed or outcome is None or outcome.basis is Basis.TRUNCATED
                sampler.accept(before.id)
        elif led:
            for before in written.tokens[:index]:
                sampler.accept(before.id)
        drawn_with = written.ran[0 if learns else index : index + 1]
        same = bool(drawn_with) and all(ran == params for ran in drawn_with)
        ran = token.id if same and not token.forced else None
        if stored is None:
            if token.trace is None:
                return None
            logits, known = _Rest(written, params).complete(token.trace)
            table = cascade(sampler, logits.copy(), history, basis=Basis.TRUNCATED, known=known, ran=ran)
            table = _counted(table, token.trace if same else None)
            return table if ran is None else replace(table, u=token.trace.u)
        table = cascade(sampler, _as_it_was(stored, token.trace), history, ran=ran)
        basis = _basis(stored, table.picked, table.u, table.p) if ran is None else Basis.EXACT
        return replace(table, basis=Basis.TRUNCATED if guessed and ran is None else basis)
    finally:
        sampler.close()


def _counted(table: Waterfall, trace: TokenTrace | None) -> Waterfall:
    """A table of supposed logits with the counts of the draw itself, where its trace has them."""
    columns = list(table.columns)
    stages = () if trace is None else trace.stages
    true = {stage.name: stage.survivors for stage in stages if not stage.at_least}
    for index, column in enumerate(columns[1:], start=1):
        n = true.get(column.name)
        columns[index] = replace(column, survivors=column.survivors if n is None else n, guessed=n is None)
    return replace(table, columns=tuple(columns))


def _asked(
    sampler: Sampler, written: Written, params: SamplingParams, recent: RecentLogits | None, stop: int
) -> Iterator[tuple[GeneratedToken, Outcome | None]]:
    """The tokens before `stop` with their outcomes, None where nothing is known; the caller lets `sampler` go on."""
    key, rest = prefix_key(written.before), _Rest(written, params)
    learns = bool(sampler.state)
    same, guessed = True, False
    for index, token in enumerate(written.tokens[:stop]):
        now = written.ran[index] == params
        same = same and now
        came_out = Outcome(index, token.id, token.id, Basis.EXACT)  # with what it was drawn by, it does so again
        if now and not learns:
            yield token, came_out if token.trace is not None else None
        else:
            stored = recent.get(key) if recent is not None else None
            outcome = _ask(sampler, index, token, len(written.before) + index, stored, rest)
            guessed = guessed or outcome is None or outcome.basis is Basis.TRUNCATED
            if outcome is not None and learns:
                outcome = came_out if same else replace(outcome, basis=Basis.TRUNCATED) if guessed else outcome
            yield token, outcome
        key = prefix_key((token.id,), key)


def _ask(
    sampler: Sampler, index: int, token: GeneratedToken, position: int, stored: StoredLogits | None, rest: _Rest
) -> Outcome | None:
    known = None
    if stored is not None:
        logits = _as_it_was(stored, token.trace)
    elif token.trace is not None:
        logits, known = rest.complete(token.trace)
    else:
        return None
    try:
        choice = sampler.choose(logits, position)
    except SamplingError:  # the settings leave none
        return Outcome(index, token.id, None, Basis.TRUNCATED if stored is None else Basis.EXACT)
    if stored is not None:
        return Outcome(index, token.id, choice.id, _basis(stored, choice.id, choice.u, choice.p))
    would = choice.id if known is not None and choice.id in known else None
    return Outcome(index, token.id, would, Basis.TRUNCATED)


def _basis(stored: StoredLogits, picked: int, u: float | None, p: NDArray[np.float64]) -> Basis:
    """Whether rounded logits may have decided: one was picked, or a neighbour's share begins next to `u`.

    A cut among rounded tokens may have taken one more or one less, which moves every share by up to that token's.

    Args:
        stored: What was drawn from.
        picked: The token.
        u: The draw; None when greedy.
        p: (n_survivors,) probabilities, best first.
    """
    at = int(np.searchsorted(stored.exact, picked))
    if at == len(stored.exact) or int(stored.exact[at]) != picked:
        return Basis.ROUNDED
    if u is None:
        return Basis.EXACT
    near = _NEAR + (float(p[-1]) if len(p) >= len(stored.exact) else 0.0)
    ends = np.cumsum(p)[:-1]  # what the last share ends at is no border
    after = int(np.searchsorted(ends, u))
    around = ends[max(0, after - 1) : after + 1]
    return Basis.ROUNDED if np.any(np.abs(around - u) < near) else Basis.EXACT


def _as_it_was(stored: StoredLogits, trace: TokenTrace | None) -> NDArray[np.float32]:
    if trace is not None:
        stored.logits[trace.id] = trace.logit
    return stored.logits


class _Rest:
    """Distributions of which only the best tokens are known.

    The probability that is left is given to tokens that no setting and no history names, falling geometrically from
    that of the least known one: p_n r, p_n r^2, ... with p_n r / (1 - r) = what is left, over as many as matter.
    """

    def __init__(self, written: Written, params: SamplingParams) -> None:
        named = set(summed_biases(params)).union(written.before, (token.id for token in written.tokens))
        free = np.ones(written.n_vocab, np.bool_)
        free[[token for token in named if token < written.n_vocab]] = False
        self._free = np.flatnonzero(free)[:_MOST_TAIL].astype(np.int32)
        self._logits = np.full(written.n_vocab, -np.inf, np.float32)
        self._used = np.empty(0, np.int32)

    def complete(self, trace: TokenTrace) -> tuple[NDArray[np.float32], Ids]:
        """(n_vocab,) logits, to be used before the next call, and the ids of those that are known."""
        top = dict(trace.top)
        least = min(top.values())
        top[trace.id] = trace.logit
        left = max(1e-9, 1.0 - sum(math.exp(logit - trace.logsumexp) for logit in top.values()))
        p_least = math.exp(least - trace.logsumexp)
        ratio = left / (left + p_least)
        length = min(_MOST_TAIL, max(_LEAST_TAIL, math.ceil(math.log(_TAIL_ENDS) / math.log(ratio))))
        known = np.fromiter(top, np.int32, len(top))
        places = np.searchsorted(self._free, known)
        taken = places[self._free[np.minimum(places, len(self._free) - 1)] == known] if len(self._free) else places[:0]
        tail = np.delete(self._free[: length + len(taken)], taken[taken < length + len(taken)])
        length = len(tail)
        self._logits[self._used] = -np.inf
        beyond = math.log1p(-(ratio**length)) if length else 0.0
        self._logits[tail] = least - beyond + np.arange(1, length + 1) * math.log(ratio)
        self._logits[known] = np.fromiter(top.values(), np.float32, len(top))
        self._used = np.concatenate((tail, known))
        return self._logits, known
