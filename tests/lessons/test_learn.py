"""`learn`: ten lessons on the loaded model, tasks that are seen to be done, and progress that is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.commands.recorder import Recorder
from tests.lessons.contracts import check
from tests.lessons.tiny_models import write_hybrid, write_latent, write_recurrent, write_sliding
from tui_chat.chat.conversation import Role
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.engine.engine import Engine
from tui_chat.engine.gguf import read_header
from tui_chat.engine.types import FinishReason, LoadOptions, SamplingParams, StageTrace, TokenTrace
from tui_chat.errors import CancelledError, StorageError, UsageError
from tui_chat.lessons.answers import AnswerFigures
from tui_chat.lessons.course import deeds
from tui_chat.lessons.course.deeds import AnswerEnded, CommandShown, Deed, Seen, TokenSelected
from tui_chat.lessons.course.lessons import LESSONS, contents, done_report, open_lesson
from tui_chat.lessons.course.progress import FILE_NAME, N_LESSONS, Progress, lesson_number
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.logits import logits
from tui_chat.lessons.merging import Merges
from tui_chat.lessons.report import Report
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.template import Reader, template
from tui_chat.lessons.tokens import tokens
from tui_chat.lessons.watch import Watch

NUMBERS = range(1, N_LESSONS + 1)


def drawn(report: Report, width: int = 78) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


def opened(engine: Engine, number: int, scene: Scene | None = None) -> tuple[Report, dict[str, Any]]:
    report = open_lesson(engine, Watch(), scene or Scene(params=SamplingParams(seed=1)), number)
    return report, check("learn", report.document)


def trace(p: float = 0.5, *, rank: int = 1, left: int = 3, piece: bytes = b" a") -> TokenTrace:
    return TokenTrace(
        position=9,
        id=5,
        piece=piece,
        logit=math.log(p),
        logsumexp=0.0,
        rank=rank,
        entropy=1.0,
        top=(),
        stages=(StageTrace("top_k", left),),
        final=(),
        u=None,
        seconds=0.1,
    )


def answer(
    *traces: TokenTrace,
    text: str = "a",
    reason: FinishReason | None = FinishReason.EOS,
    settings: Mapping[str, Any] | None = None,
) -> AnswerEnded:
    return AnswerEnded(AnswerFigures(generated=len(traces), traces=traces, reason=reason), text, settings or {})


# The lessons on a model


@pytest.mark.parametrize("number", NUMBERS)
def test_every_lesson_on_the_built_in_model(number: int, pocket: Engine) -> None:
    before = list(pocket.context.ids)
    report, document = opened(pocket, number)
    assert list(pocket.context.ids) == before
    assert document["task"] == LESSONS[number - 1].task
    text = drawn(report)
    assert f"Lesson {number} of 10: {LESSONS[number - 1].title}" in text
    assert text.index(LESSONS[number - 1].aim) < text.index("To do\n")
    assert all(len(line) <= 78 for line in text.splitlines())
    prose = " ".join(document["text"])
    assert 5 <= prose.count(". ") + prose.count(": ") + 1 <= 16


@pytest.mark.parametrize("number", NUMBERS)
def test_a_model_without_merges_template_and_thinking(
    number: int, bare: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Merges, "of", lambda header: None)
    report, document = opened(bare, number)
    text = " ".join(drawn(report).split())
    said = {
        2: "in another way",
        7: "does not follow from the number of tokens",
        8: "this model's file has none",
        9: "does not switch thinking",
    }
    assert said.get(number, "") in text
    assert ("/prefill <think>" in document["task"]) is (number == 9)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = write_recurrent(tmp_path_factory.mktemp("bare") / "bare.gguf")
    with Engine.load(path, LoadOptions(n_ctx=512, n_threads=1)) as engine:
        yield engine


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (write_recurrent, "The layers of this model are recurrent"),
        (write_latent, "something else than a key and a value"),
        (write_hybrid, "here 128 bytes a token. The others are recurrent"),
        (write_sliding, "a key and a value: the KV cache, here 768 bytes a token"),
    ],
)
def test_what_is_kept_of_a_token_is_what_the_model_keeps(
    tmp_path: Path, write: Callable[[Path], Path], said: str
) -> None:
    with Engine.load(write(tmp_path / "tiny.gguf"), LoadOptions(n_ctx=512, n_threads=1)) as engine:
        text = " ".join(opened(engine, 7)[1]["text"])
        eighth = drawn(opened(engine, 8)[0])
    assert said in text
    assert ("a key and a value of every" in text or "a key and a value: the KV" in text) is (
        write in (write_hybrid, write_sliding)
    )
    assert eighth.count("ChatML") == 1


def test_the_figures_are_those_of_the_model(pocket: Engine) -> None:
    _report, first = opened(pocket, 1)
    assert first["figures"]["ids"] == pocket.vocab.tokenize(first["figures"]["text"])
    _report, third = opened(pocket, 3)
    ids = tuple(pocket.vocab.tokenize(third["figures"]["text"], add_special=True))
    assert third["figures"]["entropy"] == pytest.approx(logits(pocket, Watch(), ids).document["entropy"], rel=1e-6)
    _report, fourth = opened(pocket, 4)
    best = fourth["figures"]["top"]
    gap = best[0]["logit"] - best[-1]["logit"]
    assert fourth["figures"]["gap"] == pytest.approx(gap)
    for at in fourth["figures"]["at"]:
        assert math.log(at["p"][0] / at["p"][-1]) == pytest.approx(gap / at["temperature"], abs=1e-6)
    _report, sixth = opened(pocket, 6)
    assert 1 <= len(sixth["figures"]["passes"]) <= 6


def test_truncation_follows_the_settings(pocket: Engine) -> None:
    params = SamplingParams(top_k=3, top_p=1, min_p=0)
    _report, document = opened(pocket, 5, Scene(params=params))
    assert document["figures"]["left"] == 3
    assert document["figures"]["stages"][0]["candidates"] == pocket.info.n_vocab
    _report, document = opened(pocket, 5, Scene(params=SamplingParams(top_k=0, top_p=1, min_p=0)))
    assert document["figures"]["left"] == pocket.info.n_vocab


def test_the_perplexity_is_that_of_its_tokens(pocket: Engine) -> None:
    _report, document = opened(pocket, 10)
    found = document["figures"]
    total = sum(token["surprisal"] for token in found["tokens"])
    assert found["mean_surprisal"] == pytest.approx(total / len(found["tokens"]))
    assert found["perplexity"] == pytest.approx(math.exp(found["mean_surprisal"]))


def test_one_unit_for_surprisal_and_entropy(pocket: Engine) -> None:
    """The inspector's: a learner looks for the number that the lesson names."""
    for number in (3, 4, 10):
        report, _document = opened(pocket, number)
        assert " nats" in drawn(report) and " bits" not in drawn(report)


