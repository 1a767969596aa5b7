"""Pictures of the sampling pane: what is dimmed and why, a search, the order, and the pane beside the chat."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.ui.scripted import make_app, ready, settle
from tests.ui.test_snapshots import SIZES, at_rest
from tui_chat.config import InferenceSettings
from tui_chat.ui.widgets.setting_rows import StageRow
from tui_chat.ui.widgets.value_row import ValueRow

SETTINGS = InferenceSettings(
    seed=7, mirostat=2, repeat_penalty=1.1, presence_penalty=0.25, ban=("however", 42, " the"), grammar="list"
)


async def opened(pilot: Pilot[Any], *groups: str) -> None:
    """The pane with groups unfolded, its first setting selected."""
    app: Any = pilot.app
    await ready(pilot)
    await pilot.press("f4")
    await settle(pilot, lambda: isinstance(app.focused, ValueRow), "the pane")
    for group in groups:
        row = app.chat.query_one(f"#group-{group}")
        row.focus()
        await settle(pilot, partial(row.has_pseudo_class, "focus"), "the group")
        await pilot.press("right")
        await pilot.pause()


@pytest.mark.parametrize("size", ["narrow", "two"])
def test_what_does_nothing(snap_compare: Any, size: str) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await opened(pilot)
        await pilot.press("down", "down", "down", "down", "down")
        await at_rest(pilot)

    assert snap_compare(make_app(inference=SETTINGS), terminal_size=SIZES[size], run_before=play)


@pytest.mark.parametrize("size", ["narrow", "two"])
def test_order(snap_compare: Any, size: str) -> None:
    settings = InferenceSettings(seed=7, order=("penalties", "temperature", "min_p", "top_k"), xtc_probability=0.5)

    async def play(pilot: Pilot[Any]) -> None:
        await opened(pilot, "order")
        app: Any = pilot.app
        row = app.chat.query_one("#stage-min-p", StageRow)
        row.focus()
        await settle(pilot, lambda: app.focused is row, "the stage")
        await pilot.press("shift+up")
        await at_rest(pilot)

    assert snap_compare(make_app(inference=settings), terminal_size=SIZES[size], run_before=play)


def test_search(snap_compare: Any) -> None:
    async def play(pilot: Pilot[Any]) -> None:
        await opened(pilot)
        await pilot.press("slash")
        await settle(pilot, lambda: isinstance(pilot.app.focused, Input), "the search")
        pilot.app.screen.query_one(Input).cursor_blink = False
        await pilot.press(*"pen")
        await at_rest(pilot)

    assert snap_compare(make_app(inference=SETTINGS), terminal_size=SIZES["narrow"], run_before=play)
