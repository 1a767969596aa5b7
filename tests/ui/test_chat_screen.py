"""The screen as one uses it: sending, stopping, retrying, commands, panes, sizes, and the ways out."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Static

from tests.ui.scripted import ScriptedWorker, make_app, ready, settle, type_in
from tui_chat.engine.types import FinishReason
from tui_chat.errors import ModelFileError, PromptTooLongError
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.history import InputHistory
from tui_chat.ui.screens.help import HelpScreen
from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.turns import AnswerTurn, Notice, ThinkBlock, UserTurn
from tui_chat.ui.widgets.value_row import ValueRow

NARROW, WIDE, VERY_WIDE = (80, 24), (120, 40), (170, 50)


def shown(app: TuiChatApp) -> str:
    """The text on the screen, line by line."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in lines)


def line_of(app: TuiChatApp) -> str:
    return str(app.chat.query_one("#chat-line", Static).render())


@pytest.mark.parametrize("size", [NARROW, WIDE, VERY_WIDE])
async def test_a_turn_from_composer_to_footer(size: tuple[int, int]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        assert "A glass-box chat" in shown(app)
        await type_in(pilot, "What is a token?")
        assert app.chat.query_one(Composer).text == ""
        worker.begin()
        worker.say("A token is a small piece of text.")
        await settle(pilot, lambda: "small piece" in shown(app), "the streamed text")
        worker.finish()
        await settle(pilot, lambda: "ended by the model" in shown(app), "the footer")
        picture = shown(app)
        assert "What is a token?" in picture
        assert "212 tok/s" in picture
        assert "8 tokens · 212 tok/s" in picture
        assert app.session.conversation.path[-1].text == "A token is a small piece of text."


async def test_markdown_of_an_answer_is_rendered_when_it_ends() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "list")
        worker.answer("# Two things\n\n- **one**\n- two\n\nline one\nline two\n")
        await settle(pilot, lambda: "ended by" in shown(app))
        picture = shown(app)
        assert "• one" in picture
        assert "**" not in picture
        assert "# Two" not in picture
        assert "line one line two" not in picture


async def test_thinking_is_folded_once_the_answer_begins_and_unfolds_on_a_key() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        worker.say("<think>They greet")
        await settle(pilot, lambda: "They greet" in shown(app), "the thinking")
        assert "<think>" not in shown(app)
        worker.say(" me.</think>Hello!")
        worker.finish()
        await settle(pilot, lambda: "ended by" in shown(app))
        assert "They greet" not in shown(app)
        assert "▸ thought · 3 words" in shown(app)
        await pilot.press("ctrl+t")
        await settle(pilot, lambda: "They greet me." in shown(app), "the unfolded thinking")
        assert not app.chat.query_one(ThinkBlock).folded


async def test_a_closing_think_tag_alone_turns_what_came_before_into_thinking() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        worker.say("First paragraph.\n\nSecond")
        await settle(pilot, lambda: "Second" in shown(app))
        worker.say(" one.</think>Hello!")
        worker.finish()
        await settle(pilot, lambda: "thought · 4 words" in shown(app))
        assert "First paragraph" not in shown(app)
        assert "Hello!" in shown(app)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_stop(key: str) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        await settle(pilot, lambda: "reading the prompt" in shown(app))
        await pilot.press(key)
        assert worker.cancelled == 1
        worker.finish(FinishReason.CANCELLED)
        await settle(pilot, lambda: "stopped by you" in shown(app))
        assert "reading the prompt" not in shown(app)
        await pilot.press("ctrl+c")
        assert "Ctrl+Q quits" in line_of(app)
        assert worker.cancelled == 1


async def test_enter_while_an_answer_streams_keeps_the_text() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "one")
        await type_in(pilot, "two")
        assert app.chat.query_one(Composer).text == "two"
        assert "still answering" in line_of(app)
        assert len(worker.requests) == 1


async def test_a_refused_prompt_comes_back_into_the_composer() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "far too long")
        worker.fail(PromptTooLongError(5000, 2048))
        await settle(pilot, lambda: "5,000 tokens" in shown(app), "the problem")
        assert "n_ctx  " in shown(app), "all of it is there to be read"
        assert app.chat.query_one(Composer).text == "far too long"
        assert len(app.chat.query(UserTurn)) == 0
        assert app.session.conversation.path == ()


async def test_retry_adds_a_sibling_and_one_can_go_back() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("First answer.")
        await settle(pilot, lambda: "ended by" in shown(app))
        await pilot.press("ctrl+r")
        await pilot.pause()
        worker.answer("Second answer.")
        await settle(pilot, lambda: "‹ 2/2 ›" in shown(app))
        assert "First answer" not in shown(app)
        await pilot.press("alt+left")
        await settle(pilot, lambda: "First answer." in shown(app))
        assert "‹ 1/2 ›" in shown(app)
        assert len(app.chat.query(UserTurn)) == 1