def test_what_is_cut_before_the_temperature_is_said(pocket: Engine) -> None:
    report, _document = opened(pocket, 4, Scene(params=SamplingParams(top_k=0, top_p=0.5, min_p=0.1)))
    assert "top-p 0.5, min-p 0.1 come before the temperature" in " ".join(drawn(report).split())
    late = SamplingParams(top_k=0, top_p=0.5, min_p=0, order=("temperature", "top_p"))
    for params in (SamplingParams(top_k=0, top_p=1, min_p=0), late):
        report, _document = opened(pocket, 4, Scene(params=params))
        assert "before the temperature" not in drawn(report)


@pytest.mark.parametrize("number", [3, 6, 9, 10])
def test_a_lesson_can_be_stopped(number: int, pocket: Engine) -> None:
    watch = Watch()
    watch.cancel.set()
    with pytest.raises(CancelledError):
        open_lesson(pocket, watch, Scene(), number)


# The tasks


def tokens_shown(engine: Engine, text: str) -> CommandShown:
    report = tokens(engine.vocab, read_header(engine.info.path), Watch(), [text])
    return CommandShown("tokens-demo", report.document)


def seen(looks: deeds.Check, deed: Deed) -> Seen:
    found = looks(deed)
    assert found is not None
    return found


def test_five_tokens(pocket: Engine) -> None:
    assert seen(deeds.five_tokens, tokens_shown(pocket, "The sky is so blue")) == Seen(True, "Your text is 5 tokens.")
    missed = seen(deeds.five_tokens, tokens_shown(pocket, "The sky"))
    assert not missed.done and "is 2 tokens" in missed.words and "exactly 5" in missed.words


def test_a_word_of_three_tokens(pocket: Engine) -> None:
    n = len(pocket.vocab.tokenize("unbelievable"))
    found = seen(deeds.cut_word, tokens_shown(pocket, "unbelievable"))
    assert found.done and f"is {n} tokens, after {12 - n} merges" in found.words
    assert not seen(deeds.cut_word, tokens_shown(pocket, "hello")).done
    assert "more than one word" in seen(deeds.cut_word, tokens_shown(pocket, "The sky is blue")).words


