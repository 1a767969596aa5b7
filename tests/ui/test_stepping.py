"""Step mode on the screen, with a scripted worker and with the real engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.scripted import PIECES, ScriptedWorker, at_once, make_app, make_token, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tests.ui.test_steering import command, ended, needs_model, panel, real, words
from tests.ui.test_with_engine import real_app
from tui_chat.config import LoadedSettings, Settings
from tui_chat.engine.stepping import Decision, Step
from tui_chat.engine.types import (
    Limits,
    TokenPending,
    TokensWithdrawn,
)
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.app import make_app as make_real_app
from tui_chat.ui.widgets.composer import MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.step_panel import StepPanel
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.turns import Notice


async def next_offer(pilot: Pilot[Any], app: TuiChatApp, *keys: str) -> TokenPending:
    """Presses keys and waits for the token that is offered then."""
    before = panel(app).pending
    await pilot.press(*keys)
    await offered(pilot, app, before)
    pending = panel(app).pending
    assert pending is not None
    return pending


async def offered(pilot: Pilot[Any], app: TuiChatApp, before: TokenPending | None) -> None:
    def another() -> bool:
        pending = panel(app).pending
        return pending is not None and pending is not before

    await settle(pilot, another, "another token on offer")


async def waiting(pilot: Pilot[Any], worker: ScriptedWorker, *, said: str = "A token is") -> TuiChatApp:
    """An answer that waits before its fourth token."""
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    await ready(pilot)
    await type_in(pilot, "/step on")
    await type_in(pilot, "What is a token?")
    worker.begin()
    worker.say(said)
    offer(worker, 3, b" a")
    await settle(pilot, lambda: panel(app).pending, "the coming token")
    await pilot.pause()
    return app


def offer(worker: ScriptedWorker, index: int, piece: bytes, banned: tuple[int, ...] = ()) -> None:
    assert worker.steps is not None
    worker.steps.offer()
    worker.report(TokenPending(worker.requests[-1], make_token(index, piece, 0.41), banned))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_coming_token_is_shown_with_the_keys_that_decide(size: tuple[int, int]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=size) as pilot:
        await waiting(pilot, worker)
        assert app.focused is panel(app)
        text = shown(app)
        assert "step · before token 4" in text
        assert "space draws · ⏎ takes ▸ · b bans ▸ · ⌫ back · r runs" in text
        assert "◀ drawn" in text and "u 0.4132" in text
        assert app.session.answer is not None and len(app.session.answer.tokens) == 3
        inspector = app.chat.query_one(Inspector)
        assert inspector.token is not None and inspector.token.piece == b" a" and inspector.current == 3
        assert "model" in text and "A token is" in text, "the answer so far can be seen"


async def test_a_low_screen_keeps_the_answer_and_the_composer() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(60, 16)) as pilot:
        await waiting(pilot, worker)
        composer = app.chat.query_one(MessageInput).region
        assert composer.height and composer.bottom < 16
        await settle(pilot, lambda: "model  A token is" in shown(app), "the answer")
        assert "▸ ·a" in shown(app) and "space draws" in shown(app)
        await pilot.press("down", "down")
        await settle(pilot, lambda: "▸ ·piece" in shown(app), "the third candidate, scrolled to")


async def test_the_panel_says_how_to_get_to_its_keys_from_a_draft() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await waiting(pilot, worker)
        assert "to these keys" not in shown(app)
        await pilot.press("shift+tab", "h", "i")
        await settle(pilot, lambda: "tab to these keys · space draws" in shown(app), "the way back")
        assert app.chat.query_one(MessageInput).text == "hi"
        await pilot.press("tab")
        await settle(pilot, lambda: app.focused is panel(app) and "to these keys" not in shown(app), "the panel")


async def test_a_key_decides_on_the_token() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    drawn = PIECES.index(b" a")
    async with app.run_test(size=(80, 24)) as pilot:
        await waiting(pilot, worker)
        control = worker.steps
        assert control is not None
        for keys, decision in (
            (("space",), Decision(Step.DRAW)),
            (("backspace",), Decision(Step.BACK)),
            (("enter",), Decision(Step.DRAW)),
            (("down", "enter"), Decision(Step.PICK, drawn + 1)),
            (("down", "down", "b"), Decision(Step.BAN, drawn + 2)),
            (("r",), Decision(Step.DRAW)),
        ):
            await pilot.press(*keys)
            await settle(pilot, lambda: control._decision is not None, f"the decision of {keys}")
            assert control.wait() == decision
            assert control.stepping is (keys != ("r",))
            before = panel(app).pending
            offer(worker, 3, b" a")
            await offered(pilot, app, before)
        # A banned candidate says so.
        before = panel(app).pending
        offer(worker, 3, b" a", (drawn + 13,))
        await offered(pilot, app, before)
        app.chat.query_one(StepPanel).focus()
        await pilot.press(*["down"] * 13)
        await settle(pilot, lambda: "✂ banned" in shown(app), "the banned candidate")
        # By mouse: the third candidate, and a key of the line beneath.
        await pilot.click(StepPanel, offset=(6, 4))
        await pilot.click(StepPanel, offset=(4, 7))
        await settle(pilot, lambda: control._decision is not None, "the click")
        assert control.wait() == Decision(Step.DRAW)


async def test_a_token_taken_back_leaves_the_screen() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await waiting(pilot, worker, said="A token is")
        worker.report(TokensWithdrawn(worker.requests[-1], 2, "A token"))
        offer(worker, 2, b" of")
        await settle(pilot, lambda: "before token 3" in shown(app), "the step back")
        assert "A token▍" in shown(app) and "A token is" not in shown(app)
        assert [token.piece for token in app.chat.query_one(TokenStrip).tokens] == [b"A", b" token"]
        worker.say(" of", [make_token(2, b" of")])
        worker.finish()
        await settle(pilot, lambda: "A token of" in words(app) and not panel(app).display, "the end")
        assert app.focused is app.chat.query_one(MessageInput)


async def test_what_is_written_is_not_taken_for_steps() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await waiting(pilot, worker)
        control = worker.steps
        assert control is not None
        await pilot.press("slash", "t", "e", "m", "p", "space", "0")
        box = app.chat.query_one(MessageInput)
        await settle(pilot, lambda: box.text == "/temp 0", "the command")
        assert box.has_focus and control._decision is None
        await pilot.press("enter")
        await settle(pilot, lambda: worker.params and worker.params[-1].temperature == 0, "the setting")
        await settle(pilot, lambda: panel(app).has_focus, "the way back to the panel")
        at_once(app, "slash", *"nonsense", "enter")
        await settle(pilot, lambda: list(app.chat.query(Notice)), "the problem")
        await settle(pilot, lambda: panel(app).has_focus and not box.text, "the way back from a mistake")
        assert control._decision is None
        await pilot.press("shift+tab")
        await pilot.pause()
        assert box.has_focus
        await pilot.press("tab")
        await pilot.pause()
        assert panel(app).has_focus, "the panel lies behind the composer"
        await pilot.press("escape")
        assert worker.cancelled


@pytest.mark.parametrize("end", [("t", "e", "m", "p", "space", "0", "enter"), ("backspace",)])
async def test_a_command_gives_back_what_was_being_written(end: tuple[str, ...]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await waiting(pilot, worker)
        box = app.chat.query_one(MessageInput)
        await pilot.press("shift+tab", *"next", "tab")
        await settle(pilot, lambda: panel(app).has_focus and box.text == "next", "the draft")
        await pilot.press("slash")
        await settle(pilot, lambda: box.text == "/" and box.has_focus, "the command")
        await pilot.press(*end)
        await settle(pilot, lambda: box.text == "next", "the draft again")
        assert bool(worker.params) == (len(end) > 1)
        if worker.params:
            await settle(pilot, lambda: panel(app).has_focus, "the way back to the panel")
        box.put("")
        await pilot.pause()
        assert not box.text


async def test_a_new_conversation_has_nothing_that_waits() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await waiting(pilot, worker)
        await pilot.press("slash", *"new", "enter")
        await settle(pilot, lambda: app.session.answer is None and not panel(app).display, "the empty screen")
        assert app.focused is app.chat.query_one(MessageInput) and "step · before" not in shown(app)


async def test_nothing_draws_a_token_when_the_answer_runs() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await type_in(pilot, "What is a token?")
        worker.begin()
        worker.say("A token is")
        assert worker.steps is None, "an answer that nothing has wait is not slowed down"
        await pilot.press("f6")
        await settle(pilot, lambda: worker.steps is not None, "the control")
        assert worker.steps is not None and worker.steps.stepping
        await pilot.press("f6")
        await settle(pilot, lambda: not worker.steps.stepping, "the run")
        assert not app.session.stepping.on


async def test_breakpoints_are_listed_added_and_refused_with_their_column() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await type_in(pilot, "/break entropy > 1.5")
        await type_in(pilot, "/break text ~ zzz")
        assert [found.source for found in app.session.stepping.breakpoints] == ["entropy > 1.5", "text ~ zzz"]
        assert "2 breakpoints" in shown(app) or "a run stops where" in shown(app)
        await type_in(pilot, "/break entropy >> 3")
        await settle(pilot, lambda: list(app.chat.query(Notice)), "the problem")
        text = list(app.chat.query(Notice))[-1].text
        lines = text.splitlines()
        assert "column 10" in text and lines[-1].index("^") == lines[-2].index(">> 3") + 1
        await type_in(pilot, "What is a token?")
        assert worker.steps is not None and not worker.steps.stepping
        worker.begin()
        assert worker.steps.stops_at(make_token(0, b"A").trace)  # type: ignore[arg-type]
        offer(worker, 0, b"A")
        await settle(pilot, lambda: "breakpoint: entropy > 1.5" in shown(app), "the stop")
        await command(pilot, app, "/break off")
        assert app.session.stepping.breakpoints == () and worker.steps.breakpoint is None


@needs_model
async def test_step_by_step_with_the_built_in_model() -> None:
    app = real_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await real(pilot)
        await type_in(pilot, "What is a token?")
        plain = await ended(pilot, app, "ended by the model")
        await type_in(pilot, "/step on")
        await next_offer(pilot, app, "ctrl+r")
        for _ in range(3):
            await next_offer(pilot, app, "space")
        answer = app.session.answer
        assert answer is not None and plain.ids is not None
        assert tuple(token.id for token in answer.tokens) == plain.ids[:3]
        await next_offer(pilot, app, "backspace")
        assert len(answer.tokens) == 2
        warm = panel(app).pending
        assert warm is not None and warm.token.id == plain.ids[2], "the step back draws the same again"
        banned = await next_offer(pilot, app, "b")
        assert banned.banned == (plain.ids[2],) and banned.token.id != plain.ids[2]
        app.session.set_value("temperature", 0.0)
        await offered(pilot, app, banned)
        cold = panel(app).pending
        assert cold is not None and cold.token.trace is not None and cold.token.trace.u is None
        await pilot.press("down", "enter")
        await settle(pilot, lambda: len(answer.tokens) == 3, "the picked token")
        assert answer.tokens[2].forced
        await command(pilot, app, "/break text ~ .")
        app.chat.query_one(StepPanel).focus()
        await next_offer(pilot, app, "r")
        await command(pilot, app, "/break off")
        app.chat.query_one(StepPanel).focus()
        await pilot.press("r")
        tip = await ended(pilot, app, "‹ 2/2 ›")
        assert tip.ids is not None and tip.ids[:2] == plain.ids[:2] and 2 in tip.forced
        assert not panel(app).display


@needs_model
async def test_a_running_answer_is_halted_and_stopped_while_it_waits() -> None:
    settings = Settings.model_validate({"inference": {"seed": 1}, "llm": {"n_ctx": 20_000}})

    def endless(limits: Limits) -> Limits:
        return replace(limits, max_tokens=19_000, ignore_eos=True)

    app = make_real_app(LoadedSettings(settings, {}, None), model="builtin", limit=endless)
    async with app.run_test(size=(120, 40)) as pilot:
        await real(pilot)
        await type_in(pilot, "Tell me a story.")
        await next_offer(pilot, app, "f6")
        answer = app.session.answer
        assert answer is not None
        n = len(answer.tokens)
        await next_offer(pilot, app, "space")
        assert len(answer.tokens) == n + 1 and answer.running
        await command(pilot, app, '/force " green"')
        await settle(pilot, lambda: app.session.answer is not answer, "the forced text")
        answer = app.session.answer
        await settle(pilot, lambda: answer and answer.pending, "the token behind it")
        assert answer is not None and answer.text.endswith(" green")
        n = len(answer.tokens) - 1
        await pilot.press("escape")
        tip = await ended(pilot, app, "stopped by you")
        assert len(tip.ids or ()) == n + 1
        await pilot.press("f6")
        assert not app.session.stepping.on
        await pilot.press("ctrl+q")
        await settle(pilot, lambda: not app.is_running, "the end")


def test_step_mode_looks_so(snap_compare: Any) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        app = await waiting(pilot, worker)
        await pilot.press("down")
        app.chat._say()
        await pilot.pause(0.2)

    assert snap_compare(make_app(worker), terminal_size=(80, 24), run_before=play)


async def test_what_is_drawn_is_never_shown_as_cut() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(120, 40)) as pilot:
        await waiting(pilot, worker)
        token = make_token(3, b" a", 0.005)
        assert token.trace is not None and worker.steps is not None
        few = tuple(pair for pair in token.trace.final if pair[0] != token.id)[:2]
        trace = replace(token.trace, final=few, top=token.trace.top[:3])
        before = panel(app).pending
        worker.steps.offer()
        worker.report(TokenPending(worker.requests[-1], replace(token, trace=trace), p_final=0.0077))
        await offered(pilot, app, before)
        await pilot.pause()
        row = next(line for line in shown(app).splitlines() if "◀ drawn" in line)
        assert "0.77%" in row and "0.50%" in row and "✂" not in row
        # Of one that is left, but below those that were kept, nothing is claimed.
        assert "✂ cut" not in shown(app)
