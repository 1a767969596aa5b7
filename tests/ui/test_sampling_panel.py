"""Sliders and fields: keys, mouse, typed values, defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widgets import Static

from tui_chat.themes import DEFAULT_THEME, load_themes
from tui_chat.ui.widgets.sampling_panel import SamplingPanel, complaint, value_specs
from tui_chat.ui.widgets.slider import Slider
from tui_chat.ui.widgets.value_row import ValueRow, ValueSpec

DEFAULTS: dict[str, float | None] = {
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repeat_penalty": 1.0,
    "seed": None,
    "max_tokens": 512,
}
SPECS = {spec.name: spec for spec in value_specs(DEFAULTS)}


class PanelApp(App[None]):
    """Only the panel."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[str, float | None]] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return load_themes().themes[DEFAULT_THEME].variables()

    def compose(self) -> ComposeResult:
        yield SamplingPanel(DEFAULTS, DEFAULTS)

    def on_sampling_panel_changed(self, event: SamplingPanel.Changed) -> None:
        self.changes.append((event.name, event.value))

    def row(self, name: str) -> ValueRow:
        return self.query_one(f"#value-{name.replace('_', '-')}", ValueRow)

    def line(self, name: str) -> str:
        return "".join(segment.text for segment in self.row(name).render_line(0))


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("temperature", ["right"], 0.75),
        ("temperature", ["left", "left"], 0.6),
        ("temperature", ["shift+right"], 0.95),
        ("temperature", ["home"], 0),
        ("temperature", ["end"], 2),
        ("temperature", ["home", "left"], 0),
        ("top_k", ["right"], 41),
        ("top_k", ["shift+left"], 30),
        ("top_p", ["right"], 0.96),
        ("min_p", ["shift+right"], 0.1),
        ("repeat_penalty", ["right", "right"], 1.02),
        ("max_tokens", ["right"], 528),
        ("seed", ["right"], 1),
    ],
)
async def test_keys(name: str, keys: list[str], value: float) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        app.row(name).focus()
        await pilot.press(*keys)
        assert app.row(name).value == pytest.approx(value)
        if value != DEFAULTS[name]:
            changed, to = app.changes[-1]
            assert changed == name
            assert to == pytest.approx(value)
            assert app.line(name).rstrip().endswith("•")


@pytest.mark.parametrize("key", ["delete", "d"])
async def test_default_key_takes_the_mark_away(key: str) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        app.row("temperature").focus()
        await pilot.press("right", "right", key)
        assert app.row("temperature").value == 0.7
        assert "•" not in app.line("temperature")


async def test_up_and_down_move_between_the_rows() -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        app.row("temperature").focus()
        await pilot.press("down", "down")
        assert app.focused is app.row("top_p")
        await pilot.press("up")
        assert app.focused is app.row("top_k")
        await pilot.press("up", "up", "up")
        assert app.focused is app.row("temperature")


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("temperature", "1.25", 1.25),
        ("temperature", "3.5", 3.5),
        ("top_k", "0", 0),
        ("top_p", ".5", 0.5),
        ("seed", "18446744073709551615", 2**64 - 1),
        ("max_tokens", "99", 99),
    ],
)
async def test_typed_values(name: str, typed: str, value: float) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        app.row(name).focus()
        await pilot.press(*("full_stop" if c == "." else c for c in typed))
        assert app.row(name).value == DEFAULTS[name]
        assert typed[-5:] in app.line(name)
        await pilot.press("enter")
        assert app.row(name).value == value
        assert app.changes == [(name, value)]


@pytest.mark.parametrize(
    ("name", "typed", "reason"),
    [
        ("temperature", "900", "temperature must be from 0 to 100"),
        ("top_p", "2", "top_p must be from 0 to 1"),
        ("top_k", "1.5", "not a whole number"),
        ("max_tokens", "0", "from 1 to 1,000,000"),
    ],
)
async def test_a_value_that_does_not_hold_says_why_and_escape_reverts(name: str, typed: str, reason: str) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        app.row(name).focus()
        await pilot.press(*("full_stop" if c == "." else c for c in typed), "enter")
        assert reason in str(app.query_one(".hint", Static).render())
        assert app.row(name).editing == typed
        await pilot.press("escape")
        assert app.row(name).editing is None
        assert app.row(name).value == DEFAULTS[name]
        assert app.changes == []
        assert reason not in str(app.query_one(".hint", Static).render())


async def test_an_empty_seed_is_random_and_shows_the_last_one() -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        panel = app.query_one(SamplingPanel)
        panel.show_seed_used(4711)
        assert "last 4711" in app.line("seed")
        assert "random" in app.line("seed")
        app.row("seed").focus()
        await pilot.press("5", "enter")
        assert app.row("seed").value == 5
        await pilot.press("enter", "backspace", "enter")
        assert app.row("seed").value is None
        assert app.changes == [("seed", 5), ("seed", None)]


async def test_mouse_drag_wheel_and_double_click() -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        slider = app.row("temperature")
        assert isinstance(slider, Slider)
        first, cells = slider.LABEL_WIDTH, slider.track_width(slider.size.width)
        await pilot.mouse_down(slider, offset=(first, 0))
        assert slider.value == 0
        await pilot.hover(slider, offset=(first + cells - 1, 0))
        assert slider.value == 2
        await pilot.hover(slider, offset=(first + cells + 5, 0))
        assert slider.value == 2
        await pilot.mouse_up(slider, offset=(first + cells - 1, 0))
        await pilot.hover(slider, offset=(first, 0))
        assert slider.value == 2
        await pilot.click(slider, offset=(3, 0), times=2)
        assert slider.value == 0.7


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "repeat_penalty"])
def test_track_ends_and_default(name: str) -> None:
    spec = SPECS[name]
    assert spec.at(0) == spec.low
    assert spec.at(1) == spec.high
    assert spec.at(-1) == spec.low
    assert spec.default is not None
    assert spec.at(spec.fraction(spec.default)) == pytest.approx(spec.default)


@given(st.sampled_from([spec for spec in SPECS.values() if spec.track]), st.floats(0, 1))
def test_every_place_on_the_track_is_a_value_that_holds(spec: ValueSpec, place: float) -> None:
    value = spec.at(place)
    assert spec.low <= value <= spec.high
    assert complaint(spec.name, value) is None
    assert isinstance(value, int) or not spec.integer
    # Back on the track it is at most half a step away.
    assert abs(spec.rounded(value) - value) < 1e-9


def test_values_as_text() -> None:
    assert SPECS["temperature"].show(0.7) == "0.70"
    assert SPECS["top_k"].show(0) == "off"
    assert SPECS["top_k"].show(40) == "40"
    assert SPECS["seed"].show(None) == "random"
    assert SPECS["top_p"].show(1) == "off"


async def test_wheel_changes_the_value() -> None:
    from textual import events

    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        row = app.row("temperature")
        arguments: dict[str, Any] = {
            "x": 2, "y": 0, "delta_x": 0, "delta_y": 0, "button": 0, "shift": False, "meta": False, "ctrl": False,
        }  # fmt: skip
        row.post_message(events.MouseScrollUp(row, **arguments))
        await pilot.pause()
        assert row.value == pytest.approx(0.75)
        row.post_message(events.MouseScrollDown(row, **arguments))
        row.post_message(events.MouseScrollDown(row, **arguments))
        await pilot.pause()
        assert row.value == pytest.approx(0.65)
