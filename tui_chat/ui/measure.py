"""What the screen costs: the app, drawn without a terminal, answers at full speed while keys are typed into it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from textual import events
from textual._compositor import CompositorUpdate
from textual.screen import Screen

from tui_chat.config import LoadedSettings
from tui_chat.engine.types import Limits
from tui_chat.lessons.benchmark import decode_rate, floor_rate, resident_bytes
from tui_chat.ui.app import TuiChatApp, make_app
from tui_chat.ui.session import Session
from tui_chat.ui.widgets.composer import Composer, MessageInput

SIZE = (120, 40)
"""Columns and lines of the screen: chat, inspector and sliders in full view."""

_ROUNDS = 3
_MAX_ROUNDS = 16
_SECONDS = 3.0
_KEYS = 200
"""Keys to be typed in all, so that two of them may be slower than the 99th percentile."""
_KEY_INTERVAL_S = 0.04
_PATIENCE_S = 300.0
_PROMPT = "Tell me about the tokens that a language model reads and writes."


def measure_in_app(loaded: LoadedSettings, path: Path, *, tokens: int) -> dict[str, object]:
    """Speed inside the running app beside the floor, in turns, and the echo of keys meanwhile.

    Args:
        loaded: The effective settings.
        path: The model.
        tokens: Decoded in each measurement at least; more where that would take less than a few seconds.

    Returns:
        `floor_tokens_per_s`, `headless_tokens_per_s` (inspected, with the screen at rest), `tokens_per_s` (inspected,
        on the screen), `ratio` (to the floor), `headless_ratio`, `key_echo_p50_ms`, `key_echo_p99_ms`, `keys`,
        `typing_tokens_per_s` (with a key every 40 ms; the rates before are without), `tokens` (of an answer), `size`,
        `rss_bytes`.
    """
    return asyncio.run(_measure(loaded, path, tokens))


async def _measure(loaded: LoadedSettings, path: Path, tokens: int) -> dict[str, object]:
    wanted = [tokens]

    def limit(limits: Limits) -> Limits:
        return replace(
            limits, max_tokens=min(wanted[0], limits.max_tokens), ignore_eos=True, stop=(), time_limit_s=None
        )

    roomy = loaded.settings.inference.model_copy(update={"max_length": 1 << 30})
    settings = loaded.settings.model_copy(update={"inference": roomy})
    app = make_app(replace(loaded, settings=settings), model=str(path), limit=limit, remember=False)
    floors: list[float] = []
    headless: list[float] = []
    rates: list[float] = []
    typing: list[float] = []
    echoes: list[float] = []
    async with app.run_test(size=SIZE):
        session = app.session
        await _until(lambda: session.model is not None)
        assert session.model is not None
        n_ctx = session.model.n_ctx
        short = min(tokens, n_ctx // 4)
        for number in range(_ROUNDS + 1):
            floors.append(await asyncio.wrap_future(session.ask(lambda engine: floor_rate(engine, short))))
            headless.append(
                await asyncio.wrap_future(session.ask(lambda engine: decode_rate(engine, short, inspect=True)))
            )
            wanted[0] = min(n_ctx // 2, max(tokens, int(_SECONDS * headless[-1]))) if number else 8
            await _ask(app)
            await _until(lambda: not session.answering)
            rates.append(_rate(session))
        while len(echoes) < _KEYS and len(typing) < _MAX_ROUNDS:
            await _ask(app)
            echoes += await _type(app)
            typing.append(_rate(session))
        rss = resident_bytes()
        await app.action_quit()
    # The first round warms up: fonts of the screen, the Markdown parser, the caches of the engine.
    del floors[0], headless[0], rates[0]
    return {
        "floor_tokens_per_s": statistics.median(floors),
        "headless_tokens_per_s": statistics.median(headless),
        "tokens_per_s": statistics.median(rates),
        "ratio": statistics.median(rate / floor for rate, floor in zip(rates, floors, strict=True)),
        "headless_ratio": statistics.median(rate / own for rate, own in zip(rates, headless, strict=True)),
        "key_echo_p50_ms": statistics.median(echoes) * 1e3 if echoes else None,
        "key_echo_p99_ms": sorted(echoes)[max(0, -(-len(echoes) * 99 // 100) - 1)] * 1e3 if echoes else None,
        "keys": len(echoes),
        "typing_tokens_per_s": statistics.median(typing) if typing else None,
        "tokens": wanted[0],
        "size": list(SIZE),
        "rss_bytes": rss,
    }


async def _ask(app: TuiChatApp) -> None:
    """Begin a conversation and send a message."""
    app.session.new_conversation()
    rebuilt = asyncio.Event()

    async def rebuild() -> None:
        await app.chat.rebuild()
        rebuilt.set()

    app.chat.call_next(rebuild)  # in the screen's turn: it may still be drawing the end of the answer before
    await rebuilt.wait()
    composer = app.chat.query_one(Composer)
    composer.post_message(Composer.Submitted(composer, _PROMPT))
    await _until(lambda: app.session.answering)


def _rate(session: Session) -> float:
    return (session.answer.rate or 0.0) if session.answer else 0.0


async def _type(app: TuiChatApp) -> list[float]:
    """Type until the answer is there; seconds from each key to the drawing that shows it."""
    field = app.chat.query_one(MessageInput)
    screen = _Terminal(app)
    echoes = []
    while app.session.answering:
        if len(field.text) > 40:
            field.clear()
            await asyncio.sleep(_KEY_INTERVAL_S)
        echo = screen.expect(field.text + "a")
        start = time.perf_counter()
        app.post_message(events.Key("a", "a"))
        await asyncio.wait((echo,), timeout=_PATIENCE_S)
        if app.session.answering:
            echoes.append(echo.result() - start)
        await asyncio.sleep(_KEY_INTERVAL_S)
    screen.close()
    field.clear()
    return echoes


class _Terminal:
    """Takes what the app would write to its terminal, made up as it would be, and looks for a text in it."""

    def __init__(self, app: TuiChatApp) -> None:
        self._app = app
        self._text = ""
        self._echo: asyncio.Future[float] | None = None
        self._display = app._display
        app._display = self._take  # type: ignore[method-assign]

    def expect(self, text: str) -> asyncio.Future[float]:
        """Gives the time at which the text is drawn."""
        self._text, self._echo = text, asyncio.get_running_loop().create_future()
        return self._echo

    def close(self) -> None:
        """Lets the app draw as before."""
        self._app._display = self._display  # type: ignore[method-assign]

    def _take(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        self._display(screen, renderable)
        if isinstance(renderable, CompositorUpdate):
            written = renderable.render_segments(self._app.console)
            if self._echo is not None and not self._echo.done() and self._text in written:
                self._echo.set_result(time.perf_counter())


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the app did not get ready to be measured")
        await asyncio.sleep(0.01)