async def test_what_went_well_is_not_said_beside_a_problem() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "/temp 0.5")
        await settle(pilot, lambda: "temperature is now" in line_of(app), "the success")
        await type_in(pilot, "/fork 2")
        await settle(pilot, lambda: "! problem" in shown(app), "the problem")
        assert "temperature is now" not in line_of(app)


async def test_a_retry_stopped_before_its_first_token_brings_the_answer_back() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("First answer.")
        await settle(pilot, lambda: "ended by" in shown(app))
        await pilot.press("ctrl+r")
        await settle(pilot, lambda: "First answer" not in shown(app))
        worker.begin()
        await pilot.press("escape")
        worker.finish(FinishReason.CANCELLED)
        await settle(pilot, lambda: "First answer." in shown(app), "the answer before")
        assert "the answer before is back" in line_of(app) and "‹" not in shown(app)
        assert [message.text for message in app.session.conversation.path] == ["hi", "First answer."]


async def test_retry_with_nothing_said_says_so() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+r")
        assert "send a message first" in line_of(app)


async def test_inspector_follows_the_newest_and_any_token_can_be_selected() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("A token is a small piece of text .")
        await settle(pilot, lambda: "ended by" in shown(app))
        assert " 9/9 " in shown(app)
        assert "vocab 64 → top-k 40 → top-p 12 → min-p" in shown(app)
        await pilot.press("tab")
        assert isinstance(app.focused, TokenStrip)
        await pilot.press("left", "left", "left")
        assert " 6/9 " in shown(app)
        await settle(pilot, lambda: "▸ ·piece" in shown(app), "its waterfall")
        await pilot.press("home")
        assert " 1/9 " in shown(app)
        await pilot.press("end")
        assert " 9/9 " in shown(app)
        strip = app.chat.query_one(TokenStrip)
        await pilot.click(strip, offset=(4, 0))
        assert " 2/9 " in shown(app)
        assert "·token" in shown(app)


async def test_tab_goes_through_the_panes_and_narrow_screens_show_one() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        assert isinstance(app.focused, MessageInput)
        assert not app.chat.query_one(Inspector).is_on_screen
        await pilot.press("tab")
        await settle(pilot, lambda: isinstance(app.focused, TokenStrip))
        assert "No token yet" in shown(app)
        assert not app.chat.query_one(Composer).is_on_screen
        await pilot.press("tab")
        await settle(pilot, lambda: isinstance(app.focused, ValueRow))
        assert "temperature" in shown(app)
        await pilot.press("down")
        row = app.focused
        assert isinstance(row, ValueRow) and row.spec.name != "temperature"
        await pilot.press("tab")
        await settle(pilot, lambda: isinstance(app.focused, MessageInput))
        await pilot.press("f4")
        await settle(pilot, lambda: app.focused is row, "the row last used")
        await pilot.press("shift+tab")
        await settle(pilot, lambda: isinstance(app.focused, TokenStrip))


async def test_a_slider_reaches_the_answer_under_way() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        app.chat.query_one("#value-temperature").focus()
        await pilot.press("right")
        await settle(pilot, lambda: worker.params, "the new settings")
        assert worker.params[-1].temperature == pytest.approx(0.75)
        assert worker.params[-1].seed == 7
        assert "T 0.75" in shown(app)


async def test_commands_change_settings_and_the_panel_shows_them() -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/temp 1.3")
        assert app.session.inference.temperature == 1.3
        assert app.chat.query_one("#value-temperature", ValueRow).value == 1.3
        await type_in(pilot, "/tokens 99")
        assert app.session.inference.max_length == 99
        await type_in(pilot, "/temp 900")
        await settle(pilot, lambda: "temperature must be from 0 to 100" in shown(app))
        assert app.chat.query_one(Composer).text == ""
        await type_in(pilot, "/temp 1.4")
        assert app.session.inference.temperature == 1.4
        await pilot.press("up", "up")
        assert app.chat.query_one(Composer).text == "/temp 900"


async def test_help_is_a_report_and_no_message() -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/help temp")
        await settle(pilot, lambda: app.chat.query(ReportCard))
        await settle(pilot, lambda: "Set the temperature" in shown(app))
        assert app.session.conversation.path == ()


async def test_new_and_system() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/system Don't shout")
        assert app.session.conversation.system == "Don't shout"
        await type_in(pilot, "hi")
        worker.answer("Hello.")
        await settle(pilot, lambda: "ended by" in shown(app))
        await type_in(pilot, "/new")
        await settle(pilot, lambda: "A glass-box chat" in shown(app))
        assert "Hello." not in shown(app)
        assert app.session.conversation.system == "Don't shout"


