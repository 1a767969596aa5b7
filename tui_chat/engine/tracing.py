"""The figures for people: what one distribution says, and how the chosen token stands in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.expsums import ExpSums
from tui_chat.engine.sampling import Choice
from tui_chat.engine.selection import Selection, best_first, refuse, select
from tui_chat.engine.types import StageTrace, TokenTrace


@dataclass(frozen=True, slots=True)
class Distribution:
    """A raw next-token distribution in a few numbers."""

    logsumexp: float
    """Nats."""
    entropy: float
    """Nats."""
    top: tuple[tuple[int, float], ...]
    """(id, logit) of the best tokens, best first."""

    @property
    def confidence(self) -> float:
        """Probability of the best token."""
        return math.exp(self.top[0][1] - self.logsumexp)


class Tracer:
    """Computes figures over a vocabulary.

    Args:
        n_vocab: Size of the vocabulary.
        top_n: How many of the best tokens to keep.
    """

    def __init__(self, n_vocab: int, top_n: int) -> None:
        self._exp_sums = ExpSums()
        self._top_n = min(top_n, n_vocab)

    def measure(
        self, logits: NDArray[np.float32], selection: Selection | None = None, *, position: int = 0
    ) -> Distribution:
        """Logsumexp, entropy and the best tokens of a raw distribution.

        With e = exp(l - max): logsumexp = max + ln(sum e), entropy = ln(sum e) - sum(e (l - max)) / sum e.

        Args:
            logits: (n_vocab,) float32.
            selection: The best of them, if they are known.
            position: Index in the context of the token that they are for.

        Raises:
            DecodeError: A logit is NaN or +inf.
            SamplingError: All are -inf.
        """
        if selection is None or len(selection.ids) < self._top_n:
            selection = select(logits, self._top_n)
        if not math.isfinite(selection.highest):
            refuse(logits, selection.highest, position)
        top = best_first(selection.ids, logits)[: self._top_n]
        total, weighted = self._exp_sums(logits, selection.highest)
        return Distribution(
            logsumexp=selection.highest + math.log(total),
            entropy=max(0.0, math.log(total) - weighted / total),
            top=tuple(zip(top.tolist(), logits[top].tolist(), strict=True)),
        )

    def trace(
        self,
        logits: NDArray[np.float32],
        distribution: Distribution,
        choice: Choice,
        position: int,
        piece: bytes,
        seconds: float,
    ) -> TokenTrace:
        """The trace of a token chosen from `logits`; see `TokenTrace`."""
        return TokenTrace(
            position=position,
            id=choice.id,
            piece=piece,
            logit=float(logits[choice.id]),
            logsumexp=distribution.logsumexp,
            rank=rank(logits, choice.id, distribution.top),
            entropy=distribution.entropy,
            top=distribution.top,
            stages=_with_loss(choice, logits, distribution.logsumexp),
            final=tuple(zip(choice.ids[: self._top_n].tolist(), choice.p[: self._top_n].tolist(), strict=True)),
            u=choice.u,
            seconds=seconds,
        )


def _with_loss(choice: Choice, logits: NDArray[np.float32], logsumexp: float) -> tuple[StageTrace, ...]:
    """The stages of a choice; that of a grammar says how much probability it took away."""
    if (verdict := choice.verdict) is None:
        return choice.stages
    lost = verdict.lost(logits, logsumexp)
    return tuple(replace(stage, lost=lost) if stage.name == "grammar" else stage for stage in choice.stages)


def rank(logits: NDArray[np.float32], token: int, top: tuple[tuple[int, float], ...] = ()) -> int:
    """1 for the best logit; tokens with equal logits share the better rank.

    Args:
        logits: (n_vocab,) float32.
        token: Whose rank.
        top: The best (id, logit) if they are known: a token among them needs no pass over the vocabulary.
    """
    logit = float(logits[token])
    if top and logit >= top[-1][1]:
        return 1 + sum(1 for _, other in top if other > logit)
    return 1 + int(np.count_nonzero(logits > logit))
