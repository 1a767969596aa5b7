"""A text as a model reads it: how much each token surprised it, window by window."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.display.figures import perplexity, perplexity_text
from tui_chat.engine.engine import Engine
from tui_chat.engine.scoring import most_outputs
from tui_chat.errors import UsageError
from tui_chat.language import _
from tui_chat.lessons.watch import Watch


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A text as a model read it. Arrays of shape (n,), one entry a token; NaN and 0 where it was not scored."""

    ids: tuple[int, ...]
    surprisal: NDArray[np.float64]
    """Nats."""
    entropy: NDArray[np.float64]
    """Nats."""
    rank: NDArray[np.int64]
    best: NDArray[np.int64]
    window: int
    """Most tokens of a window, BOS among them."""
    size: int
    """Tokens of the text in each window but the last."""
    has_bos: bool
    """Whether each window begins with BOS."""
    seconds: float
    """Evaluating and scoring."""

    @property
    def scored(self) -> NDArray[np.int64]:
        """Places of the scored tokens."""
        return np.flatnonzero(self.rank)

    @property
    def nll(self) -> float:
        """Mean surprisal in nats: the negative log-likelihood of a token."""
        return float(self.surprisal[self.scored].mean())

    @property
    def perplexity(self) -> float:
        """e to that; may be infinite."""
        return perplexity(self.nll)

    @property
    def most_expected(self) -> list[int]:
        """Places of the scored tokens, by surprisal."""
        scored = self.scored
        order: list[int] = scored[np.argsort(self.surprisal[scored], kind="stable")].tolist()
        return order

    @property
    def n_windows(self) -> int:
        """How many windows it took."""
        return -(-len(self.ids) // self.size)


def read(engine: Engine, watch: Watch, ids: Sequence[int], window: int) -> Reading:
    """Score tokens in windows that do not overlap, each beginning with BOS where the vocabulary asks for it.

    The first token of a window has nothing before it and is not scored; where that is BOS, all of the text is.
    (llama.cpp's `perplexity` scores the second half of each whole window alone.)

    Args:
        engine: Its cache stays as it is.
        watch: Told how far it is; stops it.
        ids: The text, without BOS.
        window: Most tokens of a window, at least 2.

    Raises:
        UsageError: There is no token to score.
        EngineError: It was stopped, or llama.cpp failed.
    """
    bos = engine.vocab.bos_id if engine.vocab.add_bos else None
    prefix = [] if bos is None else [bos]
    if not ids:
        raise UsageError(_("the text is empty: give some text to read"))
    if len(prefix) + len(ids) < 2:
        raise UsageError(_("the text is a single token, with nothing before it to expect it from: give more text"))
    n, size, unscored = len(ids), window - len(prefix), 1 - len(prefix)
    surprisal, entropy = np.full(n, np.nan), np.full(n, np.nan)
    rank, best = np.zeros(n, np.int64), np.zeros(n, np.int64)
    total, count = 0.0, 0
    with engine.aside(min(window, len(prefix) + n), n_outputs=most_outputs(engine.info.n_vocab)) as aside:
        begun = time.perf_counter()
        for start in range(0, n, size):
            at = start + unscored
            for scores in aside.score([*prefix, *ids[start : start + size]], watch.cancel):
                part = slice(at, at + len(scores.rank))
                surprisal[part], entropy[part] = scores.surprisal, scores.entropy
                rank[part], best[part] = scores.rank, scores.best
                at, total, count = part.stop, total + float(scores.surprisal.sum()), count + len(scores.rank)
                watch.say(
                    _("{done:,} of {n:,} tokens · perplexity so far {perplexity}").format(
                        done=at, n=n, perplexity=perplexity_text(perplexity(total / count))
                    )
                )
        seconds = time.perf_counter() - begun
    return Reading(tuple(ids), surprisal, entropy, rank, best, window, size, bool(prefix), seconds)
