"""The figures of tokens that nobody drew, those of a prompt: read by the engine in its turn, shown as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.errors import CancelledError, TuiChatError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.ui.ports import Ask

TOP_N = 20
"""Candidates kept of each token."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptRead:
    """Figures of some tokens of a prompt, or why no more come."""

    reading: PromptReading
    traces: tuple[TokenTrace, ...] = ()
    error: TuiChatError | None = None


class PromptReading:
    """One prompt, and what is known of its tokens by now.

    Args:
        ids: All of its tokens.
        piece_of: Gives a token's bytes, None while they are not known.
    """

    def __init__(self, ids: Sequence[int], piece_of: Callable[[int], bytes | None]) -> None:
        self.ids = tuple(ids)
        self.tokens = [GeneratedToken(token, piece_of(token) or b"", None) for token in self.ids]
        self.done = len(self.ids) < 2
        self._cancel = CancelFlag()

    def begin(self, ask: Ask, report: Callable[[PromptRead], None]) -> None:
        """Asks the engine for the figures.

        Args:
            ask: Asks the engine; an answer under way is finished first.
            report: Told of them on the engine's thread.
        """

        def job(engine: Engine) -> None:
            for traces in engine.read(self.ids, top_n=TOP_N, cancel=self._cancel):
                report(PromptRead(self, traces))

        def ended(future: Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if not isinstance(error, CancelledError):
                report(PromptRead(self, error=error if isinstance(error, TuiChatError) else None))

        ask(job).add_done_callback(ended)

    def stop(self) -> None:
        """No more is wanted."""
        self._cancel.set()

    def take(self, news: PromptRead) -> None:
        """Takes in what was read."""
        for trace in news.traces:
            self.tokens[trace.position] = GeneratedToken(trace.id, trace.piece, trace)
        self.done = self.done or not news.traces


@dataclass(frozen=True, slots=True, eq=False)
class RowRead:
    """The engine has the whole distribution of a token in `recent` now, or why not."""

    token: GeneratedToken
    error: TuiChatError | None = None


class RowReading:
    """The whole distribution of a token that nobody drew, of the newest one that it was wanted of.

    Args:
        ask: Asks the engine; an answer under way is finished first.
        report: Told of it on the engine's thread.
    """

    def __init__(self, ask: Ask, report: Callable[[RowRead], None]) -> None:
        self._ask, self._report = ask, report
        self._token: GeneratedToken | None = None
        self._cancel = CancelFlag()

    def want(self, token: GeneratedToken, ids: Sequence[int], index: int) -> None:
        """Has it computed, unless that was the last thing it was asked for.

        Args:
            token: The one on show.
            ids: The tokens of the context up to that one.
            index: Its place among them.
        """
        if token is self._token:
            return
        self.stop()
        self._token, self._cancel = token, CancelFlag()
        cancel = self._cancel

        def job(engine: Engine) -> None:
            for _ in engine.read(ids, index, index + 1, keep=True, cancel=cancel):
                pass

        def ended(future: Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if not cancel.is_set():
                self._report(RowRead(token, error if isinstance(error, TuiChatError) else None))

        self._ask(job).add_done_callback(ended)

    def stop(self) -> None:
        """No more is wanted."""
        self._cancel.set()
        self._token = None
