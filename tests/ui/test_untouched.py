"""Demonstrations beside a conversation, in the app with the real engine: they see the prompt that the chat sends, and
nothing they do changes the conversation, its cache or its settings."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.scripted import ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tests.ui.test_with_engine import real_app
from tui_chat.chat.conversation import Conversation, Role
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.groups import LESSONS
from tui_chat.config import LoadedSettings, Settings
from tui_chat.engine.engine import Engine
from tui_chat.ui import app as application
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.report_card import ReportCard

ASKING = ("/temp", "/top-k", "/top-p", "/min-p", "/repeat-penalty", "/seed", "/tokens", "/set", "/set stop", "/set ban",
          "/set order", "/set typical_p", "/set min_confidence", "/stop", "/system", "/think", "/prefill", "/theme",
          "/order", "/grammar", "/ban", "/bias", "/preset",
          "/model", "/help", "/help temp")  # fmt: skip
"""The settings, asked what they do."""

MODES = ("/step", "/break", "/educational")
"""How answers are written and told of from now on: nothing is demonstrated at once."""

COURSE = tuple(f"/learn {number}" for number in range(1, 11))

DEMONSTRATIONS = tuple(
    line
    for command in default_registry()
    if command.group == LESSONS and command.name != "learn"
    for line, _does in command.examples
)


async def answered(pilot: Pilot[Any], text: str) -> None:
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    before = app.session.answer
    await type_in(pilot, text)
    await settle(pilot, lambda: app.session.answer is not before and not app.session.answering, "the answer")


def reports(app: TuiChatApp) -> list[ReportCard]:
    return [card for card in app.chat.query(ReportCard) if card.report is not None]


async def demonstrated(pilot: Pilot[Any], line: str) -> None:
    """Carries a line out, to the end of its demonstration."""
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    app._commands.execute(line)
    await pilot.pause()
    await settle(
        pilot,
        lambda: not app.session.lessons and len(reports(app)) == len(app.chat.query(ReportCard)),
        f"{line} to end",
    )


async def cached(app: TuiChatApp) -> tuple[int, ...]:
    def ids(engine: Engine) -> tuple[int, ...]:
        return tuple(engine.context.ids)

    return await asyncio.wrap_future(app.session.ask(ids))


async def test_nothing_a_demonstration_does_changes_the_conversation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))  # one of the examples saves a trace there
    home.mkdir()
    app = real_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot, lambda: app.session.model is not None and app.session.pieces, "the model")
        await type_in(pilot, "/system Be brief.")
        await answered(pilot, "What is a token?")
        session = app.session
        answer = session.answer
        assert answer is not None and answer.error is None
        tokens = list(answer.tokens)

        async def state() -> dict[str, object]:
            return {
                "messages": session.conversation.path,
                "all of them": len(list(session.conversation)),
                "cache": await cached(app),
                "settings": session.inference,
                "prefill": session.prefill,
                "tokens": list(answer.tokens),
                "seed": answer.seed,
            }

        before = await state()
        assert before["cache"] and len(before["messages"]) == 3  # type: ignore[arg-type]
        for line in (*DEMONSTRATIONS, *ASKING, *COURSE):
            n = len(reports(app))
            await demonstrated(pilot, line)
            assert await state() == before, line
            assert len(reports(app)) > n or line in ASKING or line.startswith(MODES), line
        # The cache is not only told to be the same: the same answer comes out of it.
        await pilot.press("ctrl+r")
        await settle(pilot, lambda: session.answer is not answer and not session.answering, "another answer")
        again = session.answer
        assert again is not None and [token.id for token in again.tokens] == [token.id for token in tokens]
        assert again.usage is not None and again.usage.reused > 0
        await pilot.press("ctrl+q")


async def test_the_shown_prompt_is_the_one_that_was_sent_where_the_context_is_full() -> None:
    conversation = Conversation()
    for turn in range(9):
        conversation.append(Role.USER, f"What is number {turn}? " + "a piece of text " * 6)
        conversation.append(Role.ASSISTANT, f"It is {turn}. " + "one token after the other " * 4)
    settings = Settings.model_validate({"inference": {"seed": 1, "max_length": 12}, "llm": {"n_ctx": 512}})
    app = application.make_app(
        LoadedSettings(settings, {}, None),
        model="builtin",
        conversation=conversation,
        limit=lambda limits: replace(limits, max_tokens=2),
        remember=False,
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot, lambda: app.session.model is not None and app.session.pieces, "the model")
        for text in ("Hello", "What is a token?", "And a piece of text?"):
            await answered(pilot, text)
            answer = app.session.answer
            assert answer is not None and answer.error is None
            sent = list(answer.prompt_ids[: answer.n_prompt])
            await demonstrated(pilot, "/template")
            document = reports(app)[-1].report.document  # type: ignore[union-attr]
            assert document["ids"] == sent and document["dropped"], text
            await demonstrated(pilot, "/logits")
            assert reports(app)[-1].report.document["prompt_ids"] == sent, text  # type: ignore[union-attr]
        await pilot.press("ctrl+q")


async def test_a_text_that_is_no_token_cannot_be_banned() -> None:
    app = make_app(ScriptedWorker())
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        await type_in(pilot, '/set ban ["/no such token/"]')
        await settle(pilot, lambda: "no such token" in shown(app), "the problem")
        assert not app.session.inference.ban
        app._commands.execute('/set ban [7, " token"]')
        assert app.session.inference.ban == (7, " token")
        scene = app._commands.scene()
        assert (scene.biased, scene.params.logit_bias) == (app.session.inference, ())


async def test_a_token_can_be_banned_before_all_tokens_are_known() -> None:
    app = make_app(ScriptedWorker())
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        app.session.pieces.clear()
        app._commands.execute('/set ban [" token"]')
        assert app._commands.scene().biased == app.session.inference
