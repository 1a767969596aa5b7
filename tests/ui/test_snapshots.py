"""Pictures of every screen and theme. `pytest --snapshot-update` takes them anew; look at them before keeping them."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.scripted import ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import line_of, shown
from tests.ui.test_trainings import open_trainings, running
from tests.ui.written_trainings import write_run
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.waterfall_table import WaterfallTable

ANSWER = (
    "<think>They ask about tokens.</think>A token is a **small piece** of text that the model reads and writes one at "
    "a time. It may be a word, a part of one, or a single `byte`.\n\n1. Text is cut into tokens\n2. Each becomes a "
    "number\n\n```python\nids = vocab.tokenize('hello')\n```\n"
)
SIZES = {"narrow": (80, 24), "two": (120, 40), "wide": (170, 50)}
THEMES = ("tui-chat-dark", "tui-chat-light", "high-contrast", "darkroom")


async def one_turn(pilot: Pilot[Any], worker: ScriptedWorker) -> TuiChatApp:
    """A question and its whole answer."""
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    await ready(pilot)
    await type_in(pilot, "What is a token?")
    worker.answer(ANSWER)
    await settle(pilot, lambda: not app.session.answering and "ended by the model" in shown(app), "the answer")
    return app


async def at_rest(pilot: Pilot[Any]) -> None:
    """Waits until two looks at the screen are the same."""
    before = ""
    for _ in range(50):
        await pilot.pause(0.1)
        app = pilot.app
        assert isinstance(app, TuiChatApp)
        now = shown(app)
        if now == before:
            return
        before = now
    raise AssertionError("the screen does not come to rest")


@pytest.mark.parametrize("theme", THEMES)
def test_theme(snap_compare: Any, theme: str) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        app = await one_turn(pilot, worker)
        app.chat.query_one("#value-temperature").focus()
        await pilot.press("right", "right")
        table = app.chat.query_one(WaterfallTable)
        await settle(pilot, lambda: table.table and table.table.params.temperature == 0.8, "what if")
        await settle(pilot, lambda: "the old text" in line_of(app), "what it would have changed")
        app.chat._said.stop()  # it stays, however long the picture takes
        await at_rest(pilot)

    assert snap_compare(make_app(worker, theme=theme), terminal_size=SIZES["two"], run_before=play)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pane", ["chat", "inspector", "sampling"])
def test_pane(snap_compare: Any, size: str, pane: str) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        await one_turn(pilot, worker)
        await pilot.press({"chat": "f2", "inspector": "f3", "sampling": "f4"}[pane])
        await pilot.pause(0.1)
        if pane == "inspector":
            await pilot.press("left", "left", "left")
        await at_rest(pilot)

    assert snap_compare(make_app(worker), terminal_size=SIZES[size], run_before=play)


@pytest.mark.parametrize("size", SIZES)
def test_welcome(snap_compare: Any, size: str) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await at_rest(pilot)

    assert snap_compare(make_app(), terminal_size=SIZES[size], run_before=play)


def test_streaming(snap_compare: Any) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        app = await one_turn(pilot, worker)
        await type_in(pilot, "And what does temperature do?\nIn two sentences, please.")
        worker.begin(310)
        worker.say("Temperature divides the *logits* before the draw: below one the likely tokens gain")
        await settle(pilot, lambda: "likely tokens gain" in shown(app), "the stream")
        await at_rest(pilot)

    assert snap_compare(make_app(worker), terminal_size=SIZES["two"], run_before=play)


def test_problem_and_menu(snap_compare: Any) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await type_in(pilot, "/model /nowhere/qwen.gguf")
        await pilot.press("ctrl+u", "slash", "t")
        await at_rest(pilot)

    assert snap_compare(make_app(), terminal_size=SIZES["narrow"], run_before=play)


def test_report(snap_compare: Any) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await type_in(pilot, "/help temp")
        await at_rest(pilot)

    assert snap_compare(make_app(), terminal_size=SIZES["two"], run_before=play)


def test_help(snap_compare: Any) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await pilot.press("f1")
        await at_rest(pilot)

    assert snap_compare(make_app(), terminal_size=SIZES["narrow"], run_before=play)


def test_too_small(snap_compare: Any) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await at_rest(pilot)

    assert snap_compare(make_app(), terminal_size=(50, 12), run_before=play)


@pytest.mark.parametrize("size", ["narrow", "two"])
@pytest.mark.parametrize("focus", ["runs", "samples"])
def test_training(snap_compare: Any, size: str, focus: str) -> None:
    write_run("a name that is longer than the column it stands in", upto=430, ended="failed", written=1_000)
    write_run("harbour", upto=600, written=2_000)
    write_run("village", upto=1000, ended="finished", written=3_000)
    run = write_run("demo", upto=800, written=4_000)

    async def play(pilot: Pilot[Any]) -> None:
        await open_trainings(pilot)
        if focus == "samples":
            await pilot.press("tab")
        await at_rest(pilot)

    with running(run):
        assert snap_compare(make_app(), terminal_size=SIZES[size], run_before=play)


@pytest.mark.parametrize("size", ["narrow", "two"])
def test_no_training(snap_compare: Any, size: str) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await open_trainings(pilot)
        await at_rest(pilot)

    assert snap_compare(make_app(), terminal_size=SIZES[size], run_before=play)
