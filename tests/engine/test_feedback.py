"""Stages that learn from the draw: llama.cpp's arithmetic, step by step, and a state that follows from the prefix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.engine.native_chain import N_CTX, NativeChain, probabilities, random_logits, same
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.types import GenerationRequest, Limits, SamplingParams

NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)
CHAINS = {
    "mirostat 1": replace(NEUTRAL, mirostat=1, mirostat_tau=3.0, mirostat_eta=0.3),
    "mirostat 2": replace(NEUTRAL, mirostat=2, mirostat_tau=3.0, mirostat_eta=0.3),
    "mirostat 2, warm": replace(NEUTRAL, mirostat=2, mirostat_tau=2.0, mirostat_eta=0.1, temperature=1.3),
    "adaptive-p": replace(NEUTRAL, adaptive_target=0.3, adaptive_decay=0.8, top_k=50),
}


@pytest.mark.parametrize("name", CHAINS)
def test_survivors_and_state_follow_llama_cpp_from_token_to_token(name: str) -> None:
    rng, n_vocab = np.random.default_rng(7), 2000
    params = CHAINS[name]
    native, sampler = NativeChain(params, n_vocab, ()), Sampler(params, n_vocab, N_CTX)
    for position in range(60):
        logits = random_logits(rng, n_vocab)
        if name == "mirostat 1":
            logits = np.clip(logits, -20, 20) + np.arange(n_vocab, dtype=np.float32) * np.float32(1e-4)
        theirs = probabilities(native.apply(logits))
        if native.beyond_float32:  # what it learns from here is its own
            break
        choice = sampler.choose(logits, position)
        ours = dict(zip(choice.ids.tolist(), choice.p.tolist(), strict=True))
        assert same(ours, theirs), position
        assert native.selected is not None
        sampler.accept(native.selected)
        native.accept(native.selected)
    assert position > 5


def test_mirostat_takes_the_place_of_truncation() -> None:
    params = SamplingParams(mirostat=2, typical_p=0.5, top_n_sigma=1, xtc_probability=1)
    names = [stage.name for stage in Sampler(params, 100, N_CTX).choose(np.zeros(100, np.float32), 0).stages]
    assert names == ["temperature", "mirostat"]


def test_a_token_put_there_by_hand_counts_with_its_surprise_before_the_cut() -> None:
    sampler = Sampler(replace(NEUTRAL, mirostat=2, mirostat_tau=1, mirostat_eta=1), 4, N_CTX)
    sampler.choose(np.log(np.array([0.6, 0.25, 0.1, 0.05], np.float32)), 0)  # 2 bits: the last two go
    sampler.accept(3)
    assert sampler.state == pytest.approx((2 - (np.log2(1 / 0.05) - 1),), abs=1e-6)


@pytest.mark.parametrize("settings", [{"mirostat": 2, "mirostat_tau": 3.0}, {"adaptive_target": 0.4, "top_k": 0}])
def test_an_answer_from_the_middle_on_is_the_same_answer(pocket: Engine, settings: dict[str, float]) -> None:
    """After a rewind, where the state is remembered, and as after a restart, where it is made anew."""
    prompt = tuple(pocket.vocab.tokenize("What is a token?"))
    params = SamplingParams(**settings, seed=11, temperature=1.5)  # type: ignore[arg-type]
    limits = Limits(max_tokens=24, ignore_eos=True)

    def write(begun: tuple[int, ...], n: int) -> tuple[int, ...]:
        request = GenerationRequest(
            prompt_ids=prompt + begun, n_prefilled=len(begun), params=params, limits=replace(limits, max_tokens=n)
        )
        return tuple(t.id for event in pocket.generate(request) for t in getattr(event, "tokens", ()))

    pocket.context.rewind(0)
    whole = write((), 24)
    assert write(whole[:9], 15) == whole
    pocket.context.learnt = type(pocket.context.learnt)()
    pocket.context.rewind(0)
    assert write(whole[:9], 15) == whole


def test_other_settings_in_the_middle_carry_the_state_on() -> None:
    rng = np.random.default_rng(1)
    sampler = Sampler(CHAINS["mirostat 2"], 500, N_CTX)
    for position in range(5):
        sampler.accept(sampler.choose(random_logits(rng, 500), position).id)
    later = Sampler(replace(CHAINS["mirostat 2"], mirostat_eta=0.2), 500, N_CTX, state=sampler.state)
    assert later.state == sampler.state != (6.0,)
