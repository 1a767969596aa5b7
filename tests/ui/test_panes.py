"""Panes and keys: the next key goes where the last one led, what is said is seen on any pane, no key acts too early."""

from __future__ import annotations

from typing import Any

import pytest
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.ui.scripted import ScriptedWorker, at_once, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import NARROW, WIDE, line_of, shown
from tests.ui.test_glass import table_of
from tests.ui.test_snapshots import one_turn
from tests.ui.test_stepping import offer
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.screens.chat import ChatScreen
from tui_chat.ui.screens.chat_keys import CHAT_BINDINGS
from tui_chat.ui.widgets.completion_menu import CompletionMenu
from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.token_text import TokenText
from tui_chat.ui.widgets.value_row import ValueRow
from tui_chat.ui.widgets.waterfall_table import WaterfallTable


async def candidates(pilot: Pilot[Any], worker: ScriptedWorker) -> TuiChatApp:
    """The candidates of the third token have the focus."""
    app = await one_turn(pilot, worker)
    await pilot.press("f3", "home", "right", "right")
    await settle(pilot, lambda: (table := table_of(app)) and table.position == 26, "the waterfall")
    await pilot.press("enter")
    await settle(pilot, lambda: isinstance(app.focused, WaterfallTable), "the focus")
    return app


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_what_is_typed_right_after_a_pane_is_left_goes_to_the_other(size: tuple[int, int]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=size) as pilot:
        await candidates(pilot, worker)
        composer, session = app.chat.query_one(Composer), app.session
        at_once(app, "f2", *"fslb")
        await settle(pilot, lambda: composer.text == "fslb", "the letters in the composer")
        table, strip = app.chat.query_one(WaterfallTable), app.chat.query_one(TokenStrip)
        assert not table.logits and not table.by_raw and len(session.tokens_of) == 1
        at_once(app, "f3", "left")
        await settle(pilot, lambda: strip.current == 1, "the arrow among the tokens")
        at_once(app, "f4", "right")
        await settle(pilot, lambda: session.inference.temperature > 0.7, "the arrow at the slider")
        at_once(app, "f2", "l")
        await settle(pilot, lambda: composer.text == "fslbl", "the letter in the composer")


async def test_letters_right_after_a_slash_are_searched_for() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await candidates(pilot, worker)
        table = app.chat.query_one(WaterfallTable)
        at_once(app, "slash", *"sl")
        await settle(pilot, lambda: table.typing == "sl", "the search among the candidates")
        await pilot.press("escape", "f4")
        app.session.set_value("temperature", 1.5)
        app.chat.show_settings()
        await settle(pilot, lambda: isinstance(app.focused, ValueRow), "a setting")
        at_once(app, "slash", *"dud")
        await settle(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "dud", "the search")
        assert app.session.inference.temperature == 1.5


async def test_letters_right_after_a_slash_are_searched_for_among_tokens() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await one_turn(pilot, worker)
        await pilot.press("ctrl+o")
        await settle(pilot, lambda: isinstance(app.focused, TokenText), "the tokens")
        for _time in range(2):  # the field is made, then shown again
            at_once(app, "slash", *"smn")
            await settle(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "smn", "the search")
            await pilot.press("escape")
            await settle(pilot, lambda: isinstance(app.focused, TokenText), "its end")


async def test_a_search_that_finds_no_setting_is_come_back_to() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await pilot.press("f4", "slash", *"zzz")
        await settle(pilot, lambda: "no setting is called 'zzz'" in shown(app), "the complaint")
        await pilot.press("f2")
        await settle(pilot, lambda: isinstance(app.focused, MessageInput), "the composer")
        await pilot.press("f4")
        await settle(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "zzz", "the search")
        await pilot.press("escape")
        await settle(pilot, lambda: isinstance(app.focused, ValueRow), "the settings")


async def test_enter_behind_a_bare_slash_runs_nothing() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await one_turn(pilot, worker)
        before, composer = app.session.conversation, app.chat.query_one(Composer)
        await pilot.press("slash", "enter")
        await pilot.pause()
        assert app.session.conversation is before and composer.text == "/"
        assert app.chat.query_one(CompletionMenu).is_open
        await pilot.press("down", "up", "enter")
        await settle(pilot, lambda: app.session.conversation is not before, "the one that was chosen")


