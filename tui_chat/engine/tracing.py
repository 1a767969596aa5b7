"""The figures for people: what one distribution says, and how the chosen token stands in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.sampling import Choice
from tui_chat.engine.selection import at_least, best_first
from tui_chat.engine.types import TokenTrace


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
    """Computes figures over a vocabulary without allocating per token.

    Args:
        n_vocab: Size of the vocabulary.
        top_n: How many of the best tokens to keep.
    """

    def __init__(self, n_vocab: int, top_n: int) -> None:
        self._shifted = np.empty(n_vocab, np.float32)
        self._exp = np.empty(n_vocab, np.float32)
        self._top_n = min(top_n, n_vocab)

    def measure(self, logits: NDArray[np.float32]) -> Distribution:
        """Logsumexp, entropy and the best tokens of (n_vocab,) float32 raw logits.

        With e = exp(l - max): logsumexp = max + ln(sum e), entropy = ln(sum e) - sum(e (l - max)) / sum e.
        """
        top = best_first(at_least(logits, self._top_n), logits)[: self._top_n]
        best = logits[top[0]]
        np.subtract(logits, best, out=self._shifted)
        np.exp(self._shifted, out=self._exp)
        total = float(self._exp.sum())
        with np.errstate(invalid="ignore"):  # 0 * -inf, of tokens the model itself rules out
            np.multiply(self._exp, self._shifted, out=self._shifted)
        weighted = float(self._shifted.sum())
        if math.isnan(weighted):
            weighted = float(np.nansum(self._shifted))
        return Distribution(
            logsumexp=float(best) + math.log(total),
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
            stages=choice.stages,
            final=tuple(zip(choice.ids[: self._top_n].tolist(), choice.p[: self._top_n].tolist(), strict=True)),
            u=choice.u,
            seconds=seconds,
        )


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
