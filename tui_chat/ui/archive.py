"""Keeps conversations on a thread of its own, so that no key waits for the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tui_chat.chat.conversation import Conversation, Message
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.errors import StorageError
from tui_chat.ui.news import News, StoringFailed

if TYPE_CHECKING:
    from tui_chat.chat.store import Store

CLOSE_TIMEOUT_S = 0.15
"""How long quitting waits for what is still to be written."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What the store writes of a conversation itself, as it was when a message was saved."""

    id: str
    tip: Message | None


@dataclass(frozen=True, slots=True)
class _Save:
    head: _Head
    message: Message
    traces: tuple[TokenTrace, ...]


class NoArchive:
    """Keeps nothing."""

    def save(self, conversation: Conversation, message: Message, tokens: Sequence[GeneratedToken]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class StoreArchive:
    """Writes messages and the figures of their tokens into the store, in the order they are given.

    Args:
        path: The database; opened with the first message.
        report: Told, once, when nothing can be kept.
    """

    def __init__(self, path: Path, report: Callable[[News], None]) -> None:
        self._path = path
        self._report = report
        self._queue: queue.SimpleQueue[_Save | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._traced: dict[str, int] = {}

    def save(self, conversation: Conversation, message: Message, tokens: Sequence[GeneratedToken]) -> None:
        """Hands over a message, new or grown, and the tokens of it that are new since the last time."""
        known = self._traced.get(message.id, 0)
        traces = tuple(token.trace for token in tokens[known:] if token.trace is not None)
        if tokens:
            self._traced[message.id] = len(tokens)
        self._queue.put(_Save(_Head(conversation.id, conversation.tip), message, traces))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tui-chat-archive", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Lets the thread finish what is waiting, for a moment at most."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        from tui_chat.chat.store import Store

        store: Store | None = None
        try:
            store = Store(self._path)
            while (job := self._queue.get()) is not None:
                store.write(cast("Conversation", job.head), job.message)
                if job.traces:
                    store.add_traces(job.message.id, job.traces)
        except StorageError as error:
            self._report(StoringFailed(error))
            # Nothing is kept from now on; what still comes is taken and forgotten.
            while self._queue.get() is not None:
                pass
        finally:
            if store is not None:
                store.close()
