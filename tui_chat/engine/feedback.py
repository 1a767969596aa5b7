"""Stages that look at what was drawn: mirostat 1 and 2, and adaptive-p.

llama.cpp's own (`llama_sampler_mirostat_apply`, `llama_sampler_mirostat_v2_apply`, `llama_sampler_adaptive_p_apply`)
draw the token themselves, with a generator of theirs. Here their arithmetic is done in float64, the draw stays ours,
and what they learn comes from the token that was accepted. So their state is a function of the settings and of the
answer's tokens, as everything else is.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.types import SamplingParams

State = tuple[float, ...]
"""What such a stage has learnt so far."""

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]


class Feedback(Protocol):
    """A stage with a memory."""

    name: str
    state: State

    def cut(self, ids: Ids, logits: Logits, log_total: float | None = None) -> tuple[Ids, Logits]:
        """What it leaves of (n,) candidates, finite and best first; it remembers what it saw until `accept`.

        Args:
            ids: The tokens.
            logits: Theirs, nats.
            log_total: Log of the sum of exp(logit) where there are more candidates, all of them worse; nats.
        """
        ...

    def accept(self, token: int) -> None:
        """Learn from the token that came. Nothing happens where `cut` saw no candidates, or not this one."""
        ...

    def says(self) -> str:
        """Its state in a few words."""
        ...


def make_feedback(params: SamplingParams, name: str, n_vocab: int) -> Feedback | None:
    """The stage of this name; None where the settings leave it off."""
    if name == "mirostat" and params.mirostat:
        return Mirostat(params.mirostat, params.mirostat_tau, params.mirostat_eta, n_vocab)
    if name == "adaptive_p" and params.adaptive_target >= 0:
        return AdaptiveP(params.adaptive_target, params.adaptive_decay)
    return None


def learns(params: SamplingParams) -> bool:
    """Whether the chain of these settings has such a stage."""
    return any(make_feedback(params, name, 1) is not None for name in params.order)


class Mirostat:
    """Keeps the surprise of what is drawn near tau (Basu et al., Mirostat, 2020).

    Version 2 keeps the tokens whose surprise is at most mu; version 1 estimates Zipf's exponent from the best hundred
    and from it how many to keep. Then, with the surprise of the token among those kept, mu -= eta (surprise - tau).

    Args:
        version: 1 or 2.
        tau: Bits.
        eta: Share of the error that is corrected.
        n_vocab: Size of the vocabulary; version 1 uses it.
    """

    name = "mirostat"

    def __init__(self, version: int, tau: float, eta: float, n_vocab: int) -> None:
        self._version, self._tau, self._eta, self._n_vocab = version, tau, eta, n_vocab
        self.state: State = (2 * tau,)
        self._before = self._after = _NOTHING

    @property
    def mu(self) -> float:
        """The largest surprise that is let through, bits."""
        return self.state[0]

    def cut(self, ids: Ids, logits: Logits, log_total: float | None = None) -> tuple[Ids, Logits]:
        """See `Feedback`."""
        surprise = _surprise(logits, log_total)
        keep = self._zipf(logits) if self._version == 1 else int(np.searchsorted(surprise, self.mu, side="right"))
        keep = max(1, min(keep, len(ids)))
        kept, left = ids[:keep], logits[:keep]
        self._before, self._after = (ids, surprise), (kept, _surprise(left))
        return kept, left

    def accept(self, token: int) -> None:
        """See `Feedback`. A token that was cut off and put there by hand counts with its surprise before the cut."""
        surprise = _of(token, self._after)
        surprise = _of(token, self._before) if surprise is None else surprise
        if surprise is not None:
            self.state = (self.mu - self._eta * (surprise - self._tau),)
        self._before = self._after = _NOTHING

    def says(self) -> str:
        """See `Feedback`."""
        return f"mu {self.mu:.2f} bits"

    @property
    def has_bound(self) -> bool:
        """Whether what it keeps follows from the sum over all candidates: version 2."""
        return self._version == 2

    def lowest(self, log_total: float) -> float:
        """The logit below which version 2 keeps nothing, where the log of the sum of exp(logit) is `log_total`."""
        return log_total - self.mu * _LN2

    def _zipf(self, logits: Logits) -> int:
        """How many of the candidates, best first, version 1 keeps; one where there are too few to tell."""
        best = logits[:_ZIPF].astype(np.float64)
        t = np.log1p(1 / np.arange(1, len(best)))
        if not len(t):
            return 1
        s = float(t @ (best[:-1] - best[1:]) / (t @ t))
        epsilon = s - 1
        if s <= 0 or epsilon == 0:
            return len(logits)
        # In logs: 2 ** mu and the root of it overflow where the distribution is flat.
        log_k = (
            math.log(abs(epsilon))
            + self.mu * _LN2
            - math.log(abs(-math.expm1(-epsilon * math.log(self._n_vocab))) or math.inf)
        ) / s
        return len(logits) if log_k > math.log(len(logits) + 1) else int(math.exp(log_k))


class AdaptiveP:
    """Prefers tokens whose probability is near a target, which moves against what was drawn.

    With p among the survivors and d = |p - target| / 0.3, the logit becomes 5 - 10 d² / (1 + d); the target is set so
    that a decaying mean of the drawn tokens' p comes to the one that was asked for.

    Args:
        target: From 0 to 1.
        decay: Of the mean, per token.
    """

    name = "adaptive_p"

    def __init__(self, target: float, decay: float) -> None:
        self._target, self._decay = target, decay
        self.state: State = (target / (1 - decay), 1 / (1 - decay))
        self._seen = _NOTHING

    @property
    def target(self) -> float:
        """The probability that is preferred now."""
        weighted, total = self.state
        return min(1.0, max(0.0, 2 * self._target - weighted / total))

    def cut(self, ids: Ids, logits: Logits, log_total: float | None = None) -> tuple[Ids, Logits]:
        """See `Feedback`; it removes nothing."""
        p = np.exp2(-_surprise(logits, log_total))
        self._seen = ids, p
        distance = np.abs(p - self.target) / _WIDTH
        changed = (_PEAK - _SHARPNESS * distance * distance / (1 + distance)).astype(np.float32)
        order = np.lexsort((ids, -changed))
        return ids[order], changed[order]

    def accept(self, token: int) -> None:
        """See `Feedback`."""
        if (p := _of(token, self._seen)) is not None:
            weighted, total = self.state
            self.state = (p + self._decay * weighted, 1 + self._decay * total)
        self._seen = _NOTHING

    def says(self) -> str:
        """See `Feedback`."""
        return f"target {self.target:.1%}"


_LN2 = math.log(2)
_ZIPF = 100
"""Tokens that version 1 looks at (m in the paper and in `common_sampler_init`)."""
_WIDTH, _PEAK, _SHARPNESS = 0.3, 5.0, 10.0
"""DISTRIBUTION_WIDTH, PEAK_LOGIT_VALUE and SHARPNESS of llama.cpp's adaptive-p."""
_NOTHING: tuple[Ids, NDArray[np.float64]] = (np.empty(0, np.int32), np.empty(0))


def _surprise(logits: Logits, log_total: float | None = None) -> NDArray[np.float64]:
    """Of each candidate, bits."""
    exact = logits.astype(np.float64)
    if log_total is None:
        highest = exact.max()
        log_total = highest + math.log(np.exp(exact - highest).sum())
    return (log_total - exact) / _LN2


def _of(token: int, seen: tuple[Ids, NDArray[np.float64]]) -> float | None:
    places = np.flatnonzero(seen[0] == token)
    return float(seen[1][places[0]]) if len(places) else None
