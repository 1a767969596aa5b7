"""Computes waterfalls, and what other settings would have made of an answer, on a thread beside the screen.

Only the newest question of each kind counts: what is overtaken is given up. A waterfall goes before the marks of an
answer, in the middle of them too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui_chat.config import InferenceSettings
from tui_chat.engine.control import CancelFlag
from tui_chat.engine.types import SamplingParams
from tui_chat.errors import EngineError, TuiChatError
from tui_chat.language import _
from tui_chat.ui.written import PresentSettings, Text

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.waterfall import Waterfall
    from tui_chat.engine.whatif import Outcome

log = logging.getLogger(__name__)

STREAM_SHARE = 0.05
"""Part of a core that waterfalls may take while nobody asked for them in particular: those of tokens that stream by."""

PROGRESS_S = 0.1
"""Time between two reports of marks on the way."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question: a token, or all tokens of an answer, under some settings."""

    subject: object
    """What the asker knows it by."""
    text: Text
    index: int
    """Of the token; of the last one for the marks."""
    inference: InferenceSettings | None = None
    """The settings of the sliders; None for those that ran."""
    pieces: Sequence[bytes] = ()
    """The bytes of the tokens, as far as they are known."""
    urgent: bool = True
    """Whether a person waits for it."""


@dataclass(frozen=True, slots=True, eq=False)
class WaterfallReady:
    """A waterfall, or why there is none."""

    asked: Asked
    table: Waterfall | None
    error: TuiChatError | None
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class MarksReady:
    """What would have come out, as far as it is known by now."""

    asked: Asked
    outcomes: tuple[Outcome, ...]
    done: bool
    error: TuiChatError | None = None
    same: bool = False
    """Whether the settings asked about are those that ran, for all of the tokens."""


class Wondering:
    """The thread. It is a daemon that begins with the first question.

    Args:
        lend: Lends the engine for a while.
        report: Told of what was found, on that thread.
    """

    def __init__(
        self,
        lend: Callable[[], AbstractContextManager[Engine | None]],
        report: Callable[[WaterfallReady | MarksReady], None],
    ) -> None:
        self._lend, self._report = lend, report
        self._changed = threading.Condition()
        self._table: Asked | None = None
        self._marks: Asked | None = None
        self._cancel = CancelFlag()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._settings = PresentSettings()
        self._rest_until = 0.0

    def ask(self, question: Asked) -> None:
        """Asks for a waterfall, in place of the one asked for before."""
        with self._changed:
            self._table = question
            self._wake()

    def ask_marks(self, question: Asked | None) -> None:
        """Asks for the marks of an answer, in place of those asked for before; None for none."""
        with self._changed:
            self._marks = question
            self._cancel.set()
            self._wake()

    def close(self) -> None:
        """Ends the thread; it does not wait for it."""
        with self._changed:
            self._closed, self._table, self._marks = True, None, None
            self._cancel.set()
            self._changed.notify_all()

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="tui-chat-what-if", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _next(self) -> tuple[Asked | None, Asked | None]:
        """Waits for a question; (None, None) when closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                table, marks = self._table, self._marks
                if table is not None and (table.urgent or now >= self._rest_until):
                    self._table = None
                    return table, None
                if marks is not None:
                    self._marks = None
                    self._cancel.clear()
                    return None, marks
                self._changed.wait(self._rest_until - now if table is not None else None)
            return None, None

    def _urgent(self) -> Asked | None:
        with self._changed:
            table = self._table
            if table is None or not table.urgent:
                return None
            self._table = None
            return table

    def _work(self) -> None:
        while True:
            table, marks = self._next()
            if table is None and marks is None:
                return
            with self._lend() as engine:
                if table is not None:
                    self._make_table(table, engine)
                if marks is not None:
                    self._make_marks(marks, engine)

    def _make_table(self, asked: Asked, engine: Engine | None) -> None:
        from tui_chat.engine.whatif import waterfall_at

        began = time.perf_counter()
        found: Waterfall | None = None
        problem: TuiChatError | None = None
        try:
            written = asked.text.written(engine)
            params = self._params(asked, engine)
            found = waterfall_at(written, asked.index, params, None if engine is None else engine.recent)
        except Exception as error:
            problem = _known(error)
        seconds = time.perf_counter() - began
        self._rest_until = time.monotonic() + seconds / STREAM_SHARE
        self._report(WaterfallReady(asked, found, problem, seconds))

    def _make_marks(self, asked: Asked, engine: Engine | None) -> None:
        from tui_chat.engine.whatif import what_if

        outcomes: list[Outcome] = []
        same = False
        reported = time.monotonic()
        try:
            params = self._params(asked, engine)
            same = all(ran == params for ran in asked.text.ran)
            recent = None if engine is None else engine.recent
            for outcome in what_if(asked.text.written(engine), params, recent, self._cancel):
                outcomes.append(outcome)
                if (table := self._urgent()) is not None:
                    self._make_table(table, engine)
                if time.monotonic() - reported >= PROGRESS_S:
                    reported = time.monotonic()
                    self._report(MarksReady(asked, tuple(outcomes), done=False, same=same))
        except Exception as error:
            self._report(MarksReady(asked, tuple(outcomes), done=True, error=_known(error)))
            return
        if not self._cancel.is_set():
            self._report(MarksReady(asked, tuple(outcomes), done=True, same=same))

    def _params(self, asked: Asked, engine: Engine | None) -> SamplingParams:
        ran = asked.text.ran[asked.index] if asked.text.ran else None
        if asked.inference is None and ran is not None:
            return ran
        inference = asked.inference or InferenceSettings()
        params = self._settings.params(inference, 0 if ran is None else ran.seed, engine, asked.pieces)
        # No grammar and no stage that learns from an answer is meant for a prompt.
        return params if ran is not None else replace(params, grammar="", mirostat=0, adaptive_target=-1.0)


def _known(error: Exception) -> TuiChatError:
    """The error as one meant for people: whatever a question leads to, the thread answers the next one."""
    if isinstance(error, TuiChatError):
        return error
    log.error("unexpected error on the what-if thread", exc_info=error)
    words = _("something unforeseen went wrong ({error}); the log has the details")
    return EngineError(words.format(error=f"{type(error).__name__}: {error}"))
