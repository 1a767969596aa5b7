"""Settings changed, taken back, brought again, and brought to an answer under way."""

from __future__ import annotations

import math
import queue
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.scripted import ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import NARROW, WIDE, shown
from tests.ui.test_session import Bench
from tui_chat.config import InferenceSettings
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import DEFAULT_ORDER, SamplingParams
from tui_chat.errors import GrammarError, SamplingError, TuiChatError
from tui_chat.ui.tuning import ONE_CHANGE_S, Tuning, live_params
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.setting_rows import StageRow
from tui_chat.ui.widgets.value_row import ValueRow


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tuning() -> tuple[Tuning, Clock]:
    clock = Clock()
    return Tuning(InferenceSettings(), clock), clock


def test_a_slider_that_was_dragged_is_one_change() -> None:
    state, clock = tuning()
    for value in (0.8, 0.9, 1.0):
        state.change({"temperature": value}, None)
        clock.now += ONE_CHANGE_S / 2
    state.change({"top_k": 3}, None)
    clock.now += 2 * ONE_CHANGE_S
    state.change({"top_k": 4}, None)
    assert state.undoable == ("top_k",)
    assert state.undo() == ("top_k",) and state.present.top_k == 3
    assert state.undo() == ("top_k",) and state.present.top_k == 40 and state.present.temperature == 1.0
    assert state.undo() == ("temperature",) and state.present == InferenceSettings()
    assert not state.undo() and not state.undoable
    assert state.redo() == ("temperature",) and state.present.temperature == 1.0
    state.change({"min_p": 0.2}, None)
    assert not state.redo()


def test_values_that_are_no_change_or_do_not_hold_leave_nothing_behind() -> None:
    state, _clock = tuning()
    state.change({"temperature": 0.7}, None)
    for values, words in (
        ({"top_p": 2.0}, "top_p must be from 0 to 1"),
        ({"mirostat": 2, "order": ("top_k",)}, "mirostat is set, but the order"),
        ({"grammar": "root ::= x"}, "line 1, column 10"),
        ({"grammar": "json", "order": ("top_k",)}, "grammar is set, but the order"),
        ({"grammar": "json", "json_schema": "{}"}, "use one of them"),
    ):
        with pytest.raises(SamplingError, match=words):
            state.change(values, None)
    assert state.undoable == () and state.present == InferenceSettings()


@given(st.lists(st.tuples(st.sampled_from(["temperature", "top_p", "min_p"]), st.floats(0, 1)), max_size=12))
def test_undo_goes_all_the_way_back_and_redo_all_the_way_forth(changes: list[tuple[str, float]]) -> None:
    state, clock = tuning()
    seen = [state.present]
    for name, value in changes:
        state.change({name: value}, None)
        clock.now += 2 * ONE_CHANGE_S
        if state.present != seen[-1]:
            seen.append(state.present)
    for settings in reversed(seen[:-1]):
        assert state.undo() and state.present == settings
    assert state.undo() == ()
    for settings in seen[1:]:
        assert state.redo() and state.present == settings
    assert not state.redo()


def test_a_grammar_stays_within_an_answer() -> None:
    begun = SamplingParams(grammar='root ::= "a"', seed=9)
    params = live_params(begun, InferenceSettings(grammar="json", seed=3, temperature=0.1), ((4, 1.0),))
    assert (params.grammar, params.seed, params.temperature) == ('root ::= "a"', 9, 0.1)
    assert params.logit_bias == ((4, 1.0),)
    assert live_params(begun, InferenceSettings(order=("top_k",)), ()).order == DEFAULT_ORDER
    assert live_params(SamplingParams(), InferenceSettings(order=("top_k",)), ()).order == ("top_k",)


def test_undo_reaches_the_answer_under_way() -> None:
    bench = Bench()
    bench.load()
    bench.session.send("hi")
    bench.worker.begin()
    bench.session.set_values({"temperature": 0.1, "top_k": 2})
    assert bench.worker.params[-1].temperature == 0.1 and bench.worker.params[-1].top_k == 2
    assert bench.session.step_settings(-1) == ("temperature", "top_k")
    assert bench.worker.params[-1].temperature == 0.7
    assert bench.session.step_settings(1) == ("temperature", "top_k")
    assert bench.worker.params[-1].top_k == 2


