"""The table must say what the draw saw: the same survivors, probabilities that sum to 1, and arithmetic that holds."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.native_chain import N_CTX, random_logits, random_params
from tui_chat.engine.cuts import Reason
from tui_chat.engine.sampling import Sampler, softmax
from tui_chat.engine.types import SamplingParams
from tui_chat.engine.waterfall import Order, Waterfall, cascade

CLOSE = 2e-5
NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)
SEEDS = st.integers(0, 2**63 - 1)


def case(seed: int) -> tuple[SamplingParams, np.ndarray, list[int]]:
    """Settings, logits and a history."""
    r, rng = random.Random(seed), np.random.default_rng(seed)
    n_vocab = r.choice([3, 20, 300, 300, 4000])
    params = replace(random_params(r, n_vocab), seed=seed % 1000)
    return params, random_logits(rng, n_vocab), [r.randrange(min(n_vocab, 50)) for _ in range(r.randint(0, 40))]


def table(params: SamplingParams, logits: np.ndarray, history: list[int] | None = None) -> Waterfall:
    history = history or []
    sampler = Sampler(params, len(logits), N_CTX, history)
    try:
        return cascade(sampler, logits, history)
    finally:
        sampler.close()


def holds(reason: Reason) -> bool:
    """Whether the arithmetic is true, up to the float32 of the native stages."""
    n = reason.numbers
    match reason.stage:
        case "logit_bias":
            return reason.words == "banned"
        case "top_k":
            return n["rank"] > n["k"]
        case "top_p":
            return n["before"] >= n["top_p"] - CLOSE
        case "min_p":
            return n["p"] < n["min_p"] * n["p_max"] * (1 + CLOSE)
        case "typical":
            return n["before"] > n["p"] - CLOSE and abs(abs(n["surprisal"] - n["entropy"]) - n["distance"]) < 1e-9
        case "top_n_sigma":
            return n["logit"] < n["highest"] - n["n"] * n["sigma"] + 1e-3
        case "xtc":
            return n["p"] >= n["threshold"] - CLOSE and n["count"] >= 2
        case "temperature":
            return n["logit"] <= n["highest"]
        case "mirostat":
            return n["rank"] > n["k"] if "k" in n else n["surprise"] > mu(reason) - 0.01
    raise AssertionError(f"no arithmetic for {reason.stage}")


def mu(reason: Reason) -> float:
    return float(str(reason).split("mu ")[1].split()[0])


@settings(max_examples=300)
@given(SEEDS)
def test_the_table_is_what_the_draw_saw(seed: int) -> None:
    params, logits, history = case(seed)
    shown = table(params, logits, history)
    sampler = Sampler(params, len(logits), N_CTX, history)
    choice = sampler.choose(logits, len(history))
    sampler.close()
    assert (shown.picked, shown.u) == (choice.id, choice.u)
    assert shown.ids.tolist() == choice.ids.tolist()
    assert np.allclose(shown.p, choice.p, atol=1e-6)
    assert [(c.name, c.survivors) for c in shown.columns[1:]] == [(s.name, s.survivors) for s in choice.stages]
    for column in shown.columns:
        alive = column.alive()
        in_float64 = softmax(column.logits[alive])
        assert np.allclose(column.p(alive), in_float64, atol=1e-6)
        assert column.p().sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(shown.columns[-1].p(shown.ids), shown.p, atol=1e-6)


@settings(max_examples=300)
@given(SEEDS)
def test_every_removal_is_explained_by_arithmetic_that_holds(seed: int) -> None:
    params, logits, history = case(seed)
    shown = table(params, logits, history)
    rows = shown.rows(0, min(120, shown.n_rows)) + shown.rows(max(0, shown.n_rows - 20), shown.n_rows)
    for row in rows:
        if row.removed is None:
            assert row.reason is None
            assert row.interval is not None
            assert row.interval[1] - row.interval[0] == pytest.approx(row.p[-1], abs=1e-6)
        else:
            assert row.reason is not None
            assert row.reason.stage == shown.columns[row.removed].name
            assert holds(row.reason), str(row.reason)
            assert row.interval is None
            assert row.logits[row.removed :] == (None,) * (len(shown.columns) - row.removed)
    if shown.u is not None:
        start, end = shown.row(shown.picked).interval or (1, 0)
        assert start <= shown.u < end


@settings(max_examples=60)
@given(SEEDS)
def test_rows_come_in_either_order_and_each_token_knows_its_place(seed: int) -> None:
    params, logits, history = case(seed)
    shown = table(params, logits, history)
    for by in Order:
        everything = shown.order(0, shown.n_rows, by).tolist()
        assert sorted(everything) == list(range(len(logits)))
        fresh = table(params, logits, history)
        assert fresh.order(2, 9, by).tolist() == everything[2:9]
        for place in {0, len(everything) // 2, len(everything) - 1}:
            assert fresh.place(everything[place], by) == place
    assert np.all(np.diff(logits[shown.order(0, shown.n_rows, Order.RAW)]) <= 0)
    assert shown.order(0, len(shown.ids)).tolist() == shown.ids.tolist()


def test_the_arithmetic_in_words() -> None:
    logits = np.log(np.array([0.41, 0.3, 0.2, 0.082, 0.008], np.float32))
    assert str(table(replace(NEUTRAL, min_p=0.05), logits).row(4).reason) == "0.8% < 5% × 41%"
    assert str(table(replace(NEUTRAL, top_k=3), logits).row(4).reason) == "rank 5 > 3"
    assert str(table(replace(NEUTRAL, top_p=0.7), logits).row(2).reason) == "the better ones have 71% already, ≥ 70%"
    assert str(table(replace(NEUTRAL, logit_bias=((1, -np.inf),)), logits).row(1).reason) == "banned"
    greedy = table(replace(NEUTRAL, temperature=0), logits)
    assert (greedy.u, greedy.row(0).interval) == (None, (0.0, 1.0))
    assert str(greedy.row(1).reason) == "-1.20 is not the best, -0.89"


def test_what_penalties_did_to_a_token_is_counted() -> None:
    logits = np.array([2.0, -2.0, 1.0, 0.0], np.float32)
    params = replace(NEUTRAL, repeat_penalty=2, frequency_penalty=0.5, presence_penalty=0.25, repeat_last_n=4)
    shown = table(params, logits, [2, 0, 0, 1, 0])
    assert [str(change) for change in shown.row(0).changes] == ["2.00 / 2 - 3 × 0.5 - 0.25: 3 of the last 4"]
    assert [str(change) for change in shown.row(1).changes] == ["-2.00 × 2 - 1 × 0.5 - 0.25: 1 of the last 4"]
    assert shown.row(2).changes == ()
    assert shown.row(0).logits == (2.0, -0.75)


def test_a_bias_and_dry_are_told_apart() -> None:
    params = replace(NEUTRAL, logit_bias=((3, 1.5),), dry_multiplier=0.5)
    shown = table(params, np.zeros(5, np.float32), [0, 1, 2, 3, 0, 1, 2])
    assert [str(change) for change in shown.row(3).changes] == [
        "0.00 +1.50",
        "1.50 - 0.88: it would go on with a repetition",
    ]


def test_equal_logits_at_a_border_are_explained_too() -> None:
    shown = table(replace(NEUTRAL, top_k=2), np.zeros(4, np.float32))
    ranks = [row.reason.numbers["rank"] for row in shown.rows(0, 4) if row.reason]
    assert ranks == [3, 3]


def test_tokens_are_found_by_their_bytes() -> None:
    shown = table(NEUTRAL, np.array([0.0, 3.0, 1.0], np.float32))
    assert shown.find(b"at", (b" cat", b"hat", b"\xff")).tolist() == [1, 0]
    assert shown.find(b"\xff", (b" cat", b"hat", b"\xff")).tolist() == [2]
    with pytest.raises(KeyError):
        shown.place(3)
