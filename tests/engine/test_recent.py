"""Rows of logits are kept as float16, the best of them as they were; whoever reads sees one row or none."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tui_chat.engine import recent
from tui_chat.engine.recent import RecentLogits, prefix_key
from tui_chat.engine.selection import select


def logits_of(seed: int, n: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, n).astype(np.float32)


@pytest.mark.parametrize("native", [True, False])
def test_a_row_comes_back_rounded_and_its_best_as_they_were(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(recent, "_conversions", None)
    elif recent._conversions is None:
        pytest.skip("this build of llama.cpp does not show its conversions")
    ring, logits = RecentLogits(5000, 4), logits_of(1)
    logits[7] = -np.inf
    ring.put(11, logits, select(logits, 100))
    row = ring.get(11)
    assert row is not None
    expected = logits.astype(np.float16).astype(np.float32)
    best = np.sort(np.argsort(-logits)[:100])
    expected[best] = logits[best]
    assert row.logits.tolist() == expected.tolist()
    assert set(row.exact.tolist()) >= set(best.tolist())
    assert np.all(np.diff(row.exact) > 0)


def test_enough_is_kept_exactly_even_where_the_chain_looked_at_one_token() -> None:
    ring, logits = RecentLogits(5000, 4), logits_of(2)
    assert len(ring.put(1, logits, select(logits, 1)).ids) >= 40
    assert len(ring.put(2, logits, None).ids) >= 40
    assert len(ring.put(3, logits, select(logits, 4000)).ids) < 1000
    flat = np.zeros(5000, np.float32)
    ring.put(4, flat, select(flat, 10))
    row = ring.get(4)
    assert row is not None
    assert len(row.exact) <= 1024


def test_the_oldest_rows_make_room_and_a_row_written_again_is_the_new_one() -> None:
    ring = RecentLogits(100, 3)
    for key in range(5):
        ring.put(key, np.full(100, key, np.float32), None)
    assert [ring.get(key) is not None for key in range(5)] == [False, False, True, True, True]
    ring.put(3, np.full(100, 30, np.float32), None)
    again, oldest = ring.get(3), ring.get(2)
    assert again is not None
    assert oldest is not None, "writing a row again takes no other's place"
    assert again.logits[0] == 30


def test_logits_too_large_for_float16_stay_finite() -> None:
    ring = RecentLogits(200, 2)
    logits = np.linspace(0, 1e6, 200, dtype=np.float32)
    ring.put(1, logits, None)
    row = ring.get(1)
    assert row is not None
    assert np.isfinite(row.logits).all()
    assert row.logits[-1] == logits[-1]


def test_a_prefix_is_named_by_its_tokens_and_their_order() -> None:
    assert prefix_key([1, 2, 3]) == prefix_key([3], prefix_key([1, 2]))
    assert len({prefix_key(ids) for ids in ([], [0], [0, 0], [1, 2], [2, 1], [12])}) == 6


def test_a_reader_sees_a_whole_row_or_none_while_it_is_written_over() -> None:
    ring = RecentLogits(20_000, 2)
    stop = threading.Event()

    def write() -> None:
        key = 0
        while not stop.is_set():
            key += 1
            ring.put(key, np.full(20_000, key % 2000, np.float32), None)
            latest[0] = key

    latest, seen = [0], 0
    writer = threading.Thread(target=write)
    writer.start()
    try:
        while seen < 300:
            key = latest[0]
            row = ring.get(key)
            if row is not None:
                seen += 1
                assert row.logits.min() == row.logits.max() == key % 2000
    finally:
        stop.set()
        writer.join()


def test_256_rows_of_the_largest_vocabulary_fit_into_100_megabytes() -> None:
    assert RecentLogits(151_936).size_bytes + 256 * 8 * 1024 <= 100e6
