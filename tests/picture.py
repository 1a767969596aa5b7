"""Take the picture in the README from the program itself: `make picture`.

The real app with the built-in model, drawn without a terminal, answers one question with a fixed seed; then an unsure
token of the answer is selected.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tui_chat.config import load_settings
from tui_chat.ui.app import make_app
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.token_strip import TokenStrip

SIZE = (124, 38)
QUESTION = "What is a token?"
SEED = 6


async def take(path: Path) -> None:
    """Write the picture as an SVG."""
    loaded = load_settings(file=None, env={}, flags={"inference.seed": SEED, "inference.temperature": 1.0})
    app = make_app(loaded, model="builtin", remember=False)
    async with app.run_test(size=SIZE) as pilot:
        await _until(lambda: app.session.model is not None)
        composer = app.chat.query_one(Composer)
        composer.post_message(Composer.Submitted(composer, QUESTION))
        await _until(lambda: app.session.answer is not None and not app.session.answering)
        await pilot.pause(0.5)
        answer = app.session.answer
        assert answer is not None
        unsure = max(range(len(answer.tokens)), key=lambda n: _entropy(answer.tokens[n]))
        app.chat.query_one(TokenStrip).focus()
        for _ in range(len(answer.tokens) - 1 - unsure):
            await pilot.press("left")
        await pilot.pause(0.3)
        drawn = app.export_screenshot()
        # The font of the reader's own terminal serves; nothing is to be fetched for a picture.
        path.write_text(re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")


def _entropy(token: object) -> float:
    trace = getattr(token, "trace", None)
    return trace.entropy if trace is not None else 0.0


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the app did not get there")
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["TUI_CHAT_HOME"] = home
        asyncio.run(take(target))
