"""The course in the app: tasks are really done there, what is missing is said, and what is done is kept."""

from __future__ import annotations

import asyncio
import re

import pytest
from textual import events

from tests.ui.scripted import ScriptedWorker, make_app, make_token, ready, settle, type_in
from tests.ui.test_chat_screen import NARROW, WIDE, line_of, shown
from tests.ui.test_with_engine import real_app
from tui_chat.lessons.course.progress import Progress
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.composer import MessageInput
from tui_chat.ui.widgets.report_card import ReportCard


def cards(app: TuiChatApp) -> list[str]:
    """The texts of the reports that are complete."""
    return [card.text for card in app.chat.query(ReportCard) if card.report is not None]


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_the_first_lesson(size: tuple[int, int]) -> None:
    app = real_app()
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await type_in(pilot, "/learn")
        await settle(pilot, lambda: cards(app), "the contents")
        assert "Next: /learn 1" in cards(app)[0]
        await type_in(pilot, "/tokens-demo The sky is so blue")
        await settle(pilot, lambda: len(cards(app)) == 2, "the tokens")
        assert app.course.done == set()
        await type_in(pilot, "/learn 1")
        await settle(pilot, lambda: len(cards(app)) == 3, "the lesson")
        await type_in(pilot, "/tokens-demo The sky")
        await settle(pilot, lambda: "lesson 1: Your text is 2 tokens." in line_of(app), "what is missing")
        await type_in(pilot, "/tokens-demo The sky is so blue")
        await settle(pilot, lambda: "✓ lesson 1 is done" in shown(app), "the card")
        assert line_of(app) == "1 of 10 lessons are done"
        assert "Your text is 5 tokens." in cards(app)[-1] and "Next: /learn 2" in cards(app)[-1]
        await pilot.press("ctrl+q")
    again = real_app()
    async with again.run_test(size=size) as pilot:
        await ready(pilot)
        await type_in(pilot, "/learn")
        await settle(pilot, lambda: cards(again), "the contents")
        assert "1 of 10 are done" in " ".join(cards(again)[0].split())
        await pilot.press("ctrl+q")


async def test_truncation_is_seen_in_the_answer() -> None:
    app = real_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/learn 5")
        await settle(pilot, lambda: cards(app), "the lesson")
        for line in ("/top-k 3", "/top-p off"):
            await type_in(pilot, line)
        await type_in(pilot, "Tell me a story.")
        await settle(pilot, lambda: "try /top-p off and /min-p off" in line_of(app), "what is missing")
        assert app.course.open == 5
        await type_in(pilot, "/min-p off")
        await type_in(pilot, "Tell me another one.")
        await settle(pilot, lambda: "✓ lesson 5 is done" in shown(app), "the card")
        answer = app.session.answer
        assert answer is not None
        assert f"Each of the {len(answer.tokens)} tokens was drawn from exactly 3" in " ".join(cards(app)[-1].split())
        assert Progress.at_home().done == {5}
        await pilot.press("ctrl+q")


async def test_an_answer_is_stopped_by_hand() -> None:
    app = real_app(endless=True)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "/learn 6")
        await settle(pilot, lambda: cards(app), "the lesson")
        # Not by the pilot: it waits for the app to rest, and the model is faster.
        app.chat.query_one(MessageInput).put("Tell me a story.")
        app.post_message(events.Key("enter", None))
        async with asyncio.timeout(60):
            while app.session.answer is None or not app.session.answer.tokens:
                await asyncio.sleep(0.005)
        app.post_message(events.Key("escape", None))
        await settle(pilot, lambda: "✓ lesson 6 is done" in shown(app), "the card")
        assert "you stopped it" in cards(app)[-1]
        await pilot.press("ctrl+q")


async def test_a_surprising_token_is_selected() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        app.course.begin(10)
        await type_in(pilot, "What is a token?")
        worker.begin()
        worker.say("A token is", [make_token(0, b"A", 0.9), make_token(1, b" token", 0.02), make_token(2, b" is", 0.9)])
        worker.finish()
        await settle(pilot, lambda: "ended by the model" in shown(app), "the answer")
        await pilot.press("f3", "left", "left")
        await settle(pilot, lambda: "✓ lesson 10 is done" in shown(app), "the card")
        assert "3.91 nats" in cards(app)[-1]
        assert re.search(r"surprisal 0\.11 nats +entropy 1\.83 nats", shown(app)), "not the unit of the lesson"
        assert app.course.done == {10}


async def test_nothing_is_looked_for_without_an_open_lesson() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "What is a token?")
        worker.begin()
        worker.say("A", [make_token(0, b"A", 0.02)])
        worker.finish()
        await settle(pilot, lambda: "ended by the model" in shown(app), "the answer")
        await pilot.press("f3", "home", "f2")
        await type_in(pilot, "/stats")
        await settle(pilot, lambda: cards(app), "the card")
        assert app.course.done == set() and len(cards(app)) == 1


async def test_there_is_no_lesson_eleven() -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "/learn 11")
        await settle(pilot, lambda: "there is no lesson 11" in shown(app), "the problem")
        assert app.course.open is None
