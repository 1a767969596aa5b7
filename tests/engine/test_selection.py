"""The shortcut to the best logits must never miss one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tui_chat.engine.selection import at_least, best_first


@given(
    st.integers(1, 5000),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 3, 1000]),
)
def test_holds_the_best_and_every_tie(n: int, count: int, seed: int, levels: int) -> None:
    logits = np.random.default_rng(seed).integers(0, levels, n).astype(np.float32)
    ids = at_least(logits, count)
    count = min(count, n)
    assert len(ids) >= count
    bound = np.sort(logits)[n - count]
    assert set(np.flatnonzero(logits >= bound)) <= set(ids.tolist())
    assert np.all(np.diff(ids) > 0)
    ordered = best_first(ids, logits)
    assert np.all(np.diff(logits[ordered]) <= 0)


def test_a_large_vocabulary_gives_few_more_than_asked() -> None:
    logits = np.random.default_rng(1).normal(0, 3, 151_936).astype(np.float32)
    ids = at_least(logits, 40)
    assert 40 <= len(ids) <= 80
