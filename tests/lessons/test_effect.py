"""What settings do to the next token: against the model's own distribution, and against what a chat then draws."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lessons.contracts import check
from tui_chat.chat.conversation import Conversation, Role
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import GenerationRequest, Limits, SamplingParams, TokensGenerated
from tui_chat.errors import CancelledError, PromptTooLongError, UsageError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.effect import EFFECTS, effect
from tui_chat.lessons.moment import entropy, raw_view
from tui_chat.lessons.report import Curve, Report
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.stage_effect import STAGE_OF, entropy_curve
from tui_chat.lessons.system_text import divergence, system_text
from tui_chat.lessons.watch import Watch

NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)


def scene(params: SamplingParams = NEUTRAL, *, system: str | None = None, text: str = "What is a token?") -> Scene:
    conversation = Conversation()
    if system is not None:
        conversation.append(Role.SYSTEM, system)
    conversation.append(Role.USER, text)
    conversation.append(Role.ASSISTANT, "An answer that does not count.")
    return Scene(messages=conversation.path, params=params, limits=Limits(max_tokens=64))


def of(engine: Engine, field: str, params: SamplingParams = NEUTRAL, value: object = None) -> dict[str, Any]:
    return check("effect", effect(engine, Watch(), scene(params), field, value).document)


def raw(engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Logits and probabilities of the first token of the answer, in float64."""
    with engine.aside(256) as aside:
        logits = aside.logits(scene().unanswered().prompt(engine).ids).astype(np.float64)
    e = np.exp(logits - logits.max())
    return logits, e / e.sum()


def shown(report: Report, width: int = 100) -> str:
    return " ".join("\n".join(text_of(line) for line in draw(report.blocks, width)).split())


def test_the_card_says_which_token_is_meant(pocket: Engine) -> None:
    words = "the first token of an answer to "
    assert words + "your last message, after" in shown(effect(pocket, Watch(), scene(), "top_k", 40))
    assert words + "What is a token?, after" in shown(effect(pocket, Watch(), Scene(), "top_k", 40))


def test_exact_cases() -> None:
    assert entropy(np.array([1.0, 0.0])) == 0
    assert entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8))
    assert entropy(np.array([0.5, 0.25, 0.25])) == pytest.approx(1.5 * math.log(2))
    curve = entropy_curve(np.array([0.0, math.log(3)]), 2.0)
    assert curve[0] == (0, 0) and curve[-1][0] == pytest.approx(2)
    assert curve[30] == pytest.approx([1, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))])
    assert divergence(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.5 * math.log(4 / 3))
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == math.inf
    view = raw_view(np.array([0, -np.inf, 2, 2], np.float32))
    assert view.ids.tolist() == [2, 3, 0] and view.p.sum() == pytest.approx(1)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=30), st.floats(0.1, 5))
@settings(max_examples=30)
def test_warmer_is_never_surer(logits: list[float], hottest: float) -> None:
    heights = [h for _, h in entropy_curve(np.array(logits), hottest)]
    assert all(after >= before - 1e-9 for before, after in pairwise(heights))
    assert 0 <= max(heights) <= math.log(len(logits)) + 1e-9


def test_temperature(pocket: Engine) -> None:
    logits, p = raw(pocket)
    document = of(pocket, "temperature", replace(NEUTRAL, temperature=0.5), 0.5)
    q = p**2 / (p**2).sum()
    best = int(np.argmax(logits))
    assert document["before"]["survivors"] == document["after"]["survivors"] == len(p)
    assert document["before"]["top"][0]["id"] == document["after"]["top"][0]["id"] == best
    assert document["before"]["top"][0]["p"] == pytest.approx(p[best], abs=1e-5)
    assert document["after"]["top"][0]["p"] == pytest.approx(q[best], abs=1e-5)
    assert document["before"]["entropy"] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    assert document["after"]["entropy"] == pytest.approx(-(q[q > 0] * np.log(q[q > 0])).sum(), abs=1e-4)
    report = effect(pocket, Watch(), scene(replace(NEUTRAL, temperature=0.5)), "temperature", 0.5)
    (curve,) = [block for block in report.blocks if isinstance(block, Curve)]
    assert curve.marks[0] == pytest.approx([0.5, document["after"]["entropy"]], abs=1e-4)


