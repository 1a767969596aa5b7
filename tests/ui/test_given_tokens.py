"""Tokens that the model was given, in the inspector: a distribution of any depth, and no draw."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.ui.scripted import ScriptedWorker, make_app, settle
from tests.ui.test_chat_screen import NARROW, WIDE, shown
from tests.ui.test_glass import answered, needs_model, own, table_of
from tests.ui.test_snapshots import one_turn
from tests.ui.test_token_view import texts
from tui_chat.engine.engine import Engine
from tui_chat.engine.recent import prefix_key
from tui_chat.engine.waterfall import Basis
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.waterfall_table import WaterfallTable


@needs_model
@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_a_token_of_the_prompt_has_candidates_of_any_depth_and_no_draw(size: tuple[int, int]) -> None:
    async with answered(size) as (app, pilot):
        session, inspector = app.session, app.chat.query_one(Inspector)
        assert session.answer is not None and session.model is not None
        ids = session.answer.prompt_ids
        await pilot.press("f3", "p")
        await settle(pilot, lambda: "p goes back" in shown(app), "the prompt")
        await pilot.press("left", "left", "left", "left", "left")
        await settle(pilot, lambda: (t := own(app)) and t.known is None and t.position == len(ids) - 6, "all of it")
        table, token = own(app), inspector.token
        assert table is not None and token is not None and token.trace is not None
        assert table.n_rows == session.model.n_vocab and table.basis is Basis.EXACT
        assert table.row(token.id).p[0] == pytest.approx(token.trace.p, rel=1e-3)
        picture = shown(app)
        assert "given, not drawn" in picture and f"{table.position + 1} given" in picture and "not drawn" in picture
        assert "draw ▓" not in picture and "draw █" not in picture and "drawn: " not in picture
        assert "what if" not in picture and "at 0." not in picture and " ms" not in picture
        assert "◇" not in picture
        # To the last of them.
        await pilot.press("enter", "end")
        widget = app.chat.query_one(WaterfallTable)
        await settle(pilot, lambda: widget.candidate == table.order(table.n_rows - 1, table.n_rows)[0], "the last")
        assert f"rank {table.n_rows:,} of {table.n_rows:,}" in shown(app)

        def kept(engine: Engine) -> bool:
            assert engine.recent is not None
            row = engine.recent.get(prefix_key(ids[: len(ids) - 6]))
            return row is not None and bool(np.isfinite(row.logits).all())

        assert await asyncio.wrap_future(session.ask(kept))


async def test_a_message_of_the_user_says_that_nothing_drew_it_and_p_leads_to_the_prompt_and_back() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await one_turn(pilot, worker)
        await pilot.press("ctrl+o")
        asked = texts(app)[0]
        asked.focus()
        await settle(pilot, lambda: asked.has_focus and all(token.trace for token in asked.tokens[1:]), "the figures")
        await pilot.press("left", "left")
        inspector, strip = app.chat.query_one(Inspector), app.chat.query_one(TokenStrip)
        await settle(pilot, lambda: inspector.selected == len(asked.tokens) - 3, "a token")
        place = inspector.selected
        await settle(pilot, lambda: (t := table_of(app)) and t.position == place, "its waterfall")
        assert inspector.border_title == "given, not drawn"
        assert f"{(place or 0) + 1} given" in shown(app) and "u not drawn" in shown(app)
        await settle(pilot, lambda: "given, not drawn · stages as they are set now" in shown(app), "the note")
        given, here = [token.id for token in strip.tokens], app.chat.inspected_id
        await pilot.press("f3", "p")
        await settle(pilot, lambda: f"the prompt · {len(given)} tokens · p goes back" in shown(app), "the prompt")
        assert [token.id for token in strip.tokens] == given and inspector.selected == place
        assert app.chat.prompt_tokens is not None and "No token yet" not in shown(app)
        await pilot.press("p")
        await settle(pilot, lambda: app.chat.inspected_id == here and app.chat.prompt_tokens is None, "the message")
        assert [token.id for token in strip.tokens] == given and inspector.selected == place
        await settle(pilot, lambda: (t := table_of(app)) and t.position == place, "its waterfall")
