"""`why`: every line of arithmetic is true, whatever the distribution and settings; what was not kept is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lessons.arithmetic import can_be_true
from tests.lessons.contracts import check
from tui_chat.chat.conversation import Conversation, Role
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.tracing import Tracer
from tui_chat.engine.types import (
    DEFAULT_ORDER,
    SAMPLING_FIELDS,
    GeneratedToken,
    SamplingParams,
    Timings,
    Usage,
)
from tui_chat.errors import CancelledError, PromptTooLongError, SamplingError, UsageError
from tui_chat.lessons.allocation import Purpose, read_log
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.formulas import all_figures, find_figure
from tui_chat.lessons.inspected import Inspected, disagreement
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch
from tui_chat.lessons.why import ANSWER_TOKENS, first_token, present, why, worked_out
from tui_chat.lessons.working import Working

N_CTX = 64


def seen_after(
    logits: list[float], params: SamplingParams, history: list[int], *, top_n: int = 20, n_prompt: int | None = None
) -> Inspected:
    """The token that the real chain draws from a distribution, with its real trace."""
    values = np.array(logits, np.float32)
    tracer, sampler = Tracer(len(values), top_n), Sampler(params, len(values), N_CTX, history)
    try:
        choice = sampler.choose(values, len(history))
    finally:
        sampler.close()
    trace = tracer.trace(values, tracer.measure(values, choice.selection), choice, len(history), b"x", 0.5)
    n_prompt = len(history) if n_prompt is None else n_prompt
    before = [GeneratedToken(token, b"y", None) for token in history[n_prompt:]]
    return Inspected(
        tokens=(*before, GeneratedToken(choice.id, b"x", trace)),
        index=len(before),
        prompt_ids=history[:n_prompt],
        settings={name: getattr(params, name) for name in SAMPLING_FIELDS},
        usage=Usage(len(history), 2, 9),
        written_by="pocket",
        timings=Timings(prefill_s=0.0123, ttft_s=0.0345, decode_s=0.567, tokens_per_s=8 / 0.567),
    )


def exact_of(seen: Inspected) -> frozenset[str]:
    return frozenset(f"{abs(value):g}" for value in seen.settings.values() if isinstance(value, float))


def working(name: str, seen: Inspected) -> Working:
    found = worked_out(find_figure(name), seen)
    assert isinstance(found, Working), found
    return found


def reason(name: str, seen: Inspected) -> str:
    found = worked_out(find_figure(name), seen)
    assert isinstance(found, str), found
    return found


LOGITS = st.lists(st.floats(-12, 12, width=32), min_size=2, max_size=40)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from((0.0, 0.3, 0.7, 1.0, 1.7)),
    top_k=st.sampled_from((0, 1, 3, 30)),
    top_p=st.sampled_from((0.3, 0.9, 0.95, 1.0)),
    min_p=st.sampled_from((0.0, 0.05, 0.3)),
    repeat_penalty=st.sampled_from((1.0, 1.0, 1.3, 0.8)),
    frequency_penalty=st.sampled_from((0.0, 0.0, 0.4, -0.5)),
    presence_penalty=st.sampled_from((0.0, 0.0, 0.6)),
    repeat_last_n=st.sampled_from((-1, 0, 4, 64)),
    dry_multiplier=st.sampled_from((0.0, 0.0, 0.0, 0.8)),
    typical_p=st.sampled_from((1.0, 1.0, 1.0, 0.9)),
    logit_bias=st.sampled_from(((), (), ((0, 1.5), (1, -math.inf)))),
    seed=st.integers(0, 2**64 - 1),
    order=st.one_of(st.just(DEFAULT_ORDER), st.permutations(DEFAULT_ORDER).map(tuple)),
)


@settings(max_examples=150)
@given(LOGITS, PARAMS, st.lists(st.integers(0, 9), max_size=12), st.sampled_from((3, 20, 40)), st.booleans())
def test_every_line_is_true_for_any_token(
    pocket: Engine, logits: list[float], params: SamplingParams, before: list[int], top_n: int, loaded: bool
) -> None:
    history = [token % len(logits) for token in before]
    try:
        seen = seen_after(logits, params, history, top_n=top_n, n_prompt=len(history) // 2)
    except SamplingError:
        return  # everything was banned
    if loaded:
        seen = replace(seen, model=replace(pocket.info, n_vocab=len(logits)), memory=read_log(pocket.load_log))
    for figure in all_figures():
        found = worked_out(figure, seen)
        if isinstance(found, str):
            assert found != str(disagreement()), f"{figure.name}: {params}"
            continue
        assert found.text
        for line in found.lines:
            assert can_be_true(line, exact_of(seen)), f"{figure.name}: {line}"


def test_the_check_of_the_lines_can_fail() -> None:
    assert can_be_true("e^(2.0000 − 3.0000) = e^(−1.0000) = 0.3679")
    assert not can_be_true("e^(2.0000 − 3.0000) = e^(−1.0000) = 0.3681")
    assert can_be_true("2.0000 ÷ 0.7 = 2.8571", frozenset({"0.7"}))
    assert not can_be_true("2.0000 ÷ 0.7 = 2.8577", frozenset({"0.7"}))
    assert can_be_true("0.9487 < 0.95") and not can_be_true("0.96 < 0.95", frozenset({"0.96", "0.95"}))
    assert can_be_true("min(40, 4,096) = 40") and not can_be_true("4 × (3 + 2) = 21")
    assert can_be_true("1.0000 + ln 2.7183 = 2.0000") and not can_be_true("ln 2 = 0.71")


# p = 0.5, 0.25, 0.125, 0.125
HALVES = [math.log(8 * p) for p in (0.5, 0.25, 0.125, 0.125)]
PLAIN = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)


def test_the_same_number_looks_the_same() -> None:
    found = working("entropy", seen_after([0.0] * 2000, PLAIN, []))
    assert "= 2,000.0" in found.lines[2] and "between 2,000.0 equally likely" in found.notes[0]


def test_small_cases() -> None:
    seen = seen_after(HALVES, replace(PLAIN, logit_bias=((0, -math.inf), (2, -math.inf), (3, -math.inf))), [])
    assert seen.trace.id == 1
    assert working("p", seen).value == pytest.approx(0.25)
    assert working("rank", seen).value == 2
    assert working("logit", seen).value == pytest.approx(math.log(2))
    assert working("lse", seen).value == pytest.approx(math.log(8))
    assert working("h", seen).value == pytest.approx(1.75 * math.log(2))
    assert "0.3466 + 0.3466 + 0.2599 + 0.2599 + 0.0000 = 1.2130" in working("entropy", seen).lines
    assert working("surprisal", seen).value == pytest.approx(2 * math.log(2))
    assert working("perplexity", seen).value == pytest.approx(4)
    assert working("after", seen).value == 1
    assert working("tok/s", seen).value == pytest.approx(8 / 0.567)
    assert working("prefill", replace(seen, usage=Usage(12, 2, 9))).lines == ("(12 − 2) ÷ 0.01230 = 813.0081",)
    assert working("ttft", seen).lines[0] == "0.01230 + 0.02220 = 0.03450"


def test_cuts_are_retraced() -> None:
    seen = seen_after(HALVES, replace(PLAIN, top_k=3, top_p=0.8, min_p=0.4, temperature=0.5), [])
    assert working("top-k", seen).text == "3 tokens left"
    cut = working("top-p", seen)
    assert cut.value == 2
    assert cut.lines == ("0.5000 ÷ 0.8750 = 0.5714 < 0.8", "0.7500 ÷ 0.8750 = 0.8571 ≥ 0.8")
    assert working("min-p", seen).lines == ("0.4 × 0.5000 = 0.2000", "0.2500 ≥ 0.2000")
    assert "0.8000 ÷ 0.2000 = 4.0000" in working("temperature", seen).lines
    assert working("after", seen).lines[-1] in ("0.2500 ÷ 0.3125 = 0.8000", "0.06250 ÷ 0.3125 = 0.2000")
    assert working("u", seen).lines[1].count(f"{seen.trace.u:.6f}") == 1
    off = seen_after(HALVES, PLAIN, [])
    assert all(
        working(name, off).text == "off" for name in ("top-k", "top-p", "min-p", "temperature", "repeat-penalty")
    )


def test_a_cut_that_the_trace_cannot_show_is_not_shown() -> None:
    level = [0.0] * 30
    deep = seen_after(level, replace(PLAIN, top_p=0.9), [], top_n=5)
    assert working("top-p", deep).value == 27 and not working("top-p", deep).lines
    assert "best 5" in working("top-p", deep).notes[0]
    coarse = seen_after([5.0] + [4.0] * 29, replace(PLAIN, top_k=25, top_p=0.15), [], top_n=5)
    assert working("top-p", coarse).value == 3 and not working("top-p", coarse).lines
    assert "too much" in working("top-p", coarse).notes[0]
    moved = seen_after(HALVES, replace(PLAIN, repeat_penalty=2, top_p=0.8), [0])
    assert not working("top-p", moved).lines and "penalties acted before" in working("top-p", moved).notes[0]


def test_penalties() -> None:
    params = replace(PLAIN, repeat_penalty=2, frequency_penalty=0.5, presence_penalty=0.25, repeat_last_n=3, top_k=1)
    seen = seen_after([4.0, -9.0], params, [0, 0, 1, 0], n_prompt=2)
    assert working("repeat-penalty", seen).lines == ("4.0000 ÷ 2 = 2.0000",)
    assert working("frequency-penalty", seen).lines == ("2.0000 − 2 × 0.5 = 1.0000",)
    assert working("presence-penalty", seen).lines == ("1.0000 − 0.25 = 0.7500",)
    assert "2 times among the last 3 tokens" in working("repeat-penalty", seen).notes[0]
    negative = seen_after([-4.0, -99.0], params, [0], n_prompt=1)
    assert working("repeat-penalty", negative).lines == ("−4.0000 × 2 = −8.0000",)
    fresh = seen_after([4.0, -9.0], params, [1])
    assert working("repeat-penalty", fresh).lines == ()
    assert "does not stand among the last token" in working("repeat-penalty", fresh).notes[0]
    reopened = working("repeat-penalty", replace(seen, prompt_ids=None))
    assert (reopened.value, reopened.lines) == (2, ()) and "not kept" in reopened.notes[0]


def test_a_bias_that_was_asked_for_by_a_text_counts_as_it_ran() -> None:
    params = replace(PLAIN, logit_bias=((0, 1.5), (1, -math.inf)), repeat_penalty=2, repeat_last_n=3)
    seen = seen_after([4.0, 3.0, -9.0], params, [0])
    asked = {**seen.settings, "logit_bias": [["however", 1.5], ["x", "-inf"]]}
    conversation = Conversation()
    conversation.append(Role.USER, "hi")
    message = conversation.begin_answer(model="pocket", settings=asked)
    ran = [params] * len(seen.tokens)
    by_text = Inspected.of(message, seen.tokens, 0, prompt_ids=(), model=None, piece_of=lambda _: None, ran=ran)
    for settings_ in (seen.settings, by_text.settings):
        assert working("repeat-penalty", replace(seen, settings=settings_)).lines == ("5.5000 ÷ 2 = 2.7500",)
    unknown = working("repeat-penalty", replace(seen, settings=asked))
    assert unknown.lines == () and "logit_bias was not kept" in unknown.notes[0]


def test_greedy() -> None:
    seen = seen_after(HALVES, replace(PLAIN, temperature=0), [])
    assert working("temperature", seen).text == "0, greedy"
    assert working("u", seen).value is None
    assert working("after", seen).value == 1


def test_what_was_not_kept_is_said_to_be_missing(pocket: Engine) -> None:
    nothing = Inspected()
    assert all(present(figure, nothing) == "–" for figure in all_figures())
    assert "send a message" in reason("entropy", nothing) and "send a message" in reason("perplexity", nothing)
    seen = seen_after(HALVES, replace(PLAIN, temperature=0.7), [])
    assert "temperature was not kept" in reason("temperature", replace(seen, settings={}))
    untraced = replace(seen, tokens=(GeneratedToken(1, b"x", None),))
    assert "no figures were kept" in reason("probability", untraced)
    assert "no figures were kept" in reason("perplexity", untraced)
    both = replace(seen, tokens=(*untraced.tokens, *seen.tokens), index=1)
    assert "1 token is left out" in working("perplexity", both).notes[0]
    assert "times were not kept" in reason("tok/s", replace(seen, timings=None))
    assert "no second one" in reason("tok/s", replace(seen, usage=Usage(3, 0, 1)))
    assert "not loaded" in reason("context", seen)
    assert "load log" in reason("kv", seen)
    here = replace(seen, model=pocket.info)
    assert working("context", here).lines[-1] == "9 ÷ 512 = 0.01758"
    assert "not loaded" in reason("context", replace(here, written_by="another"))
    assert working("rank", replace(here, written_by=None)).text == f"{seen.trace.rank}"
    assert working("rank", seen).text == f"{seen.trace.rank}"


def test_settings_that_did_not_stay_are_not_taken_for_the_cause() -> None:
    seen = seen_after(HALVES, replace(PLAIN, temperature=0.7, top_p=0.8), [0, 1, 2], n_prompt=0)
    for name, other in (("temperature", 1.5), ("temperature", 1.0), ("top_p", 0.2), ("top_k", 2), ("seed", 5)):
        figure = {"seed": "u"}.get(name, name.replace("_", "-"))
        assert reason(figure, replace(seen, settings={**seen.settings, name: other})) == str(disagreement())


def test_a_message_and_its_tokens() -> None:
    conversation = Conversation()
    conversation.append(Role.USER, "hi")
    message = conversation.begin_answer(model="other", settings={"temperature": 0.7})
    tokens = [GeneratedToken(token, b"x", None) for token in (5, 6, 7)]

    def look(index: int | None, tokens: list[GeneratedToken]) -> Inspected:
        return Inspected.of(message, tokens, index, prompt_ids=(), model=None, piece_of=lambda _: None)

    assert look(None, tokens).index == 2
    assert look(9, tokens).index == 2
    assert look(1, tokens).token == tokens[1]
    assert look(None, []).index is None
    assert look(1, tokens).setting("temperature") == 0.7
    assert look(1, tokens).prompt_ids is None
    ran = [SamplingParams(temperature=at / 10) for at in (7, 7, 9)]
    later = Inspected.of(message, tokens, 2, prompt_ids=(), model=None, piece_of=lambda _: None, ran=ran)
    assert later.setting("temperature") == 0.9


def test_names() -> None:
    names = [alias for figure in all_figures() for alias in (figure.name, *figure.aliases)]
    assert len(set(names)) == len(names)
    assert find_figure("Top_P") is find_figure("top-p") is find_figure(" nucleus ")
    assert find_figure("tok/s") is find_figure("speed")
    for name, words in (("entrpy", "did you mean entropy"), ("xyzzy", "there are probability, rank")):
        with pytest.raises(UsageError, match=words):
            find_figure(name)
    for figure in all_figures():
        assert figure.formula and figure.words.endswith(".") and not figure.source.endswith(".")


@pytest.fixture(scope="module")
def seen(pocket: Engine) -> Inspected:
    params = SamplingParams(seed=0, repeat_penalty=1.1)
    return first_token(pocket, Watch(), Scene(params=params).asking("What is a token?"))


def test_on_the_built_in_model(pocket: Engine, seen: Inspected) -> None:
    assert seen.index == 0 and 1 <= len(seen.tokens) <= ANSWER_TOKENS
    values = pocket.logits(seen.prompt_ids or ()).astype(np.float64)
    p = np.exp(values - values.max())
    p /= p.sum()
    assert working("p", seen).value == pytest.approx(p[seen.trace.id], abs=1e-5)
    assert working("entropy", seen).value == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    assert working("context", seen).value == pytest.approx(seen.n_used / 512)
    assert working("kv", seen).value == read_log(pocket.load_log).size_of(Purpose.CACHE) / 512
    for figure in all_figures():
        found = working(figure.name, seen)
        assert all(can_be_true(line, exact_of(seen)) for line in found.lines), found.lines
        document = check("why", why(seen, figure.name).document)
        assert document["value"] == pytest.approx(found.value) if found.value is not None else True
        text = "\n".join(text_of(line) for line in draw(why(seen, figure.name).blocks, 200))
        assert all(line in text for line in found.lines)
        assert figure.formula.splitlines()[0] in text


def test_the_list(seen: Inspected) -> None:
    document = check("why", why(seen).document)
    assert [entry["figure"] for entry in document["figures"]] == [figure.name for figure in all_figures()]
    assert not any(entry["missing"] for entry in document["figures"])
    check("why", why(Inspected()).document)
    text = "\n".join(text_of(line) for line in draw(why(seen).blocks, 80))
    assert all(figure.name in text for figure in all_figures())


def test_the_conversations_cache_stays_as_it_is(pocket: Engine) -> None:
    ids = pocket.vocab.tokenize("one two three")
    pocket.logits(ids)
    before, values = list(pocket.context.ids), pocket.context.logits().copy()
    first_token(pocket, Watch(), Scene().asking("Hello"))
    assert list(pocket.context.ids) == before
    assert np.array_equal(pocket.context.logits(), values)


def test_bad_input(pocket: Engine) -> None:
    with pytest.raises(PromptTooLongError):
        first_token(pocket, Watch(), Scene().asking("a b c d " * 300))
    stopped = Watch()
    stopped.cancel.set()
    with pytest.raises(CancelledError):
        first_token(pocket, stopped, Scene().asking("Hello"))


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "top-p", "--prompt", "What is a token?", "--temperature", "1.5", "--json"]) == 0
    document = check("why", capsys.readouterr().out)
    assert (document["figure"], document["prompt"]) == ("top-p", "What is a token?")
    assert run(["why"]) == 0
    assert "perplexity" in capsys.readouterr().out
    assert run(["why", "entrpy"]) == 2
    assert "did you mean entropy" in capsys.readouterr().err
    assert run(["why", "entropy", "--prompt", " "]) == 2
    assert "the prompt is empty" in capsys.readouterr().err