def test_stages_that_cut(pocket: Engine) -> None:
    _, p = raw(pocket)
    ranked = np.sort(p)[::-1]
    top_k = of(pocket, "top_k", replace(NEUTRAL, top_k=7), 7)
    assert (top_k["before"]["survivors"], top_k["after"]["survivors"]) == (len(p), 7)
    assert top_k["cut_p"] == pytest.approx(1 - ranked[:7].sum(), abs=1e-5)
    top_p = of(pocket, "top_p", replace(NEUTRAL, top_p=0.95), 0.95)
    kept = int(np.searchsorted(np.cumsum(ranked), 0.95)) + 1
    assert top_p["after"]["survivors"] == kept
    assert top_p["after"]["top"][0]["p"] == pytest.approx(ranked[0] / ranked[:kept].sum(), abs=1e-5)
    min_p = of(pocket, "min_p", replace(NEUTRAL, min_p=0.01), 0.01)
    assert min_p["after"]["survivors"] == int((p >= 0.01 * p.max()).sum())
    behind = of(pocket, "min_p", replace(NEUTRAL, top_k=7, min_p=0.01), 0.01)
    assert behind["before"]["survivors"] == 7
    report = effect(pocket, Watch(), scene(replace(NEUTRAL, top_k=7)), "top_k", 7)
    (curve,) = [block for block in report.blocks if isinstance(block, Curve)]
    assert len(curve.marks) == 1 and curve.marks[0] == pytest.approx((7, math.log10(ranked[6])))
    text = shown(report)
    assert f"7 of {len(p):,}, which held {ranked[:7].sum():.1%}" in text
    assert "last of the best 7" in text and "✂ cut" in text and "◆ is where this stage cuts" in text


def test_the_ladder_of_temperatures(pocket: Engine) -> None:
    logits, _ = raw(pocket)
    ranked = np.sort(logits)[::-1]
    document = of(pocket, "temperature", replace(NEUTRAL, temperature=0), 0)
    assert [step["temperature"] for step in document["ladder"]] == [0, 0.3, 0.7, 1, 1.5, 2]
    assert document["ladder"][0]["p"][:2] == [1, 0] and document["ladder"][0]["entropy"] == 0
    for step in document["ladder"][1:]:
        e = np.exp((ranked - ranked[0]) / step["temperature"])
        p = e / e.sum()
        assert step["p"] == pytest.approx(p[:8], abs=1e-5)
        assert step["entropy"] == pytest.approx(-(p[p > 0] * np.log(p[p > 0])).sum(), abs=1e-4)
    report = effect(pocket, Watch(), scene(replace(NEUTRAL, temperature=1)), "temperature", 1)
    assert "1 ◆" in shown(report, 54)


def test_penalties_are_written_out(pocket: Engine) -> None:
    logits, _ = raw(pocket)
    prompt = scene().unanswered().prompt(pocket).ids
    params = replace(NEUTRAL, repeat_penalty=1.3, frequency_penalty=0.5, presence_penalty=0.25)
    after = {
        token: (logits[token] / 1.3 if logits[token] > 0 else logits[token] * 1.3) - 0.5 * prompt.count(token) - 0.25
        for token in set(prompt)
    }
    token = max(after, key=lambda token: abs(after[token] - logits[token]))
    text = shown(effect(pocket, Watch(), scene(params), "repeat_penalty", 1.3), 200)
    sign = "÷" if logits[token] > 0 else "×"
    count = prompt.count(token)
    assert f"{logits[token]:.3f} {sign} 1.3 − {count} × 0.5 − 0.25 = {after[token]:.3f}" in text
    assert f"came {count} time" in text


def test_a_penalty_below_zero_stands_in_brackets(pocket: Engine) -> None:
    params = replace(NEUTRAL, frequency_penalty=-0.3, presence_penalty=-0.5)
    text = shown(effect(pocket, Watch(), scene(params), "presence_penalty", -0.5), 200)
    assert re.search(r"− \d+ × \(−0\.3\) − \(−0\.5\) = ", text)


def test_a_model_without_an_end_token(pocket: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "info", replace(pocket.info, eog_ids=frozenset()))
    text = shown(effect(pocket, Watch(), scene(), "max_length", 64))
    assert "never: this model has no end token" in text


def test_an_example_stands_in_where_nothing_was_asked(pocket: Engine) -> None:
    conversation = Conversation()
    conversation.set_system("Answer in Spanish.")
    blank = Scene(messages=conversation.path, params=NEUTRAL, limits=Limits(max_tokens=64), prefill="Un")
    document = check("effect", effect(pocket, Watch(), blank, "top_k", 0).document)
    asked = replace(scene(system="Answer in Spanish."), prefill="Un")
    expected = effect(pocket, Watch(), asked, "top_k", 0).document
    assert document["example"] is True and expected["example"] is False
    assert document["before"]["top"] == check("effect", expected)["before"]["top"]


def test_a_ban_takes_the_token_away(pocket: Engine) -> None:
    logits, _ = raw(pocket)
    best = int(np.argmax(logits))
    document = of(pocket, "ban", replace(NEUTRAL, logit_bias=((best, -math.inf),)), [best])
    assert document["before"]["top"][0]["id"] == best
    assert best not in {entry["id"] for entry in document["after"]["top"]}
    assert document["after"]["survivors"] == len(logits) - 1


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_seed_draws_what_a_chat_draws(pocket: Engine, seed: int) -> None:
    params = replace(NEUTRAL, temperature=1.5, seed=seed)
    document = of(pocket, "seed", params, seed)
    with pocket.aside(256) as aside:
        ids = scene().unanswered().prompt(pocket).ids
        request = GenerationRequest(prompt_ids=ids, params=params, limits=Limits(max_tokens=1, ignore_eos=True))
        events = list(aside.generate(request))
    (token,) = [token for event in events if isinstance(event, TokensGenerated) for token in event.tokens]
    assert token.trace is not None
    assert (document["picked"]["id"], document["u"]) == (token.id, token.trace.u)


