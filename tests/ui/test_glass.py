"""The glass box on the screen: the waterfall of any token, what other settings would have made of it, the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.scripted import INFO, ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import NARROW, VERY_WIDE, WIDE, line_of, shown
from tests.ui.test_with_engine import real_app
from tui_chat.engine.types import ModelLoaded
from tui_chat.engine.waterfall import Basis, Waterfall
from tui_chat.models.resolve import builtin_path
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.token_strip import TokenLegend, TokenStrip
from tui_chat.ui.widgets.waterfall_table import WaterfallTable

needs_model = pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")


def table_of(app: TuiChatApp) -> Waterfall | None:
    return app.chat.query_one(WaterfallTable).table


def own(app: TuiChatApp) -> Waterfall | None:
    """The waterfall, once it is that of the token on show."""
    table, token = table_of(app), app.chat.query_one(Inspector).token
    if table is None or token is None or token.trace is None or table.position != token.trace.position:
        return None
    return table


def own_behind(app: TuiChatApp, position: int) -> bool:
    table = own(app)
    return table is not None and table.position > position


@asynccontextmanager
async def answered(size: tuple[int, int] = WIDE, **settings: object) -> AsyncIterator[tuple[TuiChatApp, Pilot[Any]]]:
    """An app with the built-in model that has answered a question at a high temperature."""
    app = real_app(4)
    async with app.run_test(size=size) as pilot:
        session = app.session
        await settle(pilot, lambda: session.model and len(session.pieces) == session.model.n_vocab, "the model")
        for name, value in {"temperature": 1.8, "min_p": 0.0, **settings}.items():
            session.set_value(name, value)
        await type_in(pilot, "Tell me a story about the sea.")
        await settle(pilot, lambda: session.answer and not session.answering, "the answer")
        await settle(pilot, lambda: "tok/s ·" in shown(app) or size == NARROW, "the footer")
        yield app, pilot
        await pilot.press("ctrl+q")


def table_lines(app: TuiChatApp) -> list[str]:
    """The rows of the waterfall, as they are drawn."""
    table = app.chat.query_one(WaterfallTable)
    head, n_rows, _feet = table._layout()
    return ["".join(segment.text for segment in table.render_line(head + n)) for n in range(n_rows)]


@needs_model
async def test_marked_candidates_are_seen_wherever_the_table_was_scrolled_to() -> None:
    async with answered() as (app, pilot):
        await pilot.press("f3", "home", "right", "right", "enter")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        table = own(app)
        assert table is not None
        await pilot.press("end")
        await settle(pilot, lambda: table_lines(app)[-1][1] == "›", "the last candidate")
        assert not any("▸" in line for line in table_lines(app)), "the cursor shows what is there"
        await pilot.press("f2")
        await settle(pilot, lambda: table_lines(app)[0].startswith("▸⋮"), "the token that stands there")
        assert not any("⋮" in line for line in table_lines(app)[1:]), "the others stand where they belong"
        await pilot.press("f3", "enter")
        await settle(pilot, lambda: table_lines(app)[-1][1] == "›", "the place as it was left")
        await pilot.press("home", "f2")
        await settle(pilot, lambda: not any("⋮" in line for line in table_lines(app)), "the table from its top")


@needs_model
async def test_the_waterfall_of_a_token_is_what_chose_it() -> None:
    async with answered() as (app, pilot):
        await pilot.press("f3", "home", "right", "right")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        answer = app.session.answer
        assert answer is not None
        for _ in range(6):
            table, token = own(app), app.chat.query_one(Inspector).token
            assert table is not None and token is not None and token.trace is not None
            trace = token.trace
            assert (table.picked, table.u, table.basis) == (token.id, trace.u, Basis.EXACT)
            assert [(c.name, c.survivors) for c in table.columns[1:]] == [(s.name, s.survivors) for s in trace.stages]
            rows = table.rows(0, len(trace.final))
            assert [row.id for row in rows] == [candidate for candidate, _ in trace.final]
            assert [row.p[-1] for row in rows] == pytest.approx([p for _, p in trace.final], abs=1e-6)
            assert sum(row.p[-1] or 0 for row in table.rows(0, table.n_rows)) == pytest.approx(1)
            assert f"u {trace.u:.4f}" in shown(app)
            position = table.position
            await pilot.press("right")
            await settle(pilot, partial(own_behind, app, position), "the next")


@needs_model
async def test_other_settings_mark_what_they_would_have_changed_and_enter_goes_on_from_the_first() -> None:
    async with answered() as (app, pilot):
        session, strip = app.session, app.chat.query_one(TokenStrip)
        first = session.answer
        assert first is not None
        await pilot.press("f3", "home")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        assert not strip.marks and not app.chat.what_if
        session.set_value("temperature", 0.4)
        await settle(pilot, lambda: strip.marks and app.chat.query_one(StatusBar).differs, "the marks")
        await settle(pilot, lambda: "…" not in app.chat.query_one(StatusBar).differs, "all the marks")
        table = own(app)
        assert table is not None and table.params.temperature == 0.4 and "what if" in shown(app)
        n = len(strip.marks)
        assert app.chat.query_one(StatusBar).differs == f"{n} of {len(first.tokens)} would differ"
        assert f"{n} of {len(first.tokens)} would differ; after the first all is conditional" in line_of(app)
        assert "≠" in shown(app) and "would differ" in app.chat.query_one(TokenLegend).note
        # What ran is one key away, and changes nothing.
        await pilot.press("w")
        await settle(pilot, lambda: (t := own(app)) and t.params.temperature == 1.8 and not strip.marks, "what ran")
        await pilot.press("w")
        await settle(pilot, lambda: (t := own(app)) and t.params.temperature == 0.4 and strip.marks, "what if")
        mark = min(strip.marks)
        await pilot.press("n")
        await settle(pilot, lambda: strip.current == mark and (t := own(app)) and t.params.temperature == 0.4, "a mark")
        table = own(app)
        assert table is not None and table.picked != first.tokens[mark].id
        would = table.picked
        await pilot.press("enter")
        await settle(pilot, lambda: session.answer is not first and not session.answering, "the fork")
        fork = session.answer
        assert fork is not None
        ids = [token.id for token in fork.tokens]
        assert ids[:mark] == [token.id for token in first.tokens[:mark]] and ids[mark] == would
        assert not fork.tokens[mark].forced


@needs_model
async def test_a_slider_redraws_the_waterfall_at_once() -> None:
    async with answered() as (app, pilot):
        await pilot.press("f3", "home", "right", "right", "right")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        app.chat.query_one("#value-temperature").focus()
        await pilot.press("left", "left")
        wanted = app.session.inference.temperature
        assert wanted < 1.8
        await settle(pilot, lambda: (t := own(app)) and t.params.temperature == wanted, "the new waterfall")
        assert f"T {wanted:.2f}" in shown(app) or f"{wanted:.2f}" in shown(app)


@needs_model
@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_candidates_are_gone_through_sorted_and_found(size: tuple[int, int]) -> None:
    async with answered(size, top_k=40, top_p=0.9) as (app, pilot):
        await pilot.press("f3", "home")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        await pilot.press("enter")
        widget = app.chat.query_one(WaterfallTable)
        await settle(pilot, lambda: widget.has_focus, "the focus")
        table = own(app)
        assert table is not None
        n_vocab = table.n_rows
        await pilot.press("end")
        last = widget.candidate
        assert last == table.order(n_vocab - 1, n_vocab)[0]
        assert f"rank {n_vocab:,} of {n_vocab:,}" in shown(app) and f"✂ top-k rank {n_vocab} > 40" in shown(app)
        await pilot.press("s", "l")
        assert widget.by_raw and widget.logits and widget.candidate == last
        await pilot.press("home")
        assert widget.candidate == int(table.columns[0].logits.argmax())
        assert f"{table.columns[0].highest:.2f}" in shown(app)
        await pilot.press("slash", *"th", "enter")
        pieces = app.session.pieces
        await settle(pilot, lambda: b"th" in pieces[widget.candidate or 0], "the find")
        found = widget.candidate
        await pilot.press("n")
        assert widget.candidate != found and b"th" in pieces[widget.candidate or 0]
        await pilot.press("slash", *f"#{last}", "enter")
        await settle(pilot, lambda: widget.candidate == last, "the id")
        await pilot.press("slash", *"qqqq", "enter")
        await settle(pilot, lambda: "no candidate holds qqqq" in shown(app), "the miss")
        await pilot.press("c")
        token = app.chat.query_one(Inspector).token
        assert token is not None and widget.candidate == token.id


@needs_model
async def test_columns_that_do_not_fit_are_scrolled() -> None:
    async with answered(top_p=0.9, typical_p=0.95, repeat_penalty=1.2, min_p=0.02, top_n_sigma=3) as (app, pilot):
        await pilot.press("f3")
        await settle(pilot, lambda: (t := own(app)) and len(t.columns) == 8, "the waterfall")
        await pilot.press("enter")

        def head() -> list[str]:
            line = next(line for line in shown(app).splitlines() if "raw" in line and "T▾" in line)
            return [word for word in line.split("│")[1].replace("…", " ").split() if word[0].isalpha()]

        assert head() == ["raw", "penalty", "top-nσ", "T▾"]
        await pilot.press("right", "right")
        assert head() == ["raw", "top-k", "typical", "T▾"]
        await pilot.press(*["right"] * 9)
        assert head() == ["raw", "top-p", "min-p", "T▾"]
        await pilot.press("left")
        assert head() == ["raw", "typical", "top-p", "T▾"]


@needs_model
async def test_the_tokens_of_the_prompt_show_how_they_were_expected() -> None:
    async with answered() as (app, pilot):
        inspector, session = app.chat.query_one(Inspector), app.session
        assert session.answer is not None
        ids = session.answer.prompt_ids
        await pilot.press("f3", "p")
        await settle(pilot, lambda: f"the prompt · {len(ids)} tokens" in shown(app), "the prompt")
        strip = app.chat.query_one(TokenStrip)
        assert [token.id for token in strip.tokens] == list(ids)
        read = await asyncio.wrap_future(session.ask(lambda engine: [t for part in engine.read(ids) for t in part]))
        known = [token.trace for token in strip.tokens[1:]]
        assert [(t.id, t.rank) for t in known if t is not None] == [(t.id, t.rank) for t in read]
        await pilot.press("left", "left", "left")
        await settle(pilot, lambda: own(app) is not None, "a waterfall")
        table, token = own(app), inspector.token
        assert table is not None and token is not None and token.trace is not None
        assert table.position == token.trace.position == len(ids) - 4
        assert table.row(token.id).p[0] == pytest.approx(token.trace.p, rel=1e-3)
        await pilot.press("home")
        await settle(pilot, lambda: "nothing before it" in shown(app), "the first token")
        await pilot.press("p")
        assert [token.id for token in strip.tokens] == [token.id for token in session.answer.tokens]


@needs_model
async def test_the_coming_token_has_its_waterfall_before_it_is_drawn() -> None:
    async with answered() as (app, pilot):
        session, inspector = app.session, app.chat.query_one(Inspector)
        session.stepping.turn(on=True)
        await type_in(pilot, "And then?")
        await settle(pilot, lambda: session.answer and session.answer.pending is not None, "a pending token")
        await settle(pilot, lambda: own(app) is not None and "coming token" in shown(app), "its waterfall")
        answer, table = session.answer, own(app)
        assert answer is not None and answer.pending is not None and table is not None
        assert inspector.token is answer.pending.token
        assert table.picked == answer.pending.token.id and "◇" in shown(app)
        position = table.position
        assert session.stepping.control is not None
        session.stepping.control.draw()
        await settle(pilot, lambda: (t := own(app)) and t.position == position + 1, "the next")
        session.stop()
        await settle(pilot, lambda: not session.answering, "the end")


@needs_model
async def test_while_an_answer_streams_a_selected_token_keeps_its_waterfall() -> None:
    app = real_app(2, endless=True)
    async with app.run_test(size=WIDE) as pilot:
        session = app.session
        await settle(pilot, lambda: session.model is not None, "the model")
        await type_in(pilot, "Tell me a story.")
        await settle(pilot, lambda: session.answer and len(session.answer.tokens) > 8, "some tokens")
        await settle(pilot, lambda: table_of(app) is not None, "a waterfall of what streams by")
        await pilot.press("f3", "home", "right")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        table = own(app)
        assert session.answer is not None and table is not None
        assert table.position == session.answer.n_prompt + 1
        n = len(session.answer.tokens)
        if session.answering:
            await settle(pilot, lambda: len(app.chat.query_one(TokenStrip).tokens) > n or not session.answering, "more")
        assert own(app) is not None
        await pilot.press("escape")
        await settle(pilot, lambda: not session.answering, "the end")
        await pilot.press("ctrl+q")


async def test_older_tokens_say_that_they_are_truncated() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=VERY_WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("A token is a small piece of text .")
        await settle(pilot, lambda: (t := table_of(app)) is not None and t.position == 32, "the waterfall")
        assert "best 14 only" in shown(app) and "truncated: the best 14 are known" in shown(app)
        # The next answer begins with no waterfall of the last one.
        await type_in(pilot, "again")
        worker.begin()
        await settle(pilot, lambda: table_of(app) is None, "an empty table")


async def test_another_models_answer_has_no_waterfall() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.answer("A token .")
        await settle(pilot, lambda: table_of(app) is not None, "the waterfall")
        conversation = app.session.conversation
        message = conversation.path[-1]
        conversation.update(replace(message, model="another"))
        app.chat.call_next(app.chat.rebuild)
        await settle(pilot, lambda: "did not write this" in shown(app), "the reason")


async def test_a_conversation_that_is_gone_on_with_has_its_waterfall_once_the_model_is_ready() -> None:
    first = ScriptedWorker()
    app = make_app(first)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        first.answer("A token .")
        await settle(pilot, lambda: table_of(app) is not None, "the waterfall")
        conversation, tokens_of = app.session.conversation, dict(app.session.tokens_of)
    worker = ScriptedWorker(loads=False)
    app = make_app(worker, conversation=conversation)
    async with app.run_test(size=WIDE) as pilot:
        app.session.tokens_of.update(tokens_of)
        app.chat.call_next(app.chat.rebuild)
        await settle(pilot, lambda: "Figures follow when the model is loaded." in shown(app), "the reason")
        await pilot.press("f3", "enter", "f")
        await settle(pilot, lambda: "Figures follow" in line_of(app), "what the key says")
        worker.report(ModelLoaded(worker._last_id, INFO))
        await settle(pilot, lambda: table_of(app) is not None, "the waterfall")
        # The counts are those of the draw, the sums are supposed.
        await settle(pilot, lambda: "top-p: 12 sum to ~" in shown(app), "the counts")
        assert "~12" not in shown(app)
        conversation.update(replace(conversation.path[-1], model="another"))
        app.chat.call_next(app.chat.rebuild)
        await settle(pilot, lambda: "before it was not kept." in " ".join(shown(app).split()), "the reason in full")


@needs_model
async def test_settings_that_are_put_back_are_no_what_if() -> None:
    async with answered() as (app, pilot):
        await pilot.press("f3", "home")
        await settle(pilot, lambda: own(app) is not None, "the waterfall")
        app.session.set_value("temperature", 0.4)
        status = app.chat.query_one(StatusBar)
        await settle(pilot, lambda: "what if" in inspected(app) and status.differs, "the marks")
        app.session.set_value("temperature", 1.8)
        await settle(pilot, lambda: not status.differs and not app.chat.what_if, "no marks")
        await settle(pilot, lambda: "what if" not in inspected(app), "what ran")
        assert not app.chat.query_one(TokenLegend).note


def inspected(app: TuiChatApp) -> str:
    """The line of the waterfall with its title."""
    return next((line for line in shown(app).splitlines() if "raw" in line and "T▾" in line), "")


async def test_a_narrow_status_bar_makes_room_for_what_would_differ() -> None:
    app = make_app(ScriptedWorker())
    async with app.run_test(size=(60, 20)) as pilot:
        await ready(pilot)
        bar = app.chat.query_one(StatusBar)
        bar.context, bar.differs, bar.rate = (119, 2048), "5 of 59 would differ", "507 tok/s"
        words = bar.render_line(0).text
        assert words.startswith("tui-chat · ") and words.endswith("≠ 5 of 59 would differ   507 tok/s")
