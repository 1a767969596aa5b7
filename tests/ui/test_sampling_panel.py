"""Sliders and fields: keys, mouse, typed values, defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Input, Static

from tests.ui.scripted import settle
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import DEFAULT_ORDER
from tui_chat.themes import DEFAULT_THEME, load_themes
from tui_chat.ui.widgets.sampling_panel import SamplingPanel, arranged
from tui_chat.ui.widgets.setting_groups import complaint, groups, matches, text_of
from tui_chat.ui.widgets.setting_rows import GroupRow, StageRow, TextRow
from tui_chat.ui.widgets.slider import Slider
from tui_chat.ui.widgets.value_row import ValueRow, ValueSpec

DEFAULTS = InferenceSettings()
GROUPS = groups(DEFAULTS)
SPECS = {spec.name: spec for group in GROUPS for spec in group.specs if isinstance(spec, ValueSpec)}


class PanelApp(App[None]):
    """Only the panel, with a session's part in it: what is changed is shown."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.settings = DEFAULTS.model_copy(update=values)
        self.changes: list[dict[str, object]] = []
        self.steps: list[int] = []
        self.lines: list[str] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return load_themes().themes[DEFAULT_THEME].variables()

    def compose(self) -> ComposeResult:
        yield SamplingPanel(DEFAULTS, self.settings)

    def on_mount(self) -> None:
        self.panel.styles.height = "100%"

    def on_sampling_panel_changed(self, event: SamplingPanel.Changed) -> None:
        self.changes.append(dict(event.values))
        self.settings = self.settings.model_copy(update=dict(event.values))
        event.panel.show(self.settings)

    def on_sampling_panel_stepped(self, event: SamplingPanel.Stepped) -> None:
        self.steps.append(event.direction)

    def on_sampling_panel_command_wanted(self, event: SamplingPanel.CommandWanted) -> None:
        self.lines.append(event.line)

    @property
    def panel(self) -> SamplingPanel:
        return self.query_one(SamplingPanel)

    @property
    def said(self) -> str:
        return str(self.query_one(".hint", Static).render())

    async def unfold(self, pilot: Pilot[None], group: str) -> None:
        row = self.query_one(f"#group-{group.replace('_', '-')}", GroupRow)
        if row.folded:
            row.focus()
            await pilot.press("right")
            await pilot.pause()

    def row(self, name: str) -> ValueRow:
        return self.query_one(f"#value-{name.replace('_', '-')}", ValueRow)

    def line(self, name: str) -> str:
        return drawn(self.row(name))

    @property
    def shown(self) -> list[str]:
        """The lines of the list, those out of view too."""
        return [drawn(row).rstrip() for row in self.query_one("#settings").children if row.display]


def drawn(row: Widget) -> str:
    return "".join(segment.text for segment in row.render_line(0))


async def of(app: PanelApp, pilot: Pilot[None], name: str) -> ValueRow:
    """The row of a setting, its group unfolded, with the focus."""
    group = next(group for group in GROUPS if name in group.fields)
    if group.title:
        await app.unfold(pilot, group.name)
    app.row(name).focus()
    await pilot.pause()
    return app.row(name)


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
        ("adaptive_target", ["right"], 0),
        ("adaptive_target", ["left"], -1),
        ("max_length", ["right"], 528),
        ("seed", ["right"], 1),
    ],
)
async def test_keys(name: str, keys: list[str], value: float) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        await of(app, pilot, name)
        await pilot.press(*keys)
        assert app.row(name).value == pytest.approx(value)
        if value != getattr(DEFAULTS, name):
            assert app.changes[-1] == {name: pytest.approx(value)}
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
        assert app.focused is app.row("dynatemp_exponent")
        await pilot.press("down", "down")
        assert app.focused is app.row("top_k")
        await pilot.press("up", "up", "up", "up")
        assert app.focused is app.row("temperature")
        await pilot.press("up", "up", "up")
        assert app.focused is app.query_one("#group-temperature")
        await pilot.press("pagedown")
        assert app.focused is app.row("typical_p")


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("temperature", "1.25", 1.25),
        ("temperature", "3.5", 3.5),
        ("top_k", "0", 0),
        ("top_p", ".5", 0.5),
        ("seed", "18446744073709551615", 2**64 - 1),
        ("max_length", "99", 99),
        ("time_limit_s", "2.5", 2.5),
        ("top_p", "0,9", 0.9),
    ],
)
async def test_typed_values(name: str, typed: str, value: float) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        await of(app, pilot, name)
        await pilot.press(*({".": "full_stop", ",": "comma"}.get(c, c) for c in typed))
        assert app.row(name).value == getattr(DEFAULTS, name)
        assert typed[-5:].replace(",", ".") in app.line(name)
        await pilot.press("enter")
        assert app.row(name).value == value
        assert app.changes == [{name: value}]