def test_a_fresh_seed_and_a_greedy_choice_draw_nothing_yet(pocket: Engine) -> None:
    assert of(pocket, "seed")["u"] is None
    assert "fresh seed" in shown(effect(pocket, Watch(), scene(), "seed", None))
    greedy = effect(pocket, Watch(), scene(replace(NEUTRAL, temperature=0)), "seed", 3)
    assert check("effect", greedy.document)["u"] is None
    assert "there is no draw" in shown(greedy)


def test_limits(pocket: Engine) -> None:
    n_prompt = len(scene().unanswered().prompt(pocket).ids)
    _, p = raw(pocket)
    document = of(pocket, "max_length", NEUTRAL, 64)
    assert (document["prompt_tokens"], document["room"]) == (n_prompt, 64)
    assert document["p_end"] == pytest.approx(p[sorted(pocket.info.eog_ids)].sum(), abs=1e-5)
    assert of(pocket, "min_confidence", NEUTRAL, 0.999999)["ends"] is True
    assert of(pocket, "min_confidence", NEUTRAL, None)["ends"] is False
    best = pocket.vocab.piece(int(np.argmax(p))).decode()
    stopping = replace(scene(), limits=Limits(stop=(best + " and more", "\x00never")))
    report = effect(pocket, Watch(), stopping, "stop", stopping.limits.stop)
    first, never = check("effect", report.document)["stops"]
    assert first["p"] >= p.max() - 1e-5 and never["p"] < 1e-3


def test_the_whole_chain_in_its_order(pocket: Engine) -> None:
    params = SamplingParams(order=("temperature", "top_k"), top_k=5)
    stages = of(pocket, "order", params, params.order)["stages"]
    assert [(stage["name"], stage["survivors"]) for stage in stages] == [("temperature", 4096), ("top_k", 5)]
    absent = effect(pocket, Watch(), scene(params), "min_p", 0.05)
    assert check("effect", absent.document)["stage"] is None
    assert "not in the order" in shown(absent)


@pytest.mark.parametrize("field", sorted(EFFECTS))
def test_every_setting_has_a_report(pocket: Engine, field: str) -> None:
    params = SamplingParams(temperature=0, repeat_penalty=1.3)
    report = effect(pocket, Watch(), scene(params), field, getattr(params, field, None), ("About `it`.",))
    assert check("effect", report.document)["setting"] == field
    assert shown(report, 54).startswith("About it. What it does to the next token")


@pytest.mark.parametrize("field", {stage: field for field, stage in STAGE_OF.items()}.values())
def test_a_stage_that_is_off_does_nothing(pocket: Engine, field: str) -> None:
    report = effect(pocket, Watch(), scene(), field, getattr(NEUTRAL, field, None))
    document = check("effect", report.document)
    assert document["before"] == document["after"] and "does nothing here" in shown(report)


def test_one_token_has_no_curve(pocket: Engine) -> None:
    report = effect(pocket, Watch(), scene(SamplingParams(top_k=1)), "temperature", 0.7)
    assert "no temperature changes anything" in shown(report)
    assert not [block for block in report.blocks if isinstance(block, Curve)]


def test_the_conversations_cache_stays_as_it_is(pocket: Engine) -> None:
    pocket.logits((1, 2, 3, 4))
    before = list(pocket.context.ids)
    of(pocket, "top_k")
    system_text(pocket, Watch(), scene(system="Be brief."))
    assert list(pocket.context.ids) == before


def test_bad_input(pocket: Engine) -> None:
    stopped = Watch()
    stopped.cancel.set()
    with pytest.raises(CancelledError):
        effect(pocket, stopped, scene(), "top_k", 1)
    with pytest.raises(PromptTooLongError):
        effect(pocket, Watch(), scene(text="word " * 600), "top_k", 1)
    with pytest.raises(UsageError, match="there is no system text"):
        system_text(pocket, Watch(), scene())


def test_the_system_text(pocket: Engine) -> None:
    told = scene(system="Answer in Spanish.")
    report = system_text(pocket, Watch(), told)
    document = check("system_text", report.document)
    _, q = raw(pocket)
    with pocket.aside(256) as aside:
        logits = aside.logits(told.unanswered().prompt(pocket).ids).astype(np.float64)
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert document["divergence"] == pytest.approx((p * (np.log(p) - np.log(q))).sum(), abs=1e-4)
    for entry in document["top"]:
        assert entry["p"] == pytest.approx(p[entry["id"]], abs=1e-5)
        assert entry["p_without"] == pytest.approx(q[entry["id"]], abs=1e-5)
    assert document["n_tokens"] > 4 and "Answer in Spanish." in shown(report)