async def test_theme_switches_live_by_command_and_unknown_ones_are_refused() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "/theme darkroom")
        assert app.theme == "darkroom"
        await type_in(pilot, "/theme darkrom")
        await settle(pilot, lambda: "did you mean darkroom" in shown(app))
        assert app.theme == "darkroom"


async def test_a_theme_of_the_settings_that_is_missing_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: [")
    app = make_app(theme="nonesuch", user_themes=tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await settle(pilot, lambda: "no theme is called nonesuch" in shown(app))
        assert "is not valid YAML" in " ".join(shown(app).split())
        assert app.theme == "tui-chat-dark"


async def test_completion_of_a_command() -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await pilot.press("slash", "t", "h", "e")
        await settle(pilot, lambda: "▸ /theme" in shown(app), "the menu")
        await pilot.press("tab")
        assert app.chat.query_one(Composer).text == "/theme "
        await settle(pilot, lambda: "darkroom" in shown(app), "the values")
        await pilot.press("down", "tab")
        assert app.chat.query_one(Composer).text in {f"/theme {name}" for name in app.theme_names}
        await pilot.press("escape")
        await pilot.press("enter")
        assert f"/theme {app.theme}" in {f"/theme {name}" for name in app.theme_names}
        assert app.chat.query_one(Composer).text == ""


async def test_keys_that_come_at_once_act_in_their_order() -> None:
    app = make_app(ScriptedWorker())
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        for key in "/temp 0.5\r/top-k 7\rHello\nyou\rand":
            name = {"\r": "enter", "\n": "ctrl+j"}.get(key, key)
            app.post_message(events.Key(name, key))
        await settle(pilot, lambda: app.session.conversation.path[-1:] != (), "the message")
        await settle(pilot, lambda: app.chat.query_one(Composer).text == "and", "what was typed behind it")
        assert app.session.conversation.path[0].text == "Hello\nyou"
        assert (app.session.value("temperature"), app.session.value("top_k")) == (0.5, 7)


async def test_escape_closes_the_menu_before_it_stops() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        await pilot.press("slash", "t")
        await settle(pilot, lambda: "/theme" in shown(app))
        await pilot.press("escape")
        assert "▸ /t" not in shown(app)
        assert worker.cancelled == 0
        await pilot.press("escape")
        assert worker.cancelled == 1


async def test_too_small_and_back_again() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await pilot.resize_terminal(50, 12)
        await settle(pilot, lambda: "needs 60×16, is 50×12" in shown(app), "the complaint")
        assert "Message, or /" not in shown(app)
        await pilot.resize_terminal(60, 16)
        await settle(pilot, lambda: "Message, or /" in shown(app), "the chat")
        assert "too small" not in shown(app)
        await pilot.resize_terminal(170, 50)
        await settle(pilot, lambda: "inspector" in shown(app) and "sampling" in shown(app))


async def test_quit_closes_the_engine_even_while_loading() -> None:
    worker = ScriptedWorker(loads=False, closes=False)
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await settle(pilot, lambda: worker.loaded)
        await pilot.press("ctrl+q")
        await settle(pilot, lambda: worker.closed)
    assert not app.closed_cleanly
    assert app.return_code == 0


async def test_quit_does_not_wait_for_the_search_for_models() -> None:
    searching, go_on = threading.Event(), threading.Event()

    def slow() -> tuple[tuple[str, str], ...]:
        searching.set()
        go_on.wait(60)
        raise PermissionError(13, "Permission denied")

    app = make_app(find_models=slow)
    async with app.run_test(size=NARROW) as pilot:
        await settle(pilot, searching.is_set)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "tui-chat-models")
        assert thread.daemon
        await pilot.press("ctrl+q")
        await settle(pilot, lambda: not app.is_running)
    assert thread.is_alive()
    go_on.set()
    thread.join(20)


async def test_whatever_the_start_runs_into_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(text: str) -> None:
        raise PermissionError(13, "Permission denied", text)

    monkeypatch.setattr("tui_chat.models.resolve.parse_spec", refused)
    app = make_app(note="this is a new one")
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot, lambda: "Permission denied" in shown(app) and "this is a new one" in shown(app))
        await type_in(pilot, "/model /somewhere")
        await settle(pilot, lambda: "cannot be read" in shown(app))


async def test_new_in_the_middle_of_an_answer_begins_afresh_at_once() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        worker.say("half an answer")
        await settle(pilot, lambda: "half an answer" in shown(app))
        await type_in(pilot, "/new")
        worker.finish(FinishReason.CANCELLED)
        await settle(pilot, lambda: "A glass-box chat" in shown(app))
        assert "half an" not in shown(app)


async def test_a_message_while_the_model_loads_is_kept() -> None:
    worker = ScriptedWorker(loads=False)
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await settle(pilot, lambda: worker.loaded)
        await settle(pilot, lambda: "loading" in shown(app))
        await type_in(pilot, "hi")
        assert "still on its way" in line_of(app)
        assert app.chat.query_one(Composer).text == "hi"


