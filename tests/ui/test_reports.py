"""Reports in the transcript: reached, folded, copied, saved and closed by key and by mouse, stopped, laid out anew."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer

from tests.ui.scripted import FakeEngine, ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tui_chat.lessons.report import Heading, Report, Verbatim, Words
from tui_chat.lessons.report import Span as ReportSpan
from tui_chat.lessons.watch import Watch
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.composer import MessageInput
from tui_chat.ui.widgets.report_card import ReportBody, ReportCard
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.transcript import Transcript

SIZE = (80, 24)


class ThreadedWorker(ScriptedWorker):
    """Runs each job on a thread of its own, as the engine does."""

    def run(self, job: Callable[[Any], Any]) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(job(FakeEngine))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future


def report(title: str, *lines: str) -> Report:
    return Report(title, [Verbatim((ReportSpan("\n".join(lines)),))], {"title": title})


def cards(app: TuiChatApp) -> list[ReportCard]:
    return list(app.chat.query(ReportCard))


async def put(pilot: Pilot[Any], title: str, *lines: str) -> ReportCard:
    """A card with a finished report, newest of all."""
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    before = len(cards(app))
    app._commands.show_report(title, report(title, *lines))
    await settle(pilot, lambda: len(cards(app)) > before and cards(app)[-1].report, "the card")
    await pilot.pause()
    return cards(app)[-1]


async def test_cards_are_reached_by_key_and_left_again() -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        first, second = await put(pilot, "/one", "a"), await put(pilot, "/two", "b")
        for key, where in (
            ("shift+tab", second), ("shift+tab", first), ("tab", second), ("tab", None),
            ("shift+tab", second), ("escape", None),
        ):  # fmt: skip
            await pilot.press(key)
            await pilot.pause()
            assert app.focused is (where or app.chat.query_one(MessageInput)), key
        await pilot.press("shift+tab", "shift+tab", "shift+tab")
        await pilot.pause()
        assert app.focused is not None
        assert app.chat.query_one(SamplingPanel) in app.focused.ancestors_with_self
        await pilot.press("tab")
        await pilot.pause()
        assert app.focused is app.chat.query_one(MessageInput)


async def test_a_focused_card_shows_its_keys_and_they_act(home: Path) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        card = await put(pilot, "/one thing", "what it gave")
        assert "shift+tab selects · ⏎ fold · c copy · s save · x close" in shown(app)
        border = card.styles.border_top
        await pilot.press("shift+tab")
        await settle(pilot, lambda: "selects" not in shown(app), "the keys")
        assert "⏎ fold · c copy · s save · x close" in shown(app)
        assert card.styles.border_top != border
        assert "^q Quit" in shown(app), "the line of keys is cut"
        for key in ("enter", "space"):
            await pilot.press(key)
            await settle(pilot, lambda: card.folded == ("what it gave" not in shown(app)), "the fold")
            assert card.folded is (key == "enter")
        await pilot.press("c")
        assert app.clipboard == "what it gave"
        await pilot.press("s")
        await settle(pilot, lambda: "saved in" in shown(app), "the name of the file")
        await pilot.press("e")
        folder = home / "data" / "reports"
        await settle(pilot, lambda: any(folder.glob("*-one-thing.txt")), "the file")
        text = next(path for path in folder.glob("*.txt") if path.name in "".join(shown(app).split()))
        document = text.with_suffix(".json")
        assert text.read_text() == "what it gave\n"
        assert json.loads(document.read_text()) == {"title": "/one thing"}
        await pilot.press("x")
        await settle(pilot, lambda: not cards(app), "the end of the card")
        assert app.focused is app.chat.query_one(MessageInput)
        assert not app.chat.query_one(Footer).compact


async def test_a_line_of_keys_that_was_scrolled_begins_anew_with_other_keys() -> None:
    app = make_app()
    async with app.run_test(size=(60, 18)) as pilot:
        await ready(pilot)
        await put(pilot, "/one thing", "what it gave")
        await pilot.press("shift+tab")
        footer = app.chat.query_one(Footer)
        await settle(pilot, lambda: footer.max_scroll_x > 5, "more keys than fit")
        footer.scroll_to(x=999, animate=False)
        await settle(pilot, lambda: footer.scroll_x > 5, "the last keys")
        await pilot.press("f2")
        await settle(pilot, lambda: isinstance(app.focused, MessageInput) and footer.scroll_x == 0, "the first key")


async def test_the_mouse_does_the_same() -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        card = await put(pilot, "/one", "what it gave")

        async def click(word: str) -> None:
            row = card.region.bottom - 1
            column = next(line for number, line in enumerate(shown(app).splitlines()) if number == row).index(word)
            await pilot.click(offset=(column, row))
            await pilot.pause()

        await click("copy")
        assert app.clipboard == "what it gave"
        await click("fold")
        assert card.folded
        await pilot.click(card, offset=(4, 0))
        assert not card.folded
        await pilot.pause()
        await click("close")
        await settle(pilot, lambda: not cards(app), "the end of the card")


@pytest.mark.parametrize(("width", "word"), [(120, "save"), (80, "save"), (60, "save"), (60, "copia con un nombre")])
async def test_the_offers_of_a_card_fit(width: int, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_chat.ui.widgets.report_card._", lambda text: word if text == "save" else text)
    app = make_app(ThreadedWorker())
    async with app.run_test(size=(width, 40)) as pilot:
        await ready(pilot)
        app._commands.report("/long", endless([]))
        await settle(pilot, lambda: "3 of 9 windows" in shown(app), "the progress")
        line = next(line for line in shown(app).splitlines() if "esc stops" in line)
        assert "x close ─" in line and "…" not in line
        assert ("shift+tab selects" in line) == (width == 80)
        await pilot.resize_terminal(100, 40)
        await settle(pilot, lambda: "close ─" in shown(app), "the other width")
        await pilot.press("escape")
        await settle(pilot, lambda: not app.session.lessons, "the end")


@pytest.mark.parametrize("rows", range(9, 19))
async def test_the_title_is_in_sight_whatever_the_height(rows: int) -> None:
    """Around the height of the transcript, where a card either fits or is shown from its top."""
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        await put(pilot, "/before", *"abc")
        card = await put(pilot, "/card", *map(str, range(rows)))
        transcript = app.chat.query_one(Transcript)
        await settle(pilot, lambda: "▾ /card" in shown(app), "the title")
        seen = card.region.intersection(transcript.scrollable_content_region)
        assert seen == card.region or card.region.y == transcript.scrollable_content_region.y


async def test_a_card_is_laid_out_anew_for_another_width() -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        words = " ".join(f"word{n}" for n in range(60))
        app._commands.show_report("/one", Report("one", [Heading("Words"), Words(words)]))
        await settle(pilot, lambda: cards(app) and "word59" in shown(app), "the card")
        card = cards(app)[0]
        body = card.query_one(ReportBody)
        before = body.size.height
        await pilot.resize_terminal(62, 30)
        await settle(pilot, lambda: body.size.height != before, "the other height")
        lines = [line for line in shown(app).splitlines() if "word" in line]
        assert " ".join(" ".join(line.strip(" │").split()) for line in lines).split() == words.split()


def endless(watch_seen: list[Watch]) -> Callable[[Any, Watch], Report]:
    def lesson(engine: Any, watch: Watch) -> Report:
        watch_seen.append(watch)
        watch.say("3 of 9 windows")
        while True:
            watch.check()
            time.sleep(0.005)

    return lesson


@pytest.mark.parametrize("focused", [False, True])
async def test_a_long_report_shows_how_far_it_is_and_esc_stops_it(focused: bool) -> None:
    app = make_app(ThreadedWorker())
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        seen: list[Watch] = []
        app._commands.report("/long", endless(seen))
        await settle(pilot, lambda: "3 of 9 windows" in shown(app), "the progress")
        assert "esc stops" in shown(app)
        if focused:
            await pilot.press("shift+tab")
            await pilot.pause()
        await pilot.press("escape")
        await settle(pilot, lambda: not app.session.lessons, "the end")
        await settle(pilot, lambda: "stopped" in shown(app), "the word about it")
        assert "esc stops" not in shown(app)
        await settle(pilot, lambda: "stopping" not in shown(app), "the line under the composer")
        assert app.focused is (cards(app)[0] if focused else app.chat.query_one(MessageInput))


async def test_closing_a_card_stops_what_it_waits_for() -> None:
    app = make_app(ThreadedWorker())
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        seen: list[Watch] = []
        app._commands.report("/long", endless(seen))
        await settle(pilot, lambda: seen, "the beginning")
        await pilot.press("shift+tab")
        await settle(pilot, lambda: app.focused in cards(app), "the focus")
        await pilot.press("delete")
        await settle(pilot, lambda: not cards(app) and not app.session.lessons, "the end")
        assert seen[0].cancel.is_set()


@pytest.mark.parametrize("end", ["new", "close"])
async def test_no_lesson_outlives_its_conversation(end: str) -> None:
    app = make_app(ThreadedWorker())
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        seen: list[Watch] = []
        app._commands.report("/long", endless(seen))
        await settle(pilot, lambda: seen, "the beginning")
        if end == "new":
            await type_in(pilot, "/new")
            await settle(pilot, lambda: not cards(app) and not app.session.lessons, "the end")
        else:
            app.session.close()
        assert seen[0].cancel.is_set()


async def test_a_command_with_quotes_an_unknown_one_and_the_menu() -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        await type_in(pilot, '/stop "two words" END it\\\'s')
        assert app.session.inference.stop == ("two words", "END", "it's")
        await type_in(pilot, '/stop "open')
        await settle(pilot, lambda: "a quotation mark that is not closed" in shown(app), "the problem")
        assert app.chat.query_one(MessageInput).text == ""
        await pilot.press("up")
        await settle(pilot, lambda: app.chat.query_one(MessageInput).text == '/stop "open', "the newest of the history")
        await type_in(pilot, "/hlep")
        await settle(pilot, lambda: "did you mean /help" in shown(app), "the nearest command")
        app.chat.query_one(MessageInput).put("")
        await pilot.press("slash", *"tk")
        await settle(pilot, lambda: "▸ /top-k" in shown(app) and "now 40" in shown(app), "the command and its value")
        app.chat.query_one(MessageInput).put("/t")
        # The summary is longer than the line: it gives way to the value.
        await settle(pilot, lambda: re.search("/top-p +Keep the best tokens .*…  now 0.95 ", shown(app)), "the value")
        app.chat.query_one(MessageInput).put("/tk")
        await settle(pilot, lambda: "▸ /top-k" in shown(app) and "/top-p" not in shown(app), "the command again")
        await pilot.press("tab")
        await settle(pilot, lambda: "value: 0 to any size, 0 is off · now 40" in shown(app), "the argument's hint")
        assert "default" in shown(app)
        await pilot.press(*"7", "enter")
        await settle(pilot, lambda: app.session.inference.top_k == 7, "the value")


async def test_cards_stay_where_they_came_when_the_conversation_is_shown_anew() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        await type_in(pilot, "one")
        worker.answer("first answer")
        await settle(pilot, lambda: "ended by" in shown(app))
        await put(pilot, "between")
        await type_in(pilot, "two")
        worker.answer("second answer")
        await settle(pilot, lambda: "second answer" in shown(app) and not app.session.answering)
        await put(pilot, "behind")
        await type_in(pilot, "/system Be brief.")
        await settle(pilot, lambda: app.session.conversation.system == "Be brief.")
        await pilot.pause()

        def kinds() -> list[bool]:
            return [isinstance(child, ReportCard) for child in app.chat.query_one(Transcript).children]

        expected = [False, False, True, False, False, True]
        await settle(pilot, lambda: kinds() == expected, "the conversation, anew")
        await type_in(pilot, "/new")
        await settle(pilot, lambda: not cards(app), "the empty transcript")


async def test_progress_that_comes_after_the_end_changes_nothing() -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        gate, late = asyncio.Event(), asyncio.Event()
        card = ReportCard("/slow")

        def lesson(_engine: object, watch: Watch) -> Report:
            card.call_next(gate.wait)  # the card's own queue is behind
            watch.show(report("so far", "half of it"))
            return report("all", "the whole")

        app._commands._reporting.start("/slow", lesson, lambda: card)
        await settle(pilot, lambda: card.report is not None and card.report.title == "all", "the end")
        gate.set()
        card.call_next(late.set)
        await settle(pilot, late.is_set, "the card's queue")
        assert card.report is not None and card.report.title == "all"
        assert "the whole" in shown(app) and "under way" not in shown(app) and "half of it" not in shown(app)
