"""The app with the real engine and the built-in model."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ui.scripted import settle, type_in
from tests.ui.test_chat_screen import shown
from tui_chat.chat.store import Store
from tui_chat.config import LoadedSettings, Settings
from tui_chat.engine.types import FinishReason, Limits
from tui_chat.models.resolve import builtin_path
from tui_chat.ui.app import TuiChatApp, make_app
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.token_strip import TokenStrip

pytestmark = pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")


def real_app(seed: int = 1, *, endless: bool = False) -> TuiChatApp:
    n_ctx = 2048 if endless else 512
    settings = Settings.model_validate({"inference": {"seed": seed, "max_length": 48}, "llm": {"n_ctx": n_ctx}})

    def limit(limits: Limits) -> Limits:
        return replace(limits, max_tokens=1_800, ignore_eos=True) if endless else limits

    return make_app(LoadedSettings(settings, {}, None), model="builtin", limit=limit)


async def test_a_conversation_with_the_built_in_model(home: Path) -> None:
    app = real_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot, lambda: app.session.model is not None and app.session.pieces, "the model")
        await type_in(pilot, "What is a token?")
        await settle(pilot, lambda: app.session.answer and not app.session.answering, "the answer")
        await settle(pilot, lambda: "tokens ·" in shown(app), "the footer")
        answer = app.session.answer
        assert answer is not None
        assert answer.error is None
        assert answer.tokens
        assert all(token.trace is not None for token in answer.tokens)
        strip = app.chat.query_one(TokenStrip)
        assert [token.id for token in strip.tokens] == [token.id for token in answer.tokens]
        first = answer.text
        # The same seed and the same messages give the same answer again.
        await pilot.press("ctrl+r")
        await settle(pilot, lambda: app.session.answer is not answer and not app.session.answering, "another answer")
        assert app.session.answer is not None
        assert app.session.answer.text == first
        assert app.session.answer.usage is not None
        assert app.session.answer.usage.reused > 0
        await settle(pilot, lambda: "‹ 2/2 ›" in shown(app), "the siblings")
        assert app.chat.query_one(Inspector).n_vocab == app.session.model.n_vocab  # type: ignore[union-attr]
        await pilot.press("ctrl+q")
    assert app.closed_cleanly
    with Store(home / "data" / "conversations.db") as store:
        (summary,) = store.conversations()
        assert summary.title == "What is a token?"
        assert summary.n_messages == 3


async def test_stop_in_the_middle_of_an_answer() -> None:
    app = real_app(endless=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: app.session.model is not None, "the model")
        await type_in(pilot, "Tell me a story.")
        await settle(pilot, lambda: app.session.answer and len(app.session.answer.tokens) > 3, "some tokens")
        await pilot.press("escape")
        await settle(pilot, lambda: not app.session.answering, "the end")
        assert app.session.answer is not None
        assert app.session.answer.reason in {FinishReason.CANCELLED, FinishReason.LENGTH}
        await pilot.press("ctrl+q")


async def test_a_message_longer_than_the_context_comes_back() -> None:
    app = real_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: app.session.model is not None, "the model")
        text = "token " * 3_000
        await type_in(pilot, text)
        await settle(pilot, lambda: "the context holds 512" in " ".join(shown(app).split()), "the problem")
        assert app.chat.query_one(Composer).text == text
        await pilot.press("ctrl+q")


async def test_quit_in_the_middle_of_an_answer_is_quick() -> None:
    app = real_app(endless=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot, lambda: app.session.model is not None, "the model")
        await type_in(pilot, "Tell me a story.")
        await settle(pilot, lambda: app.session.answer, "an answer")
        began = time.monotonic()
        await pilot.press("ctrl+q")
        await settle(pilot, lambda: not app.is_running, "the end")
        took_s = time.monotonic() - began
    # Far above the half second promised: a busy machine must not fail the test, a hang must.
    assert took_s < 20
