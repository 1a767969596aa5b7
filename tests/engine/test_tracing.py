"""The figures shown must match a recomputation in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_chat.engine.expsums import Deviation, ExpSums, exp_sums_numpy
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.tracing import Tracer, rank
from tui_chat.engine.types import SamplingParams
from tui_chat.errors import DecodeError, SamplingError


@given(st.integers(2, 3000), st.integers(0, 2**32 - 1), st.floats(0.01, 12))
def test_matches_float64(n: int, seed: int, spread: float) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, n).astype(np.float32)
    exact = logits.astype(np.float64)
    lse = np.log(np.exp(exact - exact.max()).sum()) + exact.max()
    p = np.exp(exact - lse)
    figures = Tracer(n, 20).measure(logits)
    assert figures.logsumexp == pytest.approx(lse, abs=2e-5)
    assert figures.entropy == pytest.approx(float(-(p * np.log(p)).sum()), abs=2e-5)
    assert figures.confidence == pytest.approx(float(p.max()), abs=2e-5)
    assert [token for token, _ in figures.top] == np.argsort(-logits, kind="stable")[:20].tolist()


@given(st.integers(1, 40_000), st.integers(0, 2**32 - 1), st.booleans())
def test_sums_with_and_without_ggml_agree(n: int, seed: int, banned: bool) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, n).astype(np.float32)
    if banned and n > 1:
        logits[rng.integers(0, n)] = -np.inf
    highest = float(logits.max())
    assert ExpSums()(logits, highest) == pytest.approx(exp_sums_numpy(logits, highest), rel=2e-5, abs=3e-5)


@given(st.integers(1, 40_000), st.integers(0, 2**32 - 1), st.floats(-50, 50), st.sampled_from((0.0, 0.1, 0.9)))
def test_deviation_matches_float64(n: int, seed: int, mean: float, banned: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(mean, 3, n).astype(np.float32)
    logits[rng.random(n) < banned] = -np.inf
    logits[rng.integers(0, n)] = mean
    exact = logits[logits > -np.inf].std(dtype=np.float64)
    assert Deviation()(logits) == pytest.approx(exact, rel=1e-5, abs=1e-4)


def test_uniform_and_certain_distributions() -> None:
    assert Tracer(8, 3).measure(np.zeros(8, np.float32)).entropy == pytest.approx(np.log(8), abs=1e-6)
    certain = np.full(8, -np.inf, np.float32)
    certain[2] = 1.0
    figures = Tracer(8, 3).measure(certain)
    assert (figures.entropy, figures.confidence, figures.top[0][0]) == (0.0, 1.0, 2)


def test_broken_logits_are_named_with_their_position() -> None:
    with pytest.raises(DecodeError, match="nan as a logit at position 17, for token 3"):
        Tracer(8, 3).measure(np.array([0, 1, 2, np.nan, 4, 5, 6, 7], np.float32), position=17)
    with pytest.raises(SamplingError, match="position 4: every logit is -inf"):
        Tracer(8, 3).measure(np.full(8, -np.inf, np.float32), position=4)


def test_rank_counts_the_better_ones() -> None:
    logits = np.array([1.0, 3.0, 3.0, 2.0], np.float32)
    assert [rank(logits, token) for token in range(4)] == [4, 1, 1, 3]
    assert [rank(logits, token, ((1, 3.0), (2, 3.0))) for token in range(4)] == [4, 1, 1, 3]


def test_a_trace_holds_what_was_chosen_and_from_what() -> None:
    logits = np.random.default_rng(0).normal(0, 2, 500).astype(np.float32)
    tracer = Tracer(500, 10)
    choice = Sampler(SamplingParams(seed=3), 500, 64).choose(logits, 11)
    trace = tracer.trace(logits, tracer.measure(logits), choice, 11, b"x", 0.5)
    assert trace.position == 11
    assert trace.id == choice.id
    assert trace.logit == logits[choice.id]
    assert trace.p == pytest.approx(float(np.exp(logits[choice.id] - trace.logsumexp)))
    assert len(trace.top) == 10
    assert trace.final[0][1] == max(p for _, p in trace.final)
    assert trace.stages[0].name == "top_k" and trace.stages[0].survivors == 40