def test_a_sure_next_token() -> None:
    def shown(p: float) -> CommandShown:
        return CommandShown("logits", {"top": [{"text": " `5", "p": p}]})

    assert seen(deeds.sure_next, shown(0.95)).done
    assert "95.0%" in seen(deeds.sure_next, shown(0.95)).words
    assert not seen(deeds.sure_next, shown(0.94)).done


def test_a_hot_answer() -> None:
    found = seen(deeds.hot_answer, answer(trace(), trace(rank=4), settings={"temperature": 1.5}))
    assert found.done and "1 of its 2 tokens" in found.words
    cold = seen(deeds.hot_answer, answer(trace(), settings={"temperature": 1.4}))
    assert not cold.done and "1.4" in cold.words
    assert deeds.hot_answer(answer(settings={"temperature": 2.0})) is None


def test_exactly_three_candidates() -> None:
    assert seen(deeds.three_left, answer(trace(), trace(), settings={"top_k": 3})).done
    fewer = seen(deeds.three_left, answer(trace(), trace(left=2), settings={"top_k": 3}))
    assert not fewer.done and "1 of 2" in fewer.words and "/min-p off" in fewer.words
    more = seen(deeds.three_left, answer(trace(left=40), settings={"top_k": 40}))
    assert not more.done and "/top-k 3" in more.words


def test_ended_in_the_middle() -> None:
    for reason in (FinishReason.CANCELLED, FinishReason.STOP):
        found = seen(deeds.ended_by_hand, answer(trace(), trace(), reason=reason))
        assert found.done and "2 tokens, 2 passes" in found.words
    for other in (FinishReason.EOS, FinishReason.LENGTH, None):
        assert not seen(deeds.ended_by_hand, answer(trace(), reason=other)).done
    assert not seen(deeds.ended_by_hand, answer(reason=FinishReason.CANCELLED)).done


def test_tokens_reused() -> None:
    def shown(*reused: int) -> CommandShown:
        return CommandShown("stats", {"answers": [{"usage": {"prompt": 50, "reused": n}} for n in reused]})

    found = seen(deeds.reused, shown(0, 30))
    assert found.done and "30 of 50" in found.words and "only 20" in found.words
    assert "second message" in seen(deeds.reused, shown(30)).words
    assert not seen(deeds.reused, shown(30)).done
    assert not seen(deeds.reused, shown(0, 0)).done


def test_the_system_text_in_the_prompt(pocket: Engine) -> None:
    def shown(system: str | None, scene: Scene) -> CommandShown:
        reader = Reader(pocket.info.name, pocket.vocab, 512)
        return CommandShown("template", template(reader, scene.builder(pocket), scene).document, system)

    asked = Scene().asking("Hello", "Be a pirate.")
    found = seen(deeds.system_in_prompt, shown("Be a pirate.", asked))
    assert found.done and "at character 20 of" in found.words
    assert "No system text" in seen(deeds.system_in_prompt, shown(None, Scene().asking("Hello"))).words
    assert "Nothing was said" in seen(deeds.system_in_prompt, shown("Be brief.", Scene())).words
    assert not seen(deeds.system_in_prompt, shown("Be a sailor.", asked)).done


@pytest.mark.parametrize(
    ("pieces", "n"),
    [
        ((b"<think>", b"\n2", b"</think>", b"42"), 3),
        ((b"2 + ", b"2</thi", b"nk>", b"4"), 3),
        ((b"<think>", b"still at it"), 2),
        ((b"<think>", b"\n\n", b"</think>", b"42"), 0),
        ((b"42",), 0),
    ],
)
def test_thinking_in_an_answer(pieces: tuple[bytes, ...], n: int) -> None:
    deed = answer(*(trace(piece=piece) for piece in pieces), text=b"".join(pieces).decode())
    found = seen(deeds.thought, deed)
    assert found.done is bool(n)
    assert not n or f"{n} of the {len(pieces)} tokens" in found.words


@given(st.floats(1e-6, 1.0))
def test_a_surprising_token(p: float) -> None:
    assume(not math.isclose(p, math.exp(-3)))
    found = seen(deeds.surprising_token, TokenSelected(trace(p)))
    assert found.done is (p < math.exp(-3))
    assert f"{-math.log(p):.2f} nats".removeprefix("-") in found.words


