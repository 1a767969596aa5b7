"""The shortcut to the best logits must never miss one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_chat.engine.selection import best_first, select, smallest_set


@given(
    st.integers(1, 5000),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 3, 1000]),
)
def test_holds_the_best_and_every_tie(n: int, count: int, seed: int, levels: int) -> None:
    logits = np.random.default_rng(seed).integers(0, levels, n).astype(np.float32)
    ids, bound, highest = select(logits, count)
    count = min(count, n)
    assert len(ids) >= count
    assert bound <= np.sort(logits)[n - count]
    assert ids.tolist() == np.flatnonzero(logits >= bound).tolist()
    assert highest == logits.max()
    assert np.all(np.diff(ids) > 0)
    ordered = best_first(ids, logits)
    assert np.all(np.diff(logits[ordered]) <= 0)


def test_a_large_vocabulary_gives_few_more_than_asked() -> None:
    logits = np.random.default_rng(1).normal(0, 3, 151_936).astype(np.float32)
    ids = select(logits, 40).ids
    assert 40 <= len(ids) <= 80


@pytest.mark.parametrize("place", [0, 31, 4000, 4999])
def test_a_nan_anywhere_shows(place: int) -> None:
    logits = np.zeros(5000, np.float32)
    logits[place] = np.nan
    assert np.isnan(select(logits, 10).highest)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 300),
    spread=st.sampled_from([0.0, 0.01, 1.0, 40.0]),
    wanted=st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1)),
    reached=st.booleans(),
)
def test_the_smallest_set_is_what_a_sort_would_find(
    seed: int, n: int, spread: float, wanted: float, reached: bool
) -> None:
    rng = np.random.default_rng(seed)
    keys = np.round(rng.exponential(1, n) * spread, 3)  # with ties
    mass = rng.integers(1, 9, n) / 64  # exact in binary, so that sums do not depend on their order
    kept = smallest_set(keys, mass, wanted, reached=reached)
    order = np.argsort(keys, kind="stable")
    total, count = 0.0, 0
    for place in order:
        total, count = total + mass[place], count + 1
        if total > wanted or (reached and total == wanted):
            break
    assert sorted(np.flatnonzero(kept)) == sorted(order[:count])
