"""The educational mode: the log of an answer, its switch, and where it stands in the app and on the command line."""

from __future__ import annotations

import pytest

from tests.commands.recorder import Recorder
from tests.lessons.contracts import check
from tests.ui.scripted import INFO, ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.config import LoadedSettings
from tui_chat.engine.types import FinishReason, Timings, Usage
from tui_chat.errors import UsageError
from tui_chat.lessons.answers import AnswerFigures
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.educational import answer_log
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.transcript import Transcript

ANSWER = AnswerFigures(
    model="pocket",
    reason=FinishReason.STOP,
    generated=11,
    usage=Usage(40, 30, 11),
    timings=Timings(prefill_s=0.02, ttft_s=0.03, decode_s=0.5, tokens_per_s=20.0),
)


def logged(answer: AnswerFigures, n_prompt: int = 40, width: int = 78) -> dict[str, str]:
    """Label to value of the log's lines."""
    lines = (text_of(line) for line in draw(answer_log(INFO, range(100, 100 + n_prompt), answer).blocks, width))
    return {line[:12].rstrip(): line[12:].strip() for line in lines}


def test_the_log_follows_the_answer_through_the_model() -> None:
    assert logged(ANSWER) == {
        "text → ids": "40 tokens: 100 101 102 103 104 105 … 137 138 139",
        "model": "embedding width 192 → 6 layers → 64 logits",
        "prefill": "10 tokens in 20 ms = 500 tok/s; 30 from the cache",
        "decode": "10 tokens after the first in 0.50 s = 20 tok/s",
        "cache": "prompt and answer take 51 of 2,048 places, 2.5%",
        "end": "a stop string came",
    }
    assert logged(ANSWER, 4)["text → ids"] == "4 tokens: 100 101 102 103"
    assert logged(ANSWER, 2048)["cache"].endswith("take 2,048 of 2,048 places, 100%")
    document = check("educational", answer_log(INFO, range(40), ANSWER).document)
    assert (document["n_embd"], document["n_layer"], document["context"]) == (192, 6, {"used": 51, "n_ctx": 2048})
    assert document["timings"]["prefill_tokens_per_s"] == 500


def test_what_is_not_known_is_said() -> None:
    log = logged(AnswerFigures())
    assert (log["prefill"], log["decode"], log["end"]) == ("not known", "not known", "it broke off")
    check("educational", answer_log(INFO, (), AnswerFigures()).document)


def test_the_switch() -> None:
    registry, context = default_registry(), Recorder()
    assert registry.execute("/educational", context)
    assert "**off**" in context.shown[0]
    assert registry.execute("/educational ON", context)
    assert context.educates
    assert registry.execute("/educational", context)
    assert "**on**" in context.shown[1]
    with pytest.raises(UsageError, match="on or off, not 'maybe'"):
        registry.execute("/educational maybe", context)
    assert registry.execute("/educational off", context)
    assert not context.educates


async def test_a_log_follows_each_answer_while_it_is_on() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 40)) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("Without a log.")
        await settle(pilot, lambda: "ended by" in shown(app))
        assert not app.chat.query(ReportCard)
        await type_in(pilot, "/educational on")
        await type_in(pilot, "again")
        worker.begin()
        worker.say("The turn of this answer grows")
        await settle(pilot, lambda: "grows" in shown(app))
        worker.say("\n\nat the very moment when it ends.")
        worker.finish()
        await settle(pilot, lambda: "text → ids" in shown(app), "the log")
        await settle(pilot, lambda: shown(app).count("ended by the model") == 2, "the footer above it")
        assert "24 tokens: 0 1 2 3 4 5 … 21 22 23" in shown(app)
        assert "the model gave its end token" in shown(app)
        assert app.session.answer is not None
        assert len(app.session.conversation.path) == 4
        await type_in(pilot, "/educational off")
        await type_in(pilot, "once more")
        worker.answer("Quiet.")
        await settle(pilot, lambda: "Quiet." in shown(app) and not app.session.answering)
        await pilot.pause()
        assert len(app.chat.query(ReportCard)) == 1


async def test_a_turn_that_grows_at_the_moment_a_card_comes_is_shown_whole() -> None:
    app = make_app()
    async with app.run_test(size=(80, 40)) as pilot:
        await ready(pilot)
        transcript = app.chat.query_one(Transcript)
        for _ in range(12):  # more than fits: a transcript that scrolls is not laid out a second time by chance
            await transcript.add_user("before")
        turn = await transcript.add_answer()
        turn.show_status("reading")
        await turn.flush()
        await settle(pilot, lambda: "reading" in shown(app))

        async def end() -> None:
            turn.grow("One line\n\nand another.")
            await turn.finish("the footer")
            card = ReportCard("a card")
            await transcript.add_card(card, follow=False)
            card.show(answer_log(INFO, (1, 2), ANSWER), done=True)

        app.chat.call_next(end)
        await settle(pilot, lambda: "text → ids" in shown(app))
        await settle(pilot, lambda: "and another." in shown(app) and "the footer" in shown(app), "the whole turn")


@pytest.mark.parametrize("arguments", [["--educational"], ["chat", "--educational"], ["--educational", "chat"], []])
def test_the_flag_opens_the_app_with_it(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    seen: list[LoadedSettings] = []

    def run_app(loaded: LoadedSettings, **options: object) -> int:
        seen.append(loaded)
        return 0

    monkeypatch.setattr("tui_chat.ui.app.run_app", run_app)
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{name}.isatty", lambda: True)
    assert run(arguments) == 0
    assert seen[0].settings.ui.educational is bool(arguments)


def test_on_the_command_line_it_stands_beside_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = ["generate", "Hello", "--seed", "1", "--max-tokens", "3"]
    assert run(answering) == 0
    plain, nothing = capsys.readouterr()
    assert nothing == ""
    assert run([*answering, "--educational"]) == 0
    out, err = capsys.readouterr()
    assert out == plain
    assert "text → ids" in err and "prompt and answer take" in err
    monkeypatch.setenv("TUI_CHAT_UI__EDUCATIONAL", "true")
    assert run([*answering, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("{") and "embedding width" in err