async def test_what_is_said_is_seen_on_a_pane_that_hides_the_chat() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await candidates(pilot, worker)
        rows = app.chat.query_one(WaterfallTable).size
        await pilot.press("b")
        await settle(pilot, lambda: "a candidate is banned while an answer waits" in shown(app), "the sentence")
        assert app.chat.query_one(WaterfallTable).size == rows, "it stands over the pane and moves nothing"
        await pilot.press("f4")
        await settle(pilot, lambda: "▸Sampling" in shown(app) and "a candidate is banned" in shown(app), "the sentence")
        app.chat._said_enough()
        await settle(pilot, lambda: "a candidate is banned" not in shown(app), "the end of it")


async def test_a_remark_waits_until_an_answer_to_a_command_was_read() -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        chat = app.chat
        chat.say("preset chaos")
        chat.remark("3 of 9 would differ")
        chat.remark("4 of 9 would differ")
        assert line_of(app) == "preset chaos"
        chat._said_enough()
        assert line_of(app) == "4 of 9 would differ"
        chat.remark("5 of 9 would differ")
        assert line_of(app) == "5 of 9 would differ", "it takes the place of the one before"
        chat.say("temperature 0.3")
        assert line_of(app) == "temperature 0.3"
        chat.remark("6 of 9 would differ")
        chat.remark("")
        chat._said_enough()
        assert line_of(app).startswith("T 0.70"), "taken back while it waited"
        chat.remark("7 of 9 would differ")
        chat.remark("")
        assert line_of(app).startswith("T 0.70")
        long = "123 of 456 would differ; after the first all is conditional on the old text (123 judged by their best)"
        chat.remark(long)
        await settle(pilot, lambda: chat.query_one("#chat-line", Static).size.height == 2, "all of it")


async def test_a_key_before_anything_is_there_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[str] = []
    compose = ChatScreen._compose

    async def slow(self: ChatScreen) -> None:
        for keys in (binding.key for binding in CHAT_BINDINGS if isinstance(binding, Binding) and binding.priority):
            for key in keys.split(","):
                if "ctrl+q" not in key and "ctrl+p" not in key and "f1" not in key:
                    await self.app._check_bindings(key, priority=True)
                    handled.append(key)
        await compose(self)

    monkeypatch.setattr(ChatScreen, "_compose", slow)
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        assert {"ctrl+o", "f6", "ctrl+r", "ctrl+t", "pageup", "f3", "alt+left", "ctrl+c"} <= set(handled)
        assert isinstance(app.focused, MessageInput) and app.chat.view == "reading" and not app.session.stepping.on


async def test_before_the_first_token_it_says_that_it_waits() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/step on")
        await type_in(pilot, "What is a token?")
        worker.begin()
        await settle(pilot, lambda: "reading the prompt · 24 of 24" in shown(app), "the prompt")
        offer(worker, 0, b"A")
        await settle(pilot, lambda: "waits before the first token" in shown(app), "the words")
        await settle(pilot, lambda: app.chat.query_one(StatusBar).activity == "waits", "the status")
        assert "reading the prompt" not in shown(app) and app.chat.query_one(StatusBar).fraction is None


async def test_the_search_among_tokens_ends_where_the_composer_is_gone_to() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await one_turn(pilot, worker)
        await pilot.press("ctrl+o", "slash")
        await settle(pilot, lambda: isinstance(app.focused, Input), "the search")
        await pilot.press(*"small", "f2")
        await settle(pilot, lambda: isinstance(app.focused, MessageInput), "the composer")
        assert not app.chat.query_one("#token-search", Input).display
        assert app.chat.query_one("#token-search", Input).value == ""


async def test_what_a_search_missed_is_not_said_of_another_token() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await candidates(pilot, worker)
        await pilot.press("slash", *"qqq", "enter")
        await settle(pilot, lambda: "no candidate holds qqq" in shown(app), "the miss")
        await pilot.press("shift+tab", "right")
        await settle(pilot, lambda: (table := table_of(app)) and table.position == 27, "the next token")
        await settle(pilot, lambda: "no candidate holds" not in shown(app), "another foot")


@pytest.mark.parametrize("before", [NARROW, WIDE, (170, 50)])
async def test_the_candidate_under_the_cursor_stays_in_sight_when_the_terminal_shrinks(before: tuple[int, int]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=before) as pilot:
        await candidates(pilot, worker)
        await pilot.press("end")
        await pilot.resize_terminal(60, 18)
        table = app.chat.query_one(WaterfallTable)
        await settle(pilot, lambda: table.size.width == 58, "the new layout")
        await settle(pilot, lambda: any("›" in line for line in shown(app).splitlines()), "the cursor")
