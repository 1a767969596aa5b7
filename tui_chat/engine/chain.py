"""One distribution's way through the stages: what each of them left, and where a rule had to be bent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.grammar import Grammar, Verdict
from tui_chat.engine.samplers import CandidateArray
from tui_chat.engine.selection import falling
from tui_chat.engine.shortcut import Pool
from tui_chat.engine.stages import LEAVES_INFINITE, Chained, Stage, summed_biases
from tui_chat.engine.types import SamplingParams
from tui_chat.errors import SamplingError

KEPT_BEST = "it would have removed every candidate: the best one stays"
"""Noted of a stage that left what it should have removed (`StageTrace.note`)."""

_ONLY_BANNED = "the grammar allows only banned tokens {where}: lift the ban, or leave the grammar out"


class Run:
    """The candidates of one position, stage by stage.

    Args:
        params: The settings.
        before: The stages before the first truncation: they meet the whole vocabulary, in the array or not.
        candidates: To be filled.
        logits: (n_vocab,) float32, raw.
        pool: What can survive the first truncation; None puts everything into the array.
        grammar: The grammar of the chain.
        number: Which token of the answer it is, from 1, for errors.
        ask_all: Let llama.cpp read the whole array through the grammar instead of walking down its prefixes.
    """

    def __init__(
        self,
        params: SamplingParams,
        before: Sequence[Stage],
        candidates: CandidateArray,
        logits: NDArray[np.float32],
        pool: Pool | None,
        grammar: Grammar | None,
        number: int,
        *,
        ask_all: bool,
    ) -> None:
        self._params, self._before, self._logits = params, before, logits
        self._pool, self._grammar, self._ask_all = pool, grammar, ask_all
        self._where = f"as token {number} of the answer"
        self._chained = Chained(candidates)
        self._whole = True
        self._banned: NDArray[np.intp] = np.empty(0, np.intp)
        self.at_least = False
        """Whether `survivors` may be more."""
        self.verdict: Verdict | None = None
        """What the grammar said, once it was asked."""
        if pool is None:
            candidates.fill(np.arange(len(logits)), logits)
            self._chained.drop_infinite()
            self.survivors = len(candidates)
        else:
            candidates.fill(pool.ids, logits[pool.ids])
            self._chained.ghosts = len(logits) - len(pool.ids)
            self._chained.bound, self._chained.log_total = pool.bound, pool.log_total
            self.survivors = self._count_finite() if before else 0

    def through(self, stage: Stage) -> str:
        """Apply one stage, and give what to note of it.

        Raises:
            SamplingError: It leaves nothing, and keeping a token against it would break a promise.
        """
        chained, candidates = self._chained, self._chained.candidates
        if self._whole and stage not in self._before:
            self._whole = self.at_least = False
        rescue = candidates.view().copy() if stage.name == "logit_bias" and not self._whole else None
        note = ""
        if stage.name == "grammar":
            self._obey()
        elif stage.own is not None:
            note = stage.own(chained)
        elif stage.native is not None or stage.bans is not None:
            stage.apply(candidates)
        elif stage.feedback is not None:
            view = candidates.view()
            note = stage.feedback.says()
            candidates.fill(*stage.feedback.cut(*falling(view["id"], view["logit"]), chained.log_total))
        if stage.name == "logit_bias":
            candidates.forget_order()
        if stage.name in LEAVES_INFINITE:
            chained.drop_infinite()
        chained.log_total = None if stage not in self._before else chained.log_total
        chained.passed(stage.name, self._params)
        if not len(candidates):
            note = self._keep_best(rescue)
        self._count(stage)
        return note

    def _obey(self) -> None:
        """Apply the grammar."""
        assert self._grammar is not None
        candidates = self._chained.candidates
        if self._pool is not None and self._whole:
            self.verdict = self._pool.verdict  # it was asked already: only what it allowed is in the pool
        elif self._whole and not self._ask_all:
            self.verdict = Verdict(self._grammar.allowed(), None)
            keep = np.zeros(len(self._logits), np.bool_)
            keep[self.verdict.allowed] = True
            view = candidates.view()
            view["logit"][~keep[view["id"]]] = -np.inf
        else:
            view = candidates.view()
            allowed = self._grammar.allows(view["id"])
            ids = view["id"].copy()
            self.verdict = Verdict(ids[allowed], None if self._whole else ids[~allowed])
            view["logit"][~allowed] = -np.inf
        if self.verdict is not None and not len(self.verdict.allowed):
            where = self._where
            if not self._whole:
                raise SamplingError(
                    f"the grammar refuses all {len(candidates)} tokens that the stages before it left {where}: "
                    "put grammar first in the order"
                )
            if len(self._grammar.allowed()):
                raise SamplingError(_ONLY_BANNED.format(where=where))
            raise SamplingError(f"the grammar allows no token of this model {where}: no text can go on here")

    def _keep_best(self, rescue: NDArray[np.void] | None) -> str:
        """Every candidate is gone: the rule that took the last one leaves the best it was given, and says so."""
        if rescue is None:
            if self.verdict is not None or (self._pool is not None and self._pool.verdict is not None):
                raise SamplingError(_ONLY_BANNED.format(where=self._where))
            raise SamplingError(f"no token can come {self._where}: every candidate is banned; lift a ban")
        best = rescue[np.lexsort((rescue["id"], -rescue["logit"]))[:1]]
        self._chained.candidates.fill(best["id"], best["logit"])
        return KEPT_BEST

    def _count(self, stage: Stage) -> None:
        """Bring `survivors` up to date behind a stage."""
        if self._pool is None or not self._whole:
            self.survivors = len(self._chained.candidates)
            return
        if stage.name == "logit_bias":
            total = summed_biases(self._params)
            self._banned = np.array([token for token, value in total.items() if value == -math.inf], np.intp)
            if stage.bans is not None:
                self._banned = np.union1d(self._banned, stage.bans.refused)
            gone = self._banned if self.verdict is None else self._banned_of(self.verdict.allowed)
            self.survivors -= self._alive(gone)
        elif stage.name == "grammar" and self.verdict is not None:
            allowed = self.verdict.allowed
            self.survivors = self._alive(allowed) - self._alive(self._banned_of(allowed))
            self.at_least = self.verdict.refused is not None

    def _banned_of(self, ids: NDArray[np.int32]) -> NDArray[np.intp]:
        """The banned tokens among some."""
        return self._banned[np.isin(self._banned, ids, kind="table")] if len(self._banned) else self._banned

    def _alive(self, ids: NDArray[np.integer]) -> int:
        return int(np.count_nonzero(self._logits[ids] > -np.inf))

    def _count_finite(self) -> int:
        return len(self._logits) if self._logits.min() > -np.inf else int(np.count_nonzero(self._logits > -np.inf))
