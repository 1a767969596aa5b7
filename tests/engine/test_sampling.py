"""The chain stage by stage must equal llama.cpp's own chain over the whole vocabulary, and the draw must be fair."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any, TypeVar, cast

import llama_cpp.llama_cpp as native
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_chat.engine.samplers import NativeSampler
from tui_chat.engine.sampling import Sampler, penalty_window, softmax, uniform
from tui_chat.engine.types import DEFAULT_ORDER, SamplingParams
from tui_chat.errors import DecodeError, SamplingError

lc: Any = native
N_CTX = 64
T = TypeVar("T")

NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)


def native_chain(params: SamplingParams, logits: np.ndarray, history: list[int]) -> dict[int, float]:
    """Survivors and probabilities by a `llama_sampler_chain` over all tokens, built without our code."""
    n_vocab = len(logits)
    chain = lc.llama_sampler_chain_init(lc.llama_sampler_chain_default_params())
    bias = (lc.llama_logit_bias * max(1, len(params.logit_bias)))(
        *[lc.llama_logit_bias(t, b) for t, b in params.logit_bias]
    )
    makers = {
        "logit_bias": lambda: lc.llama_sampler_init_logit_bias(n_vocab, len(params.logit_bias), bias),
        "penalties": lambda: lc.llama_sampler_init_penalties(
            n_vocab,
            penalty_window(params.repeat_last_n, N_CTX),
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        ),
        "dry": lambda: lc.llama_sampler_init_dry(
            None,
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            penalty_window(params.dry_penalty_last_n, N_CTX),
            None,
            0,
        ),
        "top_n_sigma": lambda: lc.llama_sampler_init_top_n_sigma(params.top_n_sigma),
        "top_k": lambda: lc.llama_sampler_init_top_k(params.top_k),
        "typical": lambda: lc.llama_sampler_init_typical(params.typical_p, 1),
        "top_p": lambda: lc.llama_sampler_init_top_p(params.top_p, 1),
        "min_p": lambda: lc.llama_sampler_init_min_p(params.min_p, 1),
        "xtc": lambda: lc.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, 1, 0),
        "temperature": lambda: lc.llama_sampler_init_temp(params.temperature),
    }
    for name in params.order:
        lc.llama_sampler_chain_add(chain, makers[name]())
    for token in history:
        lc.llama_sampler_accept(chain, token)
    data = (lc.llama_token_data * n_vocab)(*[lc.llama_token_data(i, float(x), 0.0) for i, x in enumerate(logits)])
    array = lc.llama_token_data_array(data, n_vocab, -1, False)
    lc.llama_sampler_apply(chain, ctypes.byref(array))
    left = {array.data[i].id: array.data[i].logit for i in range(array.size) if array.data[i].logit > -np.inf}
    lc.llama_sampler_free(chain)
    ids = list(left)
    p = softmax(np.array([left[i] for i in ids], np.float32))
    return dict(zip(ids, p.tolist(), strict=True))


def off_or(off: T, others: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return st.one_of(st.just(off), others)


@st.composite
def cases(draw: st.DrawFn) -> tuple[SamplingParams, np.ndarray, list[int]]:
    n_vocab = draw(st.sampled_from([3, 20, 300, 4000]))
    seed = draw(st.integers(0, 2**32 - 1))
    spread = draw(st.sampled_from([0.3, 2.0, 8.0]))
    rng = np.random.default_rng(seed)
    # Distinct logits: which of two equal ones a native partial sort keeps is its own affair.
    logits = rng.permutation(np.sort(rng.normal(0, spread, n_vocab)) + np.arange(n_vocab) * 1e-4).astype(np.float32)
    history = draw(st.lists(st.integers(0, n_vocab - 1), max_size=40))
    params = SamplingParams(
        temperature=draw(st.sampled_from([0.1, 0.7, 1.0, 1.7])),
        top_k=draw(off_or(0, st.integers(1, 200))),
        top_p=draw(off_or(1.0, st.floats(0.0, 0.99))),
        min_p=draw(off_or(0.0, st.floats(0.001, 0.9))),
        typical_p=draw(off_or(1.0, st.floats(0.1, 0.99))),
        top_n_sigma=draw(off_or(-1.0, st.floats(0.1, 3.0))),
        xtc_probability=draw(st.sampled_from([0.0, 1.0])),
        xtc_threshold=draw(st.floats(0.01, 0.6)),
        repeat_penalty=draw(off_or(1.0, st.floats(0.8, 1.8))),
        repeat_last_n=draw(st.sampled_from([-1, 0, 5, 64])),
        frequency_penalty=draw(off_or(0.0, st.floats(-1.0, 2.0))),
        presence_penalty=draw(off_or(0.0, st.floats(-1.0, 2.0))),
        dry_multiplier=draw(off_or(0.0, st.floats(0.1, 2.0))),
        logit_bias=tuple(
            draw(
                st.lists(
                    st.tuples(st.integers(0, n_vocab - 1), st.floats(-20, 20)),
                    max_size=3,
                    unique_by=lambda pair: pair[0],
                )
            )
        ),
        order=tuple(draw(st.permutations(DEFAULT_ORDER))) if draw(st.booleans()) else DEFAULT_ORDER,
    )
    return params, logits, history


@settings(max_examples=400)
@given(cases())
def test_equals_the_native_chain_on_the_full_vocabulary(case: tuple[SamplingParams, np.ndarray, list[int]]) -> None:
    params, logits, history = case
    sampler = Sampler(params, len(logits), N_CTX, history)
    try:
        choice = sampler.choose(logits, position=7)
        plain = sampler.choose(logits, position=7, prefilter=False, show=-1)
    finally:
        sampler.close()
    expected = native_chain(params, logits, history)
    ours = dict(zip(choice.ids.tolist(), choice.p.tolist(), strict=True))
    assert ours.keys() == expected.keys()
    assert all(abs(ours[token] - expected[token]) < 1e-5 for token in expected)
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
    p = np.array([0.4, 0.3, 0.2, 0.1])
    sampler = Sampler(NEUTRAL, 4, N_CTX)
    n = 20_000
    counts = np.bincount([sampler.choose(np.log(p).astype(np.float32), i).id for i in range(n)], minlength=4)
    # chi-squared with 3 degrees of freedom stays below 27.8 with probability 1 - 4e-6; the draws are fixed by the seed.
    assert float((((counts - n * p) ** 2) / (n * p)).sum()) < 27.8


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
        NativeSampler.typical(0.5),
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