@pytest.mark.parametrize(
    ("name", "typed", "reason"),
    [
        ("temperature", "900", "temperature must be from 0 to 100"),
        ("top_p", "2", "top_p must be from 0 to 1"),
        ("top_k", "1.5", "not a whole number"),
        ("seed", "1,024", "'1.024' is not a whole number: write 1024"),
        ("max_length", "0", "max_length must be at least 1"),
        ("min_confidence", "2", "min_confidence must be at most 1"),
    ],
)
async def test_a_value_that_does_not_hold_says_why_and_escape_reverts(name: str, typed: str, reason: str) -> None:
    app = PanelApp()
    async with app.run_test(size=(60, 24)) as pilot:
        await of(app, pilot, name)
        await pilot.press(*({".": "full_stop", ",": "comma"}.get(c, c) for c in typed), "enter")
        assert reason in app.said
        assert app.row(name).editing == typed.replace(",", ".")
        await pilot.press("escape")
        assert app.row(name).editing is None
        assert app.row(name).value == getattr(DEFAULTS, name)
        assert app.changes == [] and app.steps == []
        assert reason not in app.said


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
        assert app.changes == [{"seed": 5}, {"seed": None}]


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


@pytest.mark.parametrize("name", [spec.name for spec in SPECS.values() if spec.track])
def test_track_ends_and_default(name: str) -> None:
    spec = SPECS[name]
    assert spec.at(0) == spec.low
    assert spec.at(1) == spec.high
    assert spec.at(-1) == spec.low
    assert spec.default is not None
    if spec.default >= spec.low:
        assert spec.at(spec.fraction(spec.default)) == pytest.approx(spec.default)
    else:
        assert spec.default == spec.off


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


def test_every_setting_is_in_one_group() -> None:
    names = [name for group in GROUPS for name in group.fields]
    assert len(names) == len(set(names))
    assert set(names) == set(InferenceSettings.model_fields) - {"system", "enable_thinking"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("top", {"top_k", "top_p", "top_n_sigma", "stop"}),
        ("top-p", {"top_p"}),
        ("TOP_P", {"top_p"}),
        ("xtc", {"xtc_probability", "xtc_threshold", "xtc"}),
        ("order", set(DEFAULT_ORDER)),
        ("max tokens", {"max_length"}),
        ("schema", {"grammar", "json_schema"}),
        ("nothing", set()),
    ],
)
def test_search_finds_names_labels_and_groups(query: str, found: set[str]) -> None:
    assert {name for group in GROUPS for name in matches(group, query)} == found


@given(st.permutations(DEFAULT_ORDER), st.lists(st.sampled_from(DEFAULT_ORDER), unique=True))
def test_the_list_of_stages_holds_all_and_those_that_run_in_order(shown: list[str], order: list[str]) -> None:
    listed = arranged(shown, order)
    assert sorted(listed) == sorted(DEFAULT_ORDER)
    assert [stage for stage in listed if stage in order] == order
    assert arranged(listed, order) == listed


def test_a_stage_that_is_switched_off_keeps_its_place() -> None:
    off = tuple(stage for stage in DEFAULT_ORDER if stage != "top_p")
    assert arranged(DEFAULT_ORDER, off) == DEFAULT_ORDER


def test_texts_as_text() -> None:
    specs = {spec.name: spec for group in GROUPS for spec in group.specs}
    assert text_of(specs["ban"], ("however", 42, " the")) == "however, 42, ' the'"
    assert text_of(specs["ban"], ()) == "none"
    assert text_of(specs["logit_bias"], (("piece", 2.0), (42, float("-inf")))) == "piece +2, 42 -inf"
    assert text_of(specs["grammar"], 'root ::=\n  "a"') == 'root ::= "a"'


async def test_folded_groups_say_what_differs() -> None:
    app = PanelApp(repeat_penalty=1.1, presence_penalty=0.5, order=("top_k", "temperature"))
    async with app.run_test(size=(52, 40)) as pilot:
        lines = {line.split()[1]: line for line in app.shown if line.split()[0] == "+"}
        assert lines["penalties"].endswith("repeat 1.10 · presence 0.50 •")
        assert lines["order"].endswith("2 of 13 stages •") and lines["DRY"].endswith("off")
        row = app.query_one("#group-penalties", GroupRow)
        row.focus()
        await pilot.press("d")
        await pilot.pause()
        assert app.changes == [dict.fromkeys(("repeat_penalty",), 1.0) | {
            "frequency_penalty": 0.0, "presence_penalty": 0.0, "repeat_last_n": 64,
        }]  # fmt: skip
        assert drawn(row).rstrip().endswith("off")
        await pilot.press("d", "enter")
        await settle(pilot, lambda: any("frequency" in line for line in app.shown), "the rows")
        assert len(app.changes) == 1
        await pilot.click(row)
        await settle(pilot, lambda: not any("frequency" in line for line in app.shown), "the rows to go")


