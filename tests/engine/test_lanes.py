"""Several continuations in one batch: each is what it would be alone, and where they part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.engine.test_engine import PARAMS, PROMPT, ids, request, tokens
from tui_chat.engine.control import CancelFlag
from tui_chat.engine.engine import Engine
from tui_chat.engine.lanes import LaneStep, kl_of_logits, kl_of_survivors
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.types import (
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    Limits,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.errors import CancelledError, PromptTooLongError, UsageError

FOUR = (
    PARAMS,
    replace(PARAMS, seed=12),
    replace(PARAMS, temperature=0.0),
    replace(PARAMS, temperature=1.6, repeat_penalty=1.3, frequency_penalty=0.4, top_k=0, min_p=0.0),
)
ENDLESS = Limits(max_tokens=40, ignore_eos=True)


def answers(steps: Sequence[LaneStep]) -> list[list[GeneratedToken]]:
    return [
        [m.token for m in lane if m.token is not None and m.ended is not FinishReason.EOS]
        for lane in zip(*(step.lanes for step in steps), strict=True)
    ]


def test_each_lane_gives_what_it_gives_alone(engine: Engine) -> None:
    before = ids(engine.generate(request()))
    cached = list(engine.context.ids)
    steps = list(engine.compare(PROMPT, FOUR, ENDLESS))
    assert list(engine.context.ids) == cached
    assert len(steps) == 40
    for lane, params in zip(answers(steps), FOUR, strict=True):
        alone = tokens(engine.generate(request(n=40, params=params)))
        assert [token.id for token in lane] == [token.id for token in alone]
        for ours, theirs in zip(lane, alone, strict=True):
            assert ours.trace is not None and theirs.trace is not None
            assert ours.trace.position == theirs.trace.position
            assert ours.trace.logit == pytest.approx(theirs.trace.logit, abs=1e-3)
            assert ours.trace.logsumexp == pytest.approx(theirs.trace.logsumexp, abs=1e-3)
            assert ours.trace.u == theirs.trace.u
    assert ids(engine.generate(request())) == before


def test_the_built_in_model_answers_in_lanes_as_alone(pocket: Engine) -> None:
    prompt = tuple(
        pocket.vocab.tokenize(
            "<|im_start|>user\nWhat is a token?<|im_end|>\n<|im_start|>assistant\n", parse_special=True
        )
    )
    settings = tuple(SamplingParams(temperature=t, seed=3) for t in (0.0, 0.7, 1.2))
    steps = list(pocket.compare(prompt, settings, Limits(max_tokens=60)))
    for number, params in enumerate(settings):
        asked = GenerationRequest(prompt_ids=prompt, params=params, limits=Limits(max_tokens=60))
        events = list(pocket.generate(asked))
        assert [token.id for token in answers(steps)[number]] == ids(events)
        text = "".join(event.text for event in events if isinstance(event, TokensGenerated))
        assert "".join(step.lanes[number].text for step in steps) == text
    for number in range(3):
        ends = [step.lanes[number].ended for step in steps]
        assert sum(end is not None for end in ends) == 1
        at = next(index for index, end in enumerate(ends) if end is not None)
        assert all(step.lanes[number].token is None for step in steps[at + 1 :])


def test_the_first_divergence_and_the_kl_on_the_way_there(engine: Engine) -> None:
    warmer = replace(PARAMS, temperature=1.1)
    steps = list(engine.compare(PROMPT, (PARAMS, warmer, PARAMS), ENDLESS))
    first, second, twin = answers(steps)
    parted = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a.id != b.id)
    assert [step.diverged_at for step in steps] == [None] * parted + [parted] * (40 - parted)
    assert [token.id for token in twin] == [token.id for token in first]
    for step in steps[: parted + 1]:
        assert step.lanes[1].kl == pytest.approx(0, abs=1e-6)
        assert (step.lanes[1].kl_drawn or 0) > 0
    assert (steps[parted + 1].lanes[1].kl or 0) > 1e-3
    for step in steps:
        assert (step.lanes[0].kl, step.lanes[0].kl_drawn) == (None, None)
        assert step.lanes[2].kl == pytest.approx(0, abs=1e-6)
        assert step.lanes[2].kl_drawn == pytest.approx(0, abs=1e-6)


def test_the_kl_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(5)
    p, q = rng.normal(0, 3, (2, 200)).astype(np.float32)
    lse = [math.log(np.exp(row.astype(np.float64)).sum()) for row in (p, q)]
    chances = [np.exp(row.astype(np.float64) - total) for row, total in zip((p, q), lse, strict=True)]
    expected = float((chances[0] * np.log(chances[0] / chances[1])).sum())
    assert kl_of_logits(p, lse[0], q, lse[1]) == pytest.approx(expected, rel=1e-9)
    cut = SamplingParams(temperature=1, top_p=1, min_p=0)
    few, many = (Sampler(replace(cut, top_k=k), 200, 64).choose(p, 0) for k in (5, 20))
    assert kl_of_survivors(few, many) == pytest.approx(-math.log(many.p[:5].sum()), rel=1e-6)
    assert kl_of_survivors(many, few) == math.inf
    assert kl_of_survivors(many, many) == 0


def test_a_lane_that_ends_leaves_the_others_alone(engine: Engine) -> None:
    eos = engine.info.eos_id
    assert eos is not None
    ends = replace(PARAMS, logit_bias=((eos, 1000.0),))
    limits = Limits(max_tokens=5)
    banned = replace(PARAMS, logit_bias=((eos, -math.inf),))
    steps = list(engine.compare(PROMPT, (ends, banned), limits))
    assert [step.lanes[0].ended for step in steps] == [FinishReason.EOS, None, None, None, None]
    assert steps[-1].lanes[1].ended is FinishReason.LENGTH
    assert [token.id for token in answers(steps)[1]] == ids(
        engine.generate(request(n=5, params=banned, ignore_eos=False))
    )
    assert steps[1].lanes[1].kl is None


def test_stop_ends_all_lanes_with_what_they_have(engine: Engine) -> None:
    cancel = CancelFlag()
    steps = []
    for step in engine.compare(PROMPT, FOUR[:2], ENDLESS, cancel=cancel):
        steps.append(step)
        if step.index == 2:
            cancel.set()
    assert len(steps) == 4
    assert {moment.ended for moment in steps[-1].lanes} == {FinishReason.CANCELLED}
    with pytest.raises(CancelledError):
        list(engine.compare(PROMPT, FOUR[:2], ENDLESS, cancel=cancel))


def test_what_cannot_be_compared(engine: Engine) -> None:
    for lanes in ((PARAMS,), (PARAMS,) * 5):
        with pytest.raises(UsageError, match="2 to 4"):
            list(engine.compare(PROMPT, lanes, ENDLESS))
    with pytest.raises(PromptTooLongError):
        list(engine.compare(range(256), FOUR, ENDLESS))
    full = list(engine.compare(range(250), FOUR, ENDLESS))
    assert len(full) == 6 and full[-1].lanes[0].ended is FinishReason.LENGTH
