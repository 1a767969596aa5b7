"""Pictures of the waterfall; look at them before keeping them."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot

from tests.ui.scripted import ScriptedWorker, make_app, settle
from tests.ui.test_chat_screen import line_of
from tests.ui.test_glass import table_of
from tests.ui.test_snapshots import SIZES, at_rest, one_turn
from tui_chat.ui.app import TuiChatApp


async def at_a_token(pilot: Pilot[Any], worker: ScriptedWorker) -> TuiChatApp:
    """The third token of an answer, its candidates in front."""
    app = await one_turn(pilot, worker)
    await pilot.press("f3", "home", "right", "right")
    await settle(pilot, lambda: (table := table_of(app)) and table.position == 26, "the waterfall")
    await pilot.press("enter", "down")
    return app


def test_waterfall(snap_compare: Any) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        await at_a_token(pilot, worker)
        await at_rest(pilot)

    assert snap_compare(make_app(worker), terminal_size=SIZES["narrow"], run_before=play)


def test_what_if(snap_compare: Any) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        app = await at_a_token(pilot, worker)
        await pilot.press("shift+tab")
        app.session.set_value("temperature", 0.0)
        await settle(pilot, lambda: (table := table_of(app)) and table.u is None, "the new waterfall")
        await settle(pilot, lambda: "the old text" in line_of(app), "what it would have changed")
        app.chat.remark("")  # what is said for a while is in the way of what stays
        await at_rest(pilot)

    assert snap_compare(make_app(worker), terminal_size=SIZES["narrow"], run_before=play)