async def test_a_model_that_does_not_load_is_a_notice_and_the_old_one_stays() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        worker.loads = False
        await type_in(pilot, "/model builtin")
        worker.fail_load(ModelFileError("is empty", path=Path("x.gguf")), kept=True)
        await settle(pilot, lambda: "x.gguf: is empty" in shown(app), "the problem")
        assert "The model pocket stays in use." in shown(app)
        await type_in(pilot, "hi")
        assert len(worker.requests) == 1


async def test_model_command_with_a_bad_path_is_a_notice() -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/model /nowhere/x.gguf")
        await settle(pilot, lambda: "no such file" in shown(app))
        assert app.session.model is not None


async def test_help_screen_opens_and_closes() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await pilot.press("f1")
        await settle(pilot, lambda: isinstance(app.screen, HelpScreen))
        assert "chat.retry" in shown(app)
        await pilot.press("escape")
        await settle(pilot, lambda: app.screen is app.chat)


async def test_keys_can_be_rebound_and_unknown_or_clashing_ones_are_reported() -> None:
    app = make_app(keys={"chat.retry": "f9", "chat.rety": "f8", "panes.chat": "f3"})
    async with app.run_test(size=(120, 50)) as pilot:
        await ready(pilot)
        await settle(pilot, lambda: len(app.chat.query(Notice)) == 2, "the problems")
        unknown, clash = [notice.text for notice in app.chat.query(Notice)]
        assert "no binding 'chat.rety': the nearest are chat.retry" in unknown
        assert "f3 is bound to panes.chat and panes.inspector" in clash
        await pilot.press("f9")
        assert "send a message first" in line_of(app)


async def test_palette_offers_our_commands() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"New conversation", "Retry", "Stop", "Help", "Quit", "Theme: darkroom"} <= set(titles)
        await pilot.press("ctrl+p")
        await settle(pilot, lambda: "New conversation" in shown(app), "the palette")


async def test_history_is_called_back_and_kept_in_a_file(tmp_path: Path) -> None:
    worker = ScriptedWorker()
    path = tmp_path / "data" / "history.jsonl"
    app = make_app(worker, history=InputHistory(path))
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "first")
        worker.answer("ok")
        await settle(pilot, lambda: "ended by" in shown(app))
        app.chat.query_one(MessageInput).put("draft")
        await pilot.press("up")
        assert app.chat.query_one(Composer).text == "first"
        await pilot.press("down")
        assert app.chat.query_one(Composer).text == "draft"
    again = InputHistory(path)
    again.read()
    assert again.earlier("") == "first"


async def test_a_history_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    app = make_app(history=InputHistory(blocker / "history.jsonl"))
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "/temp 0.5")
        await type_in(pilot, "/temp 0.6")
        assert app.session.inference.temperature == 0.6


@pytest.mark.parametrize("line_key", ["shift+enter", "ctrl+j"])
async def test_several_lines(line_key: str) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await pilot.press("a", line_key, "b")
        field = app.chat.query_one(MessageInput)
        assert field.text == "a\nb"
        assert field.size.height == 2
        field.put("\n".join(str(n) for n in range(12)))
        await pilot.pause()
        assert field.size.height == 6
        await pilot.press("enter")
        await pilot.pause()
        assert app.session.conversation.path[0].text.count("\n") == 11


async def test_paste_of_many_lines_is_not_sent() -> None:
    from textual import events

    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        app.post_message(events.Paste("one\ntwo\rthree\r\n\x1b[2J"))
        await settle(pilot, lambda: app.chat.query_one(Composer).text == "one\ntwo\nthree\n␛[2J")
        assert worker.requests == []


async def test_stale_events_of_an_older_answer_are_dropped() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "one")
        worker.answer("First.")
        await settle(pilot, lambda: "ended by" in shown(app))
        await type_in(pilot, "two")
        worker.requests.insert(0, worker.requests.pop())
        worker.say("late")
        worker.requests.append(worker.requests.pop(0))
        worker.answer("Second.")
        await settle(pilot, lambda: "Second." in shown(app))
        assert "late" not in shown(app)


async def test_status_shows_prefill_and_loading() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        bar = app.chat.query_one(StatusBar)
        assert bar.model == "pocket 3.1M Q8_0"
        assert bar.device == "CPU ×1"
        await type_in(pilot, "hi")
        worker.begin(n_prompt=100)
        await settle(pilot, lambda: "reading the prompt · 100 of 100 tokens" in shown(app))
        worker.say("Hello")
        await settle(pilot, lambda: bar.context == (101, 2048))


async def test_answers_are_turns() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("Hello.")
        await settle(pilot, lambda: "ended by" in shown(app))
        assert app.chat.query_one(AnswerTurn).text == "Hello."
