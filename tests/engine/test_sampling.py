"""The chain stage by stage must equal llama.cpp's own chain over the whole vocabulary, and the draw must be fair."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.native_chain import N_CTX, BeyondFloat32Error, expected, random_logits, random_params, same
from tui_chat.engine.draws import Draws
from tui_chat.engine.samplers import NativeSampler
from tui_chat.engine.sampling import Sampler, penalty_window, uniform
from tui_chat.engine.types import SamplingParams
from tui_chat.errors import DecodeError, SamplingError

KEPT = "it would have removed every candidate: the best one stays"
NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)


@settings(max_examples=2400, database=None)
@given(st.integers(0, 2**63 - 1))
def test_equals_the_native_chain_on_the_full_vocabulary(seed: int) -> None:
    r, rng = random.Random(seed), np.random.default_rng(seed)
    n_vocab = r.choice([3, 20, 20, 60, 60, 300, 300, 300, 300, 5000])
    check_against_native(random_params(r, n_vocab), random_logits(rng, n_vocab), r)


@pytest.mark.parametrize("seed", range(18, 30))
def test_equals_the_native_chain_on_a_large_vocabulary(seed: int) -> None:
    r, rng = random.Random(seed), np.random.default_rng(seed)
    check_against_native(random_params(r, 151_936), random_logits(rng, 151_936), r)


def check_against_native(params: SamplingParams, logits: np.ndarray, r: random.Random) -> None:
    n_vocab = len(logits)
    history = [r.randrange(min(n_vocab, 50)) for _ in range(r.randint(0, 40))]
    sampler = Sampler(params, n_vocab, N_CTX, history)
    try:
        choice = sampler.choose(logits, position=7)
        plain = sampler.choose(logits, position=7, prefilter=False)
    finally:
        sampler.close()
    if any(stage.note == KEPT for stage in choice.stages):
        return  # llama.cpp would go on with an empty array
    ours = dict(zip(choice.ids.tolist(), choice.p.tolist(), strict=True))
    try:
        assert any(same(ours, theirs) for theirs in expected(params, logits, history)), params
    except BeyondFloat32Error:
        return
    assert choice.ids.tolist() == plain.ids.tolist()
    assert np.allclose(choice.p, plain.p, rtol=0, atol=1e-6)
    assert choice.id == plain.id
    assert [(s.name, s.survivors) for s in choice.stages] == [(s.name, s.survivors) for s in plain.stages]
    assert sum(choice.p) == pytest.approx(1, abs=1e-9)
    assert np.all(np.diff(choice.p) <= 0)
    best = choice.selection.ids.tolist()
    assert set(np.argsort(-logits, kind="stable")[: len(best)].tolist()) == set(best)


def test_stages_report_what_they_left() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.07, 0.03], np.float32))
    params = replace(NEUTRAL, top_k=4, top_p=0.8, temperature=0.5)
    choice = Sampler(params, 5, N_CTX).choose(logits, 0, show=-1)
    assert [(s.name, s.survivors) for s in choice.stages] == [("top_k", 4), ("top_p", 3), ("temperature", 3)]
    top_p = choice.stages[1].candidates
    assert [c.id for c in top_p] == [0, 1, 2]
    assert [c.p for c in top_p] == pytest.approx([0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9], abs=1e-6)
    squared = np.array([0.25, 0.0625, 0.0225])
    assert choice.p == pytest.approx(squared / squared.sum(), abs=1e-6)


def test_greedy_takes_the_best_and_draws_nothing() -> None:
    logits = np.array([0.1, 3.0, 2.9], np.float32)
    choice = Sampler(replace(NEUTRAL, temperature=0), 3, N_CTX).choose(logits, 0)
    assert (choice.id, choice.u, choice.p.tolist()) == (1, None, [1.0])
    assert choice.stages[-1].survivors == 1


def test_repeat_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([2.0, -2.0, 1.0], np.float32)
    sampler = Sampler(replace(NEUTRAL, repeat_penalty=2), 3, N_CTX, history=[0, 1])
    shown = {c.id: c.logit for c in sampler.choose(logits, 0, show=-1).stages[0].candidates}
    assert shown == {0: 1.0, 1: -4.0, 2: 1.0}


def test_accepted_tokens_join_the_history() -> None:
    logits = np.array([2.0, 1.9, 0.0], np.float32)
    sampler = Sampler(replace(NEUTRAL, temperature=0, frequency_penalty=1), 3, N_CTX)
    assert sampler.choose(logits, 0).id == 0
    sampler.accept(0)
    assert sampler.choose(logits, 1).id == 1


def test_a_window_of_minus_one_is_the_whole_context() -> None:
    logits = np.array([2.0, 1.9], np.float32)
    sampler = Sampler(replace(NEUTRAL, temperature=0, presence_penalty=1, repeat_last_n=-1), 2, 200, [0] + [1] * 150)
    penalised = sampler.choose(logits, 0, show=-1).stages[0].candidates
    assert {c.id: round(c.logit, 4) for c in penalised} == {0: 1.0, 1: 0.9}


def test_draws_follow_the_distribution() -> None:
    """Of 1e5 draws: the numbers u as the sampler makes them, and that it takes the token u falls on."""
    p = np.array([0.4, 0.3, 0.2, 0.08, 0.02])
    logits = np.log(p).astype(np.float32)
    sampler, draws, n = Sampler(NEUTRAL, 5, N_CTX), Draws(NEUTRAL.seed), 100_000
    picked = np.searchsorted(np.cumsum(p), [draws(position) for position in range(n)], side="right")
    assert all(sampler.choose(logits, position).id == picked[position] for position in range(0, n, 97))
    counts = np.bincount(picked, minlength=5)
    # chi-squared with 4 degrees of freedom stays below 30.7 with probability 1 - 4e-6; the draws are fixed by the seed.
    assert float((((counts - n * p) ** 2) / (n * p)).sum()) < 30.7


def test_the_draw_depends_on_seed_and_position_alone() -> None:
    assert uniform(1, 5) == uniform(1, 5)
    values = {
        uniform(seed, position, stream) for seed in (0, 1, 2**64 - 1) for position in range(50) for stream in (0, 1)
    }
    assert len(values) == 300
    assert all(0 <= u < 1 for u in values)


def test_draws_made_ahead_are_the_same_in_any_order() -> None:
    sampler = Sampler(replace(NEUTRAL, seed=5), 4, N_CTX)
    logits = np.zeros(4, np.float32)
    for position in (0, 63, 64, 3, 1000, 1063, 1064, 999):
        assert sampler.choose(logits, position).u == uniform(5, position)


def test_the_draw_is_the_documented_philox() -> None:
    expected = np.random.Generator(np.random.Philox(key=42, counter=9)).random()
    assert uniform(42, 9) == expected


@pytest.mark.parametrize("temperature", [1e-40, 1e-9])
def test_a_temperature_too_small_to_divide_by_is_greedy(temperature: float) -> None:
    choice = Sampler(replace(NEUTRAL, temperature=temperature), 3, N_CTX).choose(np.array([1, 3, 2], np.float32), 0)
    assert (choice.id, choice.u) == (1, None)


def test_no_window_is_longer_than_the_context() -> None:
    assert [penalty_window(n, 100) for n in (-1, 0, 64, 2**31 - 1)] == [100, 0, 64, 100]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_are_an_error_that_names_the_position(bad: float) -> None:
    logits = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(DecodeError, match="position 12"):
        Sampler(NEUTRAL, 3, N_CTX).choose(logits, 12)


def test_broken_logits_name_the_token() -> None:
    logits = np.array([0.0, 1.0, np.nan, np.nan], np.float32)
    with pytest.raises(DecodeError, match="nan as a logit at position 12, for token 2 and 1 others"):
        Sampler(NEUTRAL, 4, N_CTX).choose(logits, 12)


def test_a_rule_that_would_leave_nothing_keeps_the_best_and_says_so() -> None:
    params = replace(NEUTRAL, top_k=2, logit_bias=((3, -np.inf), (4, -np.inf)), order=("top_k", "logit_bias"))
    choice = Sampler(params, 5, N_CTX).choose(np.arange(5, dtype=np.float32), 0)
    assert choice.id == 4
    assert [(s.name, s.survivors, s.note) for s in choice.stages] == [("top_k", 2, ""), ("logit_bias", 1, KEPT)]


@pytest.mark.parametrize("name", ["grammar", "mirostat"])
def test_what_is_set_must_have_its_place_in_the_order(name: str) -> None:
    value: dict[str, Any] = {"grammar": 'root ::= "a"', "mirostat": 2}
    with pytest.raises(SamplingError, match=f"{name} is set, but the order"):
        SamplingParams(**{name: value[name]}, order=("top_k",))


def test_banning_everything_is_an_error() -> None:
    params = replace(NEUTRAL, logit_bias=((0, -np.inf), (1, -np.inf)))
    with pytest.raises(SamplingError, match="banned"):
        Sampler(params, 2, N_CTX).choose(np.zeros(2, np.float32), 0)


def test_a_ban_is_counted_as_one_survivor_less_with_and_without_the_prefilter() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, 5000).astype(np.float32)
    params = replace(NEUTRAL, top_k=5, logit_bias=((int(logits.argmax()), -np.inf),))
    for prefilter in (True, False):
        choice = Sampler(params, 5000, N_CTX).choose(logits, 0, prefilter=prefilter)
        assert [(s.name, s.survivors) for s in choice.stages] == [("logit_bias", 4999), ("top_k", 5)]


def test_two_biases_of_one_token_add_up() -> None:
    params = replace(NEUTRAL, logit_bias=((1, 1.0), (1, 0.5)))
    assert {
        c.id: c.logit
        for c in Sampler(params, 2, N_CTX).choose(np.zeros(2, np.float32), 0, show=-1).stages[0].candidates
    } == {
        0: 0.0,
        1: 1.5,
    }


def test_a_bias_outside_the_vocabulary_names_the_token() -> None:
    with pytest.raises(SamplingError, match="token 7"):
        Sampler(replace(NEUTRAL, logit_bias=((7, 1.0),)), 5, N_CTX)


def test_idle_stages_are_reported_when_asked_for() -> None:
    choice = Sampler(NEUTRAL, 3, N_CTX, always=("top_k", "temperature")).choose(np.zeros(3, np.float32), 0)
    assert [(s.name, s.survivors) for s in choice.stages] == [("top_k", 3), ("temperature", 3)]


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", -1), ("top_p", 1.5), ("top_k", -2), ("min_p", float("nan")), ("seed", 2**64)]
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(SamplingError, match=name):
        SamplingParams(**cast("dict[str, Any]", {name: value}))


def test_every_sampler_binding_can_be_made_and_freed() -> None:
    made = [
        NativeSampler.top_k(3),
        NativeSampler.top_p(0.5),
        NativeSampler.min_p(0.1),
        NativeSampler.top_n_sigma(1.0),
        NativeSampler.xtc(0.1),
        NativeSampler.temperature(0.7),
        NativeSampler.penalties(10, 5, 1.1, 0.1, 0.1),
        NativeSampler.dry(0.8, 1.75, 2, 16),
        NativeSampler.logit_bias(10, [(1, 0.5)]),
    ]
    for sampler in made:
        sampler.close()
        sampler.close()