@pytest.mark.parametrize("number", NUMBERS)
def test_other_deeds_mean_nothing(number: int) -> None:
    other = CommandShown("memory", {})
    assert LESSONS[number - 1].check(other) is None


# Progress


def test_progress_survives_a_restart(home: Path) -> None:
    progress = Progress.at_home()
    assert (set(progress.done), progress.open, progress.next) == (set(), None, 1)
    assert not (home / "data").exists()
    progress.begin(2)
    assert Progress.at_home().open == 2
    progress.finish(2)
    again = Progress.at_home()
    assert (set(again.done), again.open, again.next) == ({2}, None, 1)
    for number in NUMBERS:
        again.finish(number)
    assert Progress.at_home().next is None
    assert json.loads((home / "data" / FILE_NAME).read_text()) == {"done": list(NUMBERS), "open": None}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"done": 3}', '{"done": [0, 11, true, "2"], "open": 99}', "\ufeff"]
)
def test_a_broken_file_counts_as_nothing(home: Path, text: str) -> None:
    path = home / "data" / FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_text(text)
    progress = Progress.at_home()
    assert (progress.done, progress.open) == (frozenset(), None)
    progress.finish(1)
    assert Progress.at_home().done == {1}


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "course.json"
    path.mkdir()
    progress = Progress(path)
    with pytest.raises(StorageError, match="remembered until you quit"):
        progress.finish(4)
    assert progress.done == {4}


def test_the_next_lesson() -> None:
    progress = Progress()
    progress.finish(9)
    assert progress.next == 1
    progress.finish(1)
    progress.finish(3)
    assert progress.next == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "no lesson 0"),
        ("11", "1 to 10"),
        ("-1", "no lesson -1"),
        ("x", "by its number"),
        ("1.5", "1.5"),
        ("1 2", "1 2"),
    ],
)
def test_no_such_lesson(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        lesson_number(text)
    context = Recorder()
    with pytest.raises(UsageError, match=words):
        default_registry().execute(f"/learn {text}", context)
    assert context == Recorder() and context.progress.open is None


# Where they are read


def test_the_contents() -> None:
    progress = Progress()
    document = check("learn", contents(progress).document)
    assert (document["next"], document["open"]) == (1, None)
    assert "Next: /learn 1, Tokens." in drawn(contents(progress))
    progress.finish(1)
    text = drawn(contents(progress))
    assert "1 of 10 are done" in " ".join(text.split())
    assert text.count("✓") == 1 and "Next: /learn 2" in text
    progress.begin(3)
    assert f"Lesson 3 is open. To do: {LESSONS[2].task[:20]}" in drawn(contents(progress))
    for number in NUMBERS:
        progress.finish(number)
    assert "All ten are done" in drawn(contents(progress))


def test_what_is_said_when_a_task_is_done() -> None:
    progress = Progress()
    for number in range(1, 5):
        progress.finish(number)
    text = drawn(done_report(4, "It was hot.", progress))
    assert "It was hot. /temp default" in text and "Next: /learn 5, Truncation." in text
    for number in NUMBERS:
        progress.finish(number)
    assert "all ten lessons are done" in drawn(done_report(10, "Yes.", progress))


def test_the_command_opens_a_lesson(pocket: Engine) -> None:
    context = Recorder(engine=pocket)
    context.conversation.append(Role.USER, "Hello")
    registry = default_registry()
    registry.execute("/learn", context)
    registry.execute("/learn 1", context)
    assert context.calls == ["report /learn", "report /learn 1"]
    assert context.progress.open == 1
    assert "tells you" in drawn(context.reports[1])
    context.progress.finish(1)
    registry.execute("/learn 1", context)
    assert "done this before" in drawn(context.reports[2])


def test_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Progress.at_home().finish(1)
    assert run(["learn", "--json"]) == 0
    document = check("learn", capsys.readouterr().out)
    assert [lesson["done"] for lesson in document["lessons"]] == [True] + [False] * 9
    assert run(["learn"]) == 0
    assert "Next: tui-chat learn 2, Byte-pair encoding." in capsys.readouterr().out
    assert run(["learn", "4", "--json"]) == 0
    document = check("learn", capsys.readouterr().out)
    assert document["number"] == 4 and document["figures"]["at"]
    assert run(["learn", "4"]) == 0
    assert "To do in the app" in capsys.readouterr().out
    assert Progress.at_home().open is None
    for wrong in ("11", "x"):
        assert run(["learn", wrong]) == 2
        assert "1 to 10" in capsys.readouterr().err