async def test_what_does_nothing_is_dimmed_and_says_why() -> None:
    app = PanelApp(mirostat=2)
    async with app.run_test(size=(52, 40)) as pilot:
        row = await of(app, pilot, "top_p")
        assert "mirostat replaces it" in app.line("top_p") and "●" not in app.line("top_p")
        assert app.said.startswith("mirostat replaces it: it does nothing now. Keeps")
        dimmed = [s.style for s in row.render_line(0) if "0.95" in s.text]
        await of(app, pilot, "mirostat")
        await pilot.press("home")
        await pilot.pause()
        assert "●" in app.line("top_p") and [s.style for s in row.render_line(0) if "0.95" in s.text] != dimmed


async def test_search() -> None:
    app = PanelApp()
    async with app.run_test(size=(52, 40)) as pilot:
        app.row("temperature").focus()
        await settle(pilot, lambda: app.focused is app.row("temperature"), "the focus")
        await pilot.press("right", "slash", "p", "e", "n", "a", "l")
        await settle(pilot, lambda: len(app.shown) == 9, "what is found")
        words = [line.split()[1 if "−" in line else 0] for line in app.shown]
        assert words == ["penalties", "repeat", "frequency", "presence", "last", "DRY", "last", "order", "3"]
        await pilot.press("enter")
        assert app.focused is app.row("repeat_penalty")
        await pilot.press("right", "slash", "x", "x", "x")
        await settle(pilot, lambda: "no setting is called 'xxx'" in app.said, "the complaint")
        assert app.shown == []
        await pilot.press("escape")
        await settle(pilot, lambda: not app.query(Input) and len(app.shown) > 15, "the end of the search")
        assert not any("repeat " in line and "━" in line for line in app.shown)
        assert app.changes == [{"temperature": pytest.approx(0.75)}, {"repeat_penalty": 1.01}]


async def test_undo_and_redo_keys() -> None:
    app = PanelApp()
    async with app.run_test(size=(52, 40)) as pilot:
        app.panel.focus_first()
        await pilot.press("u", "ctrl+z", "U", "ctrl+y")
        await pilot.pause()
        assert app.steps == [-1, -1, 1, 1]


async def test_the_order_by_key() -> None:
    app = PanelApp()
    async with app.run_test(size=(52, 20)) as pilot:
        await app.unfold(pilot, "order")
        row = app.query_one("#stage-temperature", StageRow)
        row.focus()
        await pilot.press("shift+up", "shift+up")
        await pilot.pause()
        assert app.settings.order[8:11] == ("temperature", "min_p", "xtc")
        assert row.place == 9 and row.has_focus and app.panel.region.contains_region(row.region)
        await pilot.press("space")
        await pilot.pause()
        assert "temperature" not in app.settings.order and drawn(row).startswith("▸    [ ] temperature")
        await pilot.press("space")
        await pilot.pause()
        assert app.settings.order[8] == "temperature"
        await pilot.press("d")
        await pilot.pause()
        assert app.settings.order == DEFAULT_ORDER
        app.query_one("#stage-logit-bias").focus()
        before = len(app.changes)
        await pilot.press("shift+up")
        await pilot.pause()
        assert len(app.changes) == before


async def test_the_order_by_mouse() -> None:
    app = PanelApp()
    async with app.run_test(size=(52, 50)) as pilot:
        await app.unfold(pilot, "order")
        row = app.query_one("#stage-min-p", StageRow)
        top = app.query_one("#stage-top-k", StageRow).region.y
        await pilot.mouse_down(row, offset=(12, 0))
        for _ in range(4):
            if row.region.y > top:
                await pilot.hover(row, offset=(12, -1))
                await pilot.pause()
        assert app.changes == [] and row.region.y == top
        await pilot.mouse_up(row, offset=(12, 0))
        await settle(pilot, lambda: app.changes, "the order")
        assert app.settings.order[5:9] == ("min_p", "top_k", "typical", "top_p")
        await pilot.click(row, offset=(6, 0))
        await settle(pilot, lambda: "min_p" not in app.settings.order, "the stage to be off")


async def test_texts_are_changed_by_their_command_and_put_back_by_key() -> None:
    app = PanelApp(ban=("however",))
    async with app.run_test(size=(52, 40)) as pilot:
        await app.unfold(pilot, "bias")
        row = app.query_one("#value-ban", TextRow)
        row.focus()
        assert "however •" in drawn(row)
        await pilot.press("enter", "d")
        await pilot.pause()
        assert app.lines == ["/ban "] and app.changes == [{"ban": ()}] and "none" in drawn(row)


@pytest.mark.parametrize("size", [(80, 12), (48, 16)])
async def test_the_selected_row_stays_in_view(size: tuple[int, int]) -> None:
    app = PanelApp()
    async with app.run_test(size=size) as pilot:
        await app.unfold(pilot, "order")
        area = app.query_one("#settings")

        async def seen() -> None:
            await settle(
                pilot,
                lambda: app.focused is not None and area.region.contains_region(app.focused.region),
                "the row to be in view",
            )

        app.query_one("#group-temperature").focus()
        await seen()
        for _ in range(0, len(app.shown), 9):
            await pilot.press(*["down"] * 9)
            await seen()
        assert app.focused is app.query_one("#stage-adaptive-p")
        await pilot.press("pageup", "pageup")
        await seen()