def test_what_is_wrong_with_a_grammar_is_said_when_it_is_set() -> None:
    bench = Bench()
    with pytest.raises(GrammarError) as caught:
        bench.session.set_value("json_schema", '{"type": }')
    assert (caught.value.line, caught.value.column) == (1, 10)
    with pytest.raises(TuiChatError, match="no token"):
        bench.load()
        bench.session.set_value("ban", ("/zzz/",))
    with pytest.raises(TuiChatError, match="this model has no token 64: its vocabulary ends at 63"):
        bench.session.set_value("ban", (64,))


def test_a_ban_reaches_the_answer_under_way_with_the_tokens_it_means(
    pocket: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    bench.load()
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    bench.session._report = found.put
    monkeypatch.setattr(bench.worker, "lend", lambda: nullcontext(pocket))
    bench.session.send("hi")
    bench.worker.begin()
    bench.session.set_value("ban", (" the", "/^ tokens?$/"))
    bench.session.set_value("temperature", 0.5)
    assert bench.worker.params[-1].logit_bias == ()
    bench.session.handle(found.get(timeout=20))
    tokens = {" the", *pocket.vocab.resolve("/^ tokens?$/")}
    assert len(tokens) > 2 and dict(bench.worker.params[-1].logit_bias) == dict.fromkeys(tokens, -math.inf)
    bench.session.set_value("top_k", 3)
    bench.session.step_settings(-1)
    bench.session.step_settings(-1)
    assert len(bench.worker.params[-1].logit_bias) == len(tokens)
    bench.session.step_settings(-1)
    assert bench.worker.params[-1] == SamplingParams(seed=bench.worker.params[-1].seed)
    # What was looked up once is known.
    bench.session.step_settings(1)
    assert len(bench.worker.params[-1].logit_bias) == len(tokens) and found.empty()


async def test_pane_and_commands_share_their_undo() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "/preset chaos")
        assert app.session.inference.temperature == 2
        await pilot.press("f4")
        await settle(pilot, lambda: isinstance(app.focused, ValueRow), "the pane")
        await pilot.press("left", "u")
        await settle(pilot, lambda: app.session.inference.temperature == 2, "the slider's change to be taken back")
        await pilot.press("ctrl+z")
        await settle(pilot, lambda: app.session.inference == app.session.settings.inference, "the preset's too")
        assert app.chat.query_one("#value-top-k", ValueRow).value == 40
        await pilot.press("U")
        await settle(pilot, lambda: app.session.inference.top_p == 1, "the preset again")
        await pilot.press("1", "u", "escape")
        assert app.session.inference.top_p == 1
        await pilot.press("f2")
        await settle(pilot, lambda: not isinstance(app.focused, ValueRow), "the composer")
        await type_in(pilot, "/undo")
        await settle(pilot, lambda: "taken back: temperature 0.7, top_k 40, top_p 0.95, min_p 0.05" in shown(app))
        await type_in(pilot, "/undo")
        await settle(pilot, lambda: "there is no change to take back" in shown(app))


async def test_a_stage_the_settings_need_stays_in_the_order() -> None:
    app = make_app(inference=InferenceSettings(mirostat=2))
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        panel = app.chat.query_one(SamplingPanel)
        app.chat.query_one("#group-order").focus()
        await pilot.press("right")
        await settle(pilot, lambda: panel.query(StageRow), "the stages")
        row = panel.query_one("#stage-mirostat", StageRow)
        row.focus()
        await settle(pilot, lambda: app.focused is row, "the stage")
        await pilot.press("space")
        await settle(pilot, lambda: "the order of the stages leaves it out" in shown(app), "the reason")
        assert app.session.inference.order == DEFAULT_ORDER and row.place == 12
        await type_to(app, pilot, "/order default")
        await type_to(app, pilot, "/preset balanced")
        await type_to(app, pilot, "/order min_p,temperature")
        assert [stage.place for stage in panel.query(StageRow)].count(0) == 11


async def type_to(app: Any, pilot: Any, line: str) -> None:
    app.chat.query_one(Composer).focus_input()
    await settle(pilot, lambda: not isinstance(app.focused, StageRow | ValueRow), "the composer")
    await type_in(pilot, line)


async def test_enter_on_a_text_writes_its_command() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await pilot.press("f4")
        await settle(pilot, lambda: isinstance(app.focused, ValueRow), "the pane")
        await pilot.press("slash", *"grammar", "enter", "enter")
        await settle(pilot, lambda: app.chat.query_one(Composer).text == "/grammar ", "the command")
        await settle(pilot, lambda: "arithmetic" in shown(app), "what may be written")
        await pilot.press(*"list", "enter")
        await settle(pilot, lambda: app.session.inference.grammar == "list", "the grammar")
