"""The best few of many logits, exactly, in about one pass over them.

`np.partition` of 151,936 float32 takes 0.8 ms. Here the maxima of interleaved blocks give a lower bound on the k-th
best logit: the k-th best block maximum has at least k logits at or above it. One elementwise maximum, one partition of
a few thousand numbers and one comparison follow, and no state is carried from token to token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = 32


def at_least(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Ids of at least the `count` best logits, with every tie of the last one.

    Args:
        logits: (n_vocab,) float32 without NaN.
        count: How many are needed.

    Returns:
        Ascending ids; often some more than `count`, all of them when `count` is a large part of the vocabulary.
    """
    n = len(logits)
    columns = n // _ROWS
    if count * 2 >= columns:
        if count >= n:
            return np.arange(n)
        bound = np.partition(logits, n - count)[n - count]
    else:
        maxima = logits[: columns * _ROWS].reshape(_ROWS, columns).max(axis=0)
        bound = np.partition(maxima, columns - count)[columns - count]
    return np.flatnonzero(logits >= bound)


def best_first(ids: NDArray[np.intp], logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """`ids` by falling logit, ties by rising id.

    Args:
        ids: Any ids, ascending.
        logits: (n_vocab,) float32.
    """
    return ids[np.argsort(-logits[ids], kind="stable")]
