"""How well a model expects a text: figures of every token of it, taken from the logits of whole batches.

A prompt needs the output matrix once, scoring needs it for every token: that alone makes llama.cpp slower than in a
prefill, by a fifth to a quarter where that matrix holds a quarter of the weights. What is done here comes on top,
about 5% for the smallest models (tests/benchmarks/perplexity.py measures both).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.context import Context
from tui_chat.engine.control import CancelFlag
from tui_chat.engine.expsums import ExpSums
from tui_chat.engine.recent import RecentLogits
from tui_chat.engine.selection import refuse
from tui_chat.engine.tracing import Tracer, rank
from tui_chat.engine.types import TokenTrace
from tui_chat.engine.vocabulary import Vocabulary

_LOGITS_BYTES = 64 << 20
"""Most memory for the logits of a batch."""
_MOST_OUTPUTS = 256
"""Of a larger batch, the first logits have left the cache before they are looked at: 5% slower at 512 on a CPU."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How a run of tokens was expected, each given those before it: arrays of shape (n,)."""

    surprisal: NDArray[np.float64]
    """Nats: -ln p of the token that stands there."""
    entropy: NDArray[np.float64]
    """Nats: the surprisal that the model expected."""
    rank: NDArray[np.int64]
    """1 where no token was likelier."""
    best: NDArray[np.int64]
    """Id of the likeliest token."""


def most_outputs(n_vocab: int) -> int:
    """Tokens of a batch whose logits may be wanted at once."""
    return max(1, min(_MOST_OUTPUTS, _LOGITS_BYTES // (4 * n_vocab)))


def score(context: Context, ids: Sequence[int], cancel: CancelFlag | None = None) -> Iterator[Scores]:
    """See `Engine.score`."""
    context.rewind(0)
    targets = np.asarray(ids[1:], np.int64)
    for start in range(0, len(targets), context.n_outputs):
        part = targets[start : start + context.n_outputs]
        yield score_rows(context.extend(ids[start : start + len(part)], cancel), part, start + 1)


def score_rows(logits: NDArray[np.float32], targets: NDArray[np.int64], position: int = 0) -> Scores:
    """The figures of tokens from the distributions they could have come from; see `Tracer.measure` for the sums.

    Args:
        logits: (n, n_vocab) float32, contiguous.
        targets: (n,) the tokens.
        position: Index in the context of the first of them.

    Raises:
        DecodeError: A logit is NaN or +inf.
        SamplingError: All logits for a token are -inf.
    """
    rows = np.arange(len(targets))
    best = logits.argmax(axis=1)
    highest, reached = logits[rows, best].astype(np.float64), logits[rows, targets]
    if not np.isfinite(highest).all():
        row = int(np.flatnonzero(~np.isfinite(highest))[0])
        refuse(logits[row], float(highest[row]), position + row)
    exp_sums = ExpSums()
    sums = np.array([exp_sums(row, top) for row, top in zip(logits, highest.tolist(), strict=True)])
    total, weighted = sums[:, 0], sums[:, 1]
    rank = np.ones(len(targets), np.int64)
    for index in np.flatnonzero(reached < highest):
        rank[index] += np.count_nonzero(logits[index] > reached[index])
    return Scores(
        surprisal=highest + np.log(total) - reached,
        entropy=np.maximum(0.0, np.log(total) - weighted / total),
        rank=rank,
        best=best,
    )


def read(
    context: Context,
    vocab: Vocabulary,
    ids: Sequence[int],
    start: int,
    stop: int,
    top_n: int,
    cancel: CancelFlag | None = None,
    keep: RecentLogits | None = None,
) -> Iterator[tuple[TokenTrace, ...]]:
    """See `Engine.read`."""
    began = time.perf_counter()
    first = max(start, 1)
    if first >= stop:
        return
    if first > 1:
        for _ in context.prefill(ids[: first - 1], cancel):
            pass
    else:
        context.rewind(0)
    tracer = Tracer(vocab.n_vocab, top_n)
    for begin in range(first, stop, context.n_outputs):
        part = ids[begin : min(stop, begin + context.n_outputs)]
        rows = context.extend(ids[begin - 1 : begin - 1 + len(part)], cancel)
        traces = []
        for position, (token, logits) in enumerate(zip(part, rows, strict=True), start=begin):
            found = tracer.measure(logits, position=position)
            if keep is not None:
                keep.put(context.key(position), logits, None)
            traces.append(
                TokenTrace(
                    position=position,
                    id=token,
                    piece=vocab.piece(token),
                    logit=float(logits[token]),
                    logsumexp=found.logsumexp,
                    rank=rank(logits, token, found.top),
                    entropy=found.entropy,
                    top=found.top,
                    stages=(),
                    final=(),
                    u=None,
                    seconds=time.perf_counter() - began,
                )
            )
        yield tuple(traces)
