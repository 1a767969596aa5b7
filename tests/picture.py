"""Take the pictures in the README from the program itself: `make picture`.

The real app with the built-in model, drawn without a terminal, answers with a fixed seed. One picture shows a chat with
an unsure token selected, the other an answer as tokens, and the candidates of one of them with what the chain cut.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from textual.pilot import Pilot

from tui_chat.config import load_settings
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.ui.app import TuiChatApp, make_app
from tui_chat.ui.progress import Answer
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.waterfall_table import WaterfallTable


async def take_chat(path: Path) -> None:
    """Write the picture of the chat, with the most open token selected, as an SVG."""
    settings = {"inference.seed": 6, "inference.temperature": 1.0}
    async with _answered(["What is a token?"], settings, (124, 38)) as (app, pilot):
        answer = app.session.answer
        assert answer is not None
        unsure = max(range(len(answer.tokens)), key=lambda n: _trace(answer.tokens[n]).entropy)
        app.chat.query_one(TokenStrip).focus()
        for _ in range(len(answer.tokens) - 1 - unsure):
            await pilot.press("left")
        await pilot.pause(0.3)
        _write(app, path)


async def take_glass_box(path: Path) -> None:
    """Write the picture of the token view and of a waterfall, with the cursor on a candidate that min-p cut."""
    settings = {"inference.seed": 6, "inference.temperature": 0.9, "inference.min_p": 0.1}
    async with _answered(["What is a token?", "Tell me a story."], settings, (124, 42)) as (app, pilot):
        answer = app.session.answer
        assert answer is not None
        table, inspector = app.chat.query_one(WaterfallTable), app.chat.query_one(Inspector)
        place = next(
            n for n, token in enumerate(answer.tokens) if len(_trace(token).final) in (3, 4) and _trace(token).rank > 2
        )
        await pilot.press("ctrl+o", "home", *["right"] * place)
        await _until(lambda: table.table is not None and inspector.current == place)
        await pilot.press("enter")
        await _until(lambda: table.has_focus and table.table is not None)
        while table.candidate in dict(_trace(answer.tokens[place]).final):
            await pilot.press("down")
        await pilot.pause(0.3)
        _write(app, path)


@asynccontextmanager
async def _answered(
    questions: Sequence[str], settings: Mapping[str, object], size: tuple[int, int]
) -> AsyncIterator[tuple[TuiChatApp, Pilot[int]]]:
    """The app when it has answered."""
    loaded = load_settings(file=None, env={}, flags=settings)
    app = make_app(loaded, model="builtin", remember=False)
    async with app.run_test(size=size) as pilot:
        await _until(lambda: app.session.model is not None)
        composer = app.chat.query_one(Composer)
        for question in questions:
            before = app.session.answer
            composer.post_message(Composer.Submitted(composer, question))
            await _until(partial(_has_answered, app, before))
        await pilot.pause(0.5)
        yield app, pilot


def _has_answered(app: TuiChatApp, before: Answer | None) -> bool:
    return app.session.answer is not before and not app.session.answering


def _write(app: TuiChatApp, path: Path) -> None:
    # The font of the reader's own terminal serves; nothing is to be fetched for a picture.
    path.write_text(re.sub(r"\s*@font-face \{.*?\}", "", app.export_screenshot(), flags=re.DOTALL), encoding="utf-8")


def _trace(token: GeneratedToken) -> TokenTrace:
    assert token.trace is not None
    return token.trace


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the app did not get there")
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["TUI_CHAT_HOME"] = home
        asyncio.run(take_chat(folder / "screenshot.svg"))
        asyncio.run(take_glass_box(folder / "glass-box.svg"))
