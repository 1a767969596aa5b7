"""Demonstrations in the app: run on the engine thread, shown as cards, stopped by Esc, copied and saved."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from tui_chat import paths
from tui_chat.errors import CancelledError, StorageError, TuiChatError
from tui_chat.language import _, said
from tui_chat.lessons.report import Report
from tui_chat.lessons.watch import Watch
from tui_chat.ui.beside import beside
from tui_chat.ui.widgets.turns import NoticeKind

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from tui_chat.engine.engine import Engine
    from tui_chat.ui.app import TuiChatApp
    from tui_chat.ui.widgets.report_card import ReportCard

Lesson = Callable[["Engine", Watch], Report]

SHOWN_INTERVAL_S = 1 / 15
"""Time between two states of a report under way."""


class Reporting:
    """Runs demonstrations one after another, behind an answer under way.

    Args:
        app: Shows them.
        on_shown: Told the title and the report of each that has come to its end.
    """

    def __init__(self, app: TuiChatApp, on_shown: Callable[[str, Report], None]) -> None:
        self._app = app
        self._on_shown = on_shown

    def start(self, title: str, lesson: Lesson, card: Callable[[], ReportCard] | None = None) -> None:
        """Puts a card into the transcript and has the report made; returns at once.

        Args:
            title: Of the card.
            lesson: Makes the report, on the engine thread.
            card: Makes the card, if it is a special one.
        """
        self._app.chat.call_next(self._start, title, lesson, card)

    def make(self, title: str, make: Callable[[], Report]) -> None:
        """Has a report made beside the screen and puts it into a card in the transcript; returns at once."""
        self._app.chat.call_next(self._make, title, make)

    def put(self, title: str, report: Report, *, follow: bool = True) -> None:
        """Puts a card with a finished report into the transcript; returns at once.

        Args:
            title: Of the card.
            report: What it shows.
            follow: Scroll to it.
        """
        self._app.chat.call_next(self._put, title, report, follow)

    async def _put(self, title: str, report: Report, follow: bool) -> None:
        from tui_chat.ui.widgets.report_card import ReportCard

        card = ReportCard(title)
        await self._app.chat.show_card(card, follow=follow)
        card.show(report, done=True)
        if follow:
            self._app.chat.follow_card(card)
        self._on_shown(title, report)

    async def _make(self, title: str, make: Callable[[], Report]) -> None:
        try:
            report = await beside(make, name="tui-chat-report")
        except TuiChatError as error:
            await self._app.chat.show_notice(said(error), NoticeKind.PROBLEM)
        else:
            await self._put(title, report, follow=True)

    async def _start(self, title: str, lesson: Lesson, make_card: Callable[[], ReportCard] | None) -> None:
        from tui_chat.ui.widgets.report_card import ReportCard

        card = ReportCard(title) if make_card is None else make_card()
        await self._app.chat.show_card(card)
        session = self._app.session
        if session.answering:
            card.say(_("waits for the answer to end …"))
        watch = self._watch(card)
        card.cancel = watch.cancel
        session.lessons.add(watch.cancel)
        loop = asyncio.get_running_loop()

        def ended(future: Future[Report]) -> None:
            with suppress(RuntimeError):  # the program ended meanwhile
                # Not by way of the card, which may be closed by then.
                loop.call_soon_threadsafe(self._app.chat.call_next, self._ended, title, card, watch, future)

        session.ask(lambda engine: lesson(engine, watch)).add_done_callback(ended)

    def _watch(self, card: ReportCard) -> Watch:
        """Brings what the engine thread tells to the card, no oftener than it can be seen."""
        loop = asyncio.get_running_loop()
        shown_at = 0.0

        def post(method: Callable[..., None], value: object) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if now - shown_at < SHOWN_INTERVAL_S:
                return
            shown_at = now
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(card.call_next, partial(_if_under_way, card, method, value))

        return Watch(lambda report: post(partial(card.show, done=False), report), lambda text: post(card.say, text))

    def _ended(self, title: str, card: ReportCard, watch: Watch, future: Future[Report]) -> None:
        self._app.session.lessons.discard(watch.cancel)
        self._app.chat.refresh_status()
        if not card.is_open:
            return
        card.cancel = None
        error = None if future.cancelled() else future.exception()
        if isinstance(error, CancelledError) or future.cancelled():
            card.fail(_("stopped"))
        elif error is not None:
            card.fail(said(error) if isinstance(error, TuiChatError) else f"{type(error).__name__}: {error}")
        else:
            card.show(future.result(), done=True)
        self._app.chat.follow_card(card)
        if error is None and not future.cancelled():
            self._on_shown(title, future.result())

    async def take(self, card: ReportCard, what: str) -> None:
        """Copies or saves a report."""
        report = card.report
        if report is None:
            self._app.chat.say(_("there is no report yet"))
            return
        if what == "copy":
            self._app.copy_to_clipboard(card.text)
            self._app.chat.say(_("copied"))
            return
        text = card.text
        try:
            path = await beside(lambda: _save(report, text), name="tui-chat-report")
        except TuiChatError as error:
            self._app.chat.say(str(error))
        else:
            card.note(_("saved in {path}, and as JSON beside it").format(path=path))
            self._app.chat.say(_("saved: {path}").format(path=path.name))


def _if_under_way(card: ReportCard, method: Callable[[object], None], value: object) -> None:
    # Progress comes by the queue of the card, the end by that of the screen: they may change places.
    if card.is_open and card.cancel is not None:
        method(value)


def _save(report: Report, text: str) -> Path:
    """Writes the text and, beside it, the document; gives the path of the text.

    Raises:
        StorageError: It cannot be written.
    """
    from tui_chat.lessons.documents import dump

    folder = paths.ensure_dir(paths.data_dir() / "reports")
    name = re.sub(r"[^\w-]+", "-", report.title).strip("-") or "report"
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}.txt"
    try:
        path.write_text(text + "\n", encoding="utf-8")
        path.with_suffix(".json").write_text(dump(report.document) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the report cannot be written to {path} ({error.strerror})") from error
    return path
