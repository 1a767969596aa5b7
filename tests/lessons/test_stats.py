"""`stats`: figures of answers from what was kept of them, exact where they are known and missing where they are not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands.recorder import Recorder
from tests.lessons.contracts import check
from tests.ui.scripted import cut_into_tokens, make_token
from tests.ui.test_session import Bench
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.store import Store
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    Timings,
    TokensGenerated,
    TokenTrace,
    Usage,
)
from tui_chat.errors import UsageError
from tui_chat.lessons.answers import AnswerFigures, decode_words, prefill_words
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.report import Report
from tui_chat.lessons.stats import SHOWN_TURNS, stats
from tui_chat.ui.summary import ended_answers

TIMINGS = Timings(prefill_s=0.25, ttft_s=0.3, decode_s=0.5, tokens_per_s=4.0)


def traces_of(*shares: float) -> tuple[TokenTrace, ...]:
    """Traces of tokens that had these probabilities, a hundredth of a second apart."""
    tokens = [make_token(index, f" w{index}".encode(), p) for index, p in enumerate(shares)]
    return tuple(token.trace for token in tokens if token.trace is not None)


def answer_of(traces: tuple[TokenTrace, ...], **changes: object) -> Message:
    message = Message(role=Role.ASSISTANT, text="x", ids=tuple(trace.id for trace in traces), model="pocket")
    return replace(message, **changes)  # type: ignore[arg-type]


def text(report: Report, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


def test_figures_of_an_answer_that_was_measured() -> None:
    traces = traces_of(0.5, 0.25, 0.5)
    message = answer_of(traces, usage=Usage(40, 30, 3), timings=TIMINGS, finish_reason=FinishReason.EOS)
    answer = AnswerFigures.of(message, traces)
    assert (answer.n_prompt, answer.n_reused, answer.n_read, answer.generated) == (40, 30, 10, 3)
    assert (answer.prefill_rate, answer.ttft_s, answer.decode_s, answer.decode_rate) == (40, 0.3, 0.5, 4)
    assert answer.surprisals == pytest.approx([math.log(2), math.log(4), math.log(2)])
    assert prefill_words(answer) == "10 tokens in 0.25 s = 40 tok/s"
    assert decode_words(answer) == "2 tokens after the first in 0.50 s = 4.0 tok/s"
    document = check("stats", stats([answer]).document)["answers"][0]
    assert document["perplexity"] == pytest.approx(2 ** (4 / 3))
    assert document["surprisal"] == pytest.approx(
        {"mean": math.log(2) * 4 / 3, "max": math.log(4), "sum": math.log(16)}
    )
    assert [token["seconds"] for token in document["tokens"]] == [trace.seconds for trace in traces]
    assert document["tokens"][1]["text"] == " w1" and document["tokens"][1]["bytes"] == b" w1".hex()


def test_an_answer_of_which_only_the_tokens_are_stored() -> None:
    traces = traces_of(0.5, 0.5, 0.5, 0.5, 0.5)
    answer = AnswerFigures.of(answer_of(traces), traces)
    assert (answer.n_prompt, answer.generated, answer.ttft_s) == (20, 5, 0.31)
    assert answer.decode_s == pytest.approx(0.04)
    assert answer.decode_rate == pytest.approx(100)
    assert (answer.n_reused, answer.n_read, answer.prefill_s, answer.prefill_rate) == (None,) * 4
    report = stats([answer])
    assert "how many of them were in the cache already is not known" in text(report)
    assert "What turn 1 found in the cache" in text(report)
    assert check("stats", report.document)["answers"][0]["usage"] == {"prompt": 20, "reused": None, "generated": 5}


def test_what_is_not_known_is_said_and_never_made_up() -> None:
    bare = AnswerFigures.of(Message(role=Role.ASSISTANT, text="hello there"), ())
    told = AnswerFigures.of(Message(role=Role.ASSISTANT, text="hello there", ids=(4, 5)), ())
    assert bare == AnswerFigures() and told.generated == 2
    report = stats([bare, told])
    document = check("stats", report.document)
    for figures in document["answers"]:
        assert set(figures["timings"].values()) == {None}
        assert (figures["entropy"], figures["surprisal"], figures["perplexity"], figures["tokens"]) == (
            None, None, None, [],
        )  # fmt: skip
    assert text(report).count("not known") >= 6
    assert "turns 1, 2" in text(report)
    assert "0 tok/s" not in text(report)


def test_a_backtick_in_a_token_does_not_end_what_is_quoted() -> None:
    traces = tuple(replace(trace, piece=b"a`b") for trace in traces_of(0.5, 0.25))
    shown = text(stats([AnswerFigures.of(answer_of(traces), traces)]))
    assert shown.count("a'b") == 2 and "`" not in shown


def test_a_fork_counts_the_tokens_it_wrote_itself() -> None:
    traces = traces_of(0.9, 0.8, 0.7, 0.6, 0.5)
    fork = AnswerFigures.of(answer_of(traces, usage=Usage(22, 0, 3)), traces)
    assert fork.generated == 3 and fork.traces == traces[2:]
    assert AnswerFigures.of(answer_of(traces, usage=Usage(25, 0, 0)), traces).traces == ()


def test_traces_count_only_where_none_is_missing() -> None:
    traces = traces_of(0.9, 0.8, 0.7)
    for found in (traces[1:2], traces[:2], (traces[0], traces[2])):
        assert AnswerFigures.of(answer_of(traces), found).traces == ()
    begun_with = answer_of(traces, ids=(1, 2, *(trace.id for trace in traces)))
    for usage in (None, Usage(22, 0, 3)):
        answer = AnswerFigures.of(replace(begun_with, usage=usage), traces)
        assert (answer.traces, answer.generated) == (traces, 3)


def test_an_answer_without_a_token() -> None:
    usage, timings = Usage(40, 0, 0), replace(TIMINGS, decode_s=0.0, tokens_per_s=0.0)
    for reason, read in ((FinishReason.EOS, 40), (FinishReason.CANCELLED, None)):
        message = Message(role=Role.ASSISTANT, text="", ids=(), usage=usage, timings=timings, finish_reason=reason)
        answer = AnswerFigures.of(message, ())
        assert (answer.n_read, answer.ttft_s, answer.decode_s, answer.decode_rate) == (read, None, None, None)
        shown = text(stats([answer]))
        assert "none came" in shown and "no token was generated" in shown and "single tokens" not in shown
        check("stats", stats([answer]).document)


@settings(max_examples=30)
@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=40), st.integers(0, 30), st.integers(1, 30))
def test_the_figures_of_any_answer_agree(shares: list[float], reused: int, read: int) -> None:
    traces = traces_of(*shares)
    n = len(traces)
    usage, timings = Usage(reused + read, reused, n), replace(TIMINGS, decode_s=(n - 1) / 8)
    answer = AnswerFigures.of(answer_of(traces, usage=usage, timings=timings), traces)
    document = check("stats", stats([answer, answer]).document)["answers"][1]
    assert document["surprisal"]["sum"] == pytest.approx(-math.log(math.prod(shares)), rel=1e-6)
    assert document["surprisal"]["mean"] <= document["surprisal"]["max"] + 1e-12
    assert document["perplexity"] == pytest.approx(math.prod(shares) ** (-1 / n), rel=1e-6)
    assert document["timings"]["prefill_tokens_per_s"] == read / timings.prefill_s
    assert document["timings"]["tokens_per_s"] == (8 if n > 1 else None)
    for width in (24, 44, 80):
        assert draw(stats([answer] * 3).blocks, width)


def test_the_turns_stand_below_one_another_and_as_sparklines() -> None:
    answers = [
        AnswerFigures(generated=10 * turn, usage=Usage(20, 5, 10 * turn), timings=replace(TIMINGS, ttft_s=turn / 100))
        for turn in range(1, SHOWN_TURNS + 6)
    ]
    assert "Turn by turn" not in text(stats(answers[:1]))
    lines = text(stats(answers[:3])).splitlines()
    row = next(line for line in lines if line.startswith("   2 "))
    assert row.split() == ["2", "20", "5", "20", "20", "ms", "60", "38", "–"]
    assert any(line.split() == ["answer", "tokens", "▁▅█", "10", "30"] for line in lines)
    assert any(line.split() == ["first", "token", "▁▅█", "10", "ms", "30", "ms"] for line in lines)
    many = text(stats(answers))
    assert f"the last {SHOWN_TURNS}" in many
    assert f"\n{SHOWN_TURNS + 5:>4} " in many and "\n   5 " not in many
    assert stats(answers).document["n_answers"] == SHOWN_TURNS + 5


def test_of_a_real_answer(pocket: Engine) -> None:
    prompt = tuple(pocket.vocab.tokenize("What is a token", add_special=True))
    events = list(pocket.generate(GenerationRequest(prompt_ids=prompt, limits=Limits(max_tokens=12, ignore_eos=True))))
    done = next(event for event in events if isinstance(event, GenerationFinished))
    tokens = [token for event in events if isinstance(event, TokensGenerated) for token in event.tokens]
    message = answer_of((), ids=tuple(token.id for token in tokens), usage=done.usage, timings=done.timings)
    answer = AnswerFigures.of(message, (token.trace for token in tokens if token.trace))
    document = check("stats", stats([answer]).document)["answers"][0]
    assert document["usage"] == {"prompt": len(prompt), "reused": done.usage.reused, "generated": 12}
    times = [token["seconds"] for token in document["tokens"]]
    assert len(times) == 12 and times == sorted(times)
    assert document["timings"]["prefill_s"] <= times[0]
    assert document["timings"]["tokens_per_s"] == pytest.approx(done.timings.tokens_per_s)
    assert [token["position"] for token in document["tokens"]] == list(range(len(prompt), len(prompt) + 12))


def test_the_session_gives_the_answers_that_have_ended() -> None:
    bench = Bench()
    bench.load()
    session, worker = bench.session, bench.worker
    assert ended_answers(session) == ()
    for index in range(2):
        session.send("hi")
        assert len(ended_answers(session)) == index
        worker.begin(24)
        worker.say("A token is text")
        assert len(ended_answers(session)) == index
        worker.finish(generated=4)
    first, second = ended_answers(session)
    assert first == second
    assert (first.model, first.reason, first.usage) == ("pocket", FinishReason.EOS, Usage(24, 0, 4))
    assert first.timings is not None and len(first.traces) == 4
    session.retry()
    worker.begin(24)
    worker.say("Other words")
    worker.finish(FinishReason.CANCELLED, generated=2)
    assert [answer.generated for answer in ended_answers(session)] == [4, 2]
    assert ended_answers(session)[1].reason is FinishReason.CANCELLED


def test_the_slash_command() -> None:
    context = Recorder(answered=(AnswerFigures(generated=3),))
    assert default_registry().execute("/stats", context)
    assert context.calls == ["report /stats"]
    assert context.reports[0].document["n_answers"] == 1
    with pytest.raises(UsageError, match="send a message first"):
        default_registry().execute("/stats", Recorder(answered=()))
    with pytest.raises(UsageError, match="is still being written"):
        default_registry().execute("/stats", Recorder(answered=(), answering=True))


def test_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stats"]) == 2
    assert "no conversation is stored yet" in capsys.readouterr().err
    assert not home.exists()
    conversation = Conversation()
    tokens: dict[str, list[GeneratedToken]] = {}
    for index, words in enumerate(("A small piece", "of [text] `and` so", "on \x1b[2J")):
        conversation.append(Role.USER, f"question {index}")
        message = conversation.begin_answer(model="pocket")
        tokens[message.id] = cut_into_tokens(words)
        conversation.update(
            replace(
                message,
                text=words,
                ids=tuple(token.id for token in tokens[message.id]),
                finished=True,
                finish_reason=FinishReason.EOS,
                usage=Usage(24, 8, len(tokens[message.id])),
                timings=TIMINGS,
            )
        )
    with Store(home / "data" / "conversations.db") as store:
        store.write(conversation, *conversation)
        assert run(["stats"]) == 0  # no figures of the tokens yet
        assert "turns 1, 2, 3" in capsys.readouterr().out
        for key, found in tokens.items():
            store.add_traces(key, [token.trace for token in found if token.trace])
    assert run(["stats", "--json"]) == 0
    document = check("stats", capsys.readouterr().out)
    assert (document["conversation"], document["n_answers"]) == ("question 0", 3)
    assert [len(answer["tokens"]) for answer in document["answers"]] == [3, 4, 2]
    assert [answer["usage"]["reused"] for answer in document["answers"]] == [8, 8, 8]
    assert run(["stats"]) == 0
    shown = capsys.readouterr().out
    assert "Turn by turn" in shown and "not known" not in shown and "\x1b" not in shown


def test_an_answer_that_has_not_ended_as_far_as_is_stored(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = Conversation()
    conversation.append(Role.USER, "hello?")
    conversation.begin_answer(model="pocket")
    with Store(home / "data" / "conversations.db") as store:
        store.write(conversation, *conversation)
        assert run(["stats"]) == 0
    assert "another tui-chat is writing it, or it broke off" in " ".join(capsys.readouterr().out.split())


def test_a_conversation_to_which_nothing_was_answered(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = Conversation()
    conversation.append(Role.USER, "hello?")
    with Store(home / "data" / "conversations.db") as store:
        assert run(["stats"]) == 2
        assert "no conversation is stored yet" in capsys.readouterr().err
        store.write(conversation, *conversation)
    assert run(["stats"]) == 2
    assert "nothing was answered in this conversation yet" in capsys.readouterr().err
