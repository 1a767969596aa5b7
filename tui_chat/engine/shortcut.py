"""Which tokens can survive the first truncation of a chain, so that only those go through llama.cpp's stages.

What stands before it (biases, bans, penalties, DRY) moves single tokens only; a grammar refuses tokens, each by itself.
So the first truncation is decided here from the model's logits with those few put right: top-k by order, min-p and
top-n-σ by a bound, top-p and mirostat 2 by a bound that follows from the sum over all. What the chain then does with
that pool equals what it would do with the whole vocabulary; a property test says so. A grammar is asked about the best
tokens first, and about all of them only where that does not decide it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.expsums import Deviation, ExpSums
from tui_chat.engine.feedback import Mirostat
from tui_chat.engine.grammar import Grammar, Verdict
from tui_chat.engine.selection import Selection, select
from tui_chat.engine.stages import ELEMENTWISE, FLOAT32_HOLDS, Stage
from tui_chat.engine.types import SamplingParams

Logits = NDArray[np.float32]
Ids = NDArray[np.intp]

_AT_LEAST = 32
"""Of the best tokens known for each distribution: as many as a trace keeps, and a first try for a grammar."""
_MOST_ASKED = 2048
"""Where more would have to be asked about, a grammar allows little of the vocabulary: its prefixes are the faster way.
"""
_TOP_P_MARGIN = 1e-4
_MARGIN = 1e-3
"""A bound from here only gathers candidates where the stage itself decides: a little lower does no harm. Nats."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """All tokens that may survive the first truncation."""

    ids: Ids
    verdict: Verdict | None = None
    bound: float | None = None
    """Lowest logit that top-n-σ keeps."""
    log_total: float | None = None
    """Log of the sum of exp(logit) over everything at that stage, nats; known for top-p and mirostat 2."""


class Shortcut:
    """Finds the pool of one chain.

    Args:
        params: The settings.
        stages: Those that do something, in their order.
        moved: Gives (n,) tokens' logits behind the stages before the first truncation.
    """

    def __init__(self, params: SamplingParams, stages: Sequence[Stage], moved: Callable[[Logits, Ids], Logits]) -> None:
        self._params, self._moved = params, moved
        self.cut = next((stage for stage in stages if not _is_elementwise(stage.name, params)), None)
        self.n_before = stages.index(self.cut) if self.cut else len(stages)
        """How many stages stand before the first truncation."""
        scaled = any(stage.name == "temperature" for stage in stages[: self.n_before])
        name = self.cut.name if self.cut else ""
        feedback = self.cut.feedback if self.cut else None
        find = {"top_k": self._top_k, "min_p": self._min_p, "top_n_sigma": self._top_n_sigma, "top_p": self._top_p}
        self._find = find.get(name)
        if isinstance(feedback, Mirostat) and feedback.has_bound:
            self._find = self._mirostat
        self._temperature = np.float32(params.temperature) if scaled else None
        self._mirostat_stage = feedback if isinstance(feedback, Mirostat) else None
        self._exp_sums, self._deviation = ExpSums(), Deviation()
        self.room = max(_AT_LEAST, params.top_k if self._find == self._top_k else 0)
        """How many of the best logits `pool` wants to be given, besides those that were moved."""

    def pool(self, logits: Logits, best: Selection, touched: Ids, grammar: Grammar | None) -> Pool | None:
        """The pool of one distribution; None where it is not smaller than the vocabulary by much, or not known.

        Args:
            logits: (n_vocab,) raw; no NaN and no +inf.
            best: At least `room` + len(touched) of the best.
            touched: Tokens that the stages before the first truncation move.
            grammar: If one stands before the first truncation.
        """
        if self._find is None or len(best.ids) * 2 >= len(logits):
            return None
        if self.cut is not None and self.cut.name in ("top_n_sigma", "top_p") and len(logits) <= FLOAT32_HOLDS:
            return None
        return self._find(logits, best, touched, grammar)

    def _top_k(self, logits: Logits, best: Selection, touched: Ids, grammar: Grammar | None) -> Pool:
        wanted = self._params.top_k + len(touched)
        if grammar is None:
            rest = touched[logits[touched] < best.bound]
            return Pool(np.concatenate((best.ids, rest)) if len(rest) else best.ids)
        while True:
            allowed = grammar.allows(best.ids)
            count = int(np.count_nonzero(allowed))
            if count >= wanted:
                rest = touched[logits[touched] < best.bound]
                rest = rest[grammar.allows(rest)]
                verdict = Verdict(_ids(best.ids[allowed]), _ids(best.ids[~allowed]))
                return Pool(np.concatenate((best.ids[allowed], rest)), verdict)
            more = 2 * len(best.ids) * (wanted + 1) // (count + 1)
            if more > _MOST_ASKED:
                break
            best = select(logits, more)
        everything = grammar.allowed()
        ids = everything[select(logits[everything], wanted).ids] if len(everything) > wanted else everything
        apart = np.zeros(len(logits), np.bool_)
        apart[everything] = True
        apart[ids] = False
        return Pool(np.concatenate((ids, touched[apart[touched]])).astype(np.intp), Verdict(everything, None))

    def _min_p(self, logits: Logits, best: Selection, touched: Ids, grammar: Grammar | None) -> Pool:
        base = self._base(logits, touched)
        reach = math.log(self._params.min_p) - _MARGIN
        if grammar is None:
            return Pool(np.flatnonzero(base >= float(base.max()) + reach))
        first = best.ids if base is logits else select(base, self.room).ids
        highest = base[first[grammar.allows(first)]]
        if not len(highest) or highest.max() == -np.inf:
            everything = grammar.allowed()
            bound = float(base[everything].max(initial=-math.inf)) + reach
            return Pool(everything[base[everything] >= bound].astype(np.intp), Verdict(everything, None))
        asked = np.flatnonzero(base >= float(highest.max()) + reach)
        allowed = grammar.allows(asked)
        return Pool(asked[allowed], Verdict(_ids(asked[allowed]), _ids(asked[~allowed])))

    def _top_n_sigma(self, logits: Logits, best: Selection, touched: Ids, grammar: Grammar | None) -> Pool | None:
        base, verdict = self._exact_base(logits, touched, grammar)
        highest = float(base.max())
        if highest == -math.inf:
            return None
        bound = highest - self._params.top_n_sigma * self._deviation(base)
        return Pool(np.flatnonzero(base >= bound), verdict, bound)

    def _top_p(self, logits: Logits, best: Selection, touched: Ids, grammar: Grammar | None) -> Pool | None:
        base, verdict = self._exact_base(logits, touched, grammar)
        log_total = self._log_total(base)
        if log_total is None:
            return None
        count = 8 * _AT_LEAST
        while count * 2 < len(base):
            ids = select(base, count).ids
            reached = float(np.exp(base[ids].astype(np.float64) - log_total).sum())
            if reached >= self._params.top_p + _TOP_P_MARGIN:
                return Pool(ids[base[ids] > -np.inf], verdict, log_total=log_total)
            count *= 8
        return Pool(np.flatnonzero(base > -np.inf), verdict, log_total=log_total)

    def _mirostat(self, logits: Logits, best: Selection, touched: Ids, grammar: Grammar | None) -> Pool | None:
        base, verdict = self._exact_base(logits, touched, grammar)
        log_total = self._log_total(base)
        if log_total is None or self._mirostat_stage is None:
            return None
        bound = min(float(base.max()), self._mirostat_stage.lowest(log_total) - _MARGIN)
        return Pool(np.flatnonzero(base >= bound), verdict, log_total=log_total)

    def _base(self, logits: Logits, touched: Ids) -> Logits:
        """The logits behind biases, penalties and a fixed temperature."""
        if not len(touched) and self._temperature is None:
            return logits
        base = logits.copy() if self._temperature is None else logits / self._temperature
        base[touched] = self._moved(logits, touched)
        return base

    def _exact_base(self, logits: Logits, touched: Ids, grammar: Grammar | None) -> tuple[Logits, Verdict | None]:
        """The logits behind biases, penalties and the whole grammar: a sum over all tokens needs to know all."""
        base = self._base(logits, touched)
        if grammar is None:
            return base, None
        everything = grammar.allowed()
        masked = np.full_like(base, -np.inf)
        masked[everything] = base[everything]
        return masked, Verdict(everything, None)

    def _log_total(self, base: Logits) -> float | None:
        highest = float(base.max())
        if highest == -math.inf:
            return None
        return highest + math.log(self._exp_sums(base, highest)[0])


def _is_elementwise(name: str, params: SamplingParams) -> bool:
    if name == "temperature" and (params.temperature == 0 or params.dynatemp_range > 0):
        return False
    return name in ELEMENTWISE


def _ids(ids: Ids) -> NDArray[np.int32]:
    return ids.astype(np.int32)
