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

STORE_NAME = "conversations.db"
"""The file of all conversations, in the data directory."""

CLOSE_TIMEOUT_S = 0.1
"""How long quitting waits for what is still to be written."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What the store writes of a conversation itself, as it was when a message was saved."""

    id: str
    tip: Message | None


@dataclass(frozen=True, slots=True)
class _Save:
    head: _Head
    messages: tuple[Message, ...]
    traced: str | None = None
    """The message that the traces belong to."""
    traces: tuple[TokenTrace, ...] = ()


@dataclass(frozen=True, slots=True)
class _Remove:
    head: _Head
    message_ids: tuple[str, ...]


class NoArchive:
    """Keeps nothing."""

    def save(
        self, conversation: Conversation, message: Message | None = None, tokens: Sequence[GeneratedToken] = ()
    ) -> None:
        """Does nothing."""

    def remove(self, conversation: Conversation, message_ids: Sequence[str]) -> None:
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
        self._queue: queue.SimpleQueue[_Save | _Remove | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._handed: set[str] = set()
        self._traced: dict[str, list[GeneratedToken]] = {}

    def save(
        self, conversation: Conversation, message: Message | None = None, tokens: Sequence[GeneratedToken] = ()
    ) -> None:
        """Hands over where the path ends, and what of it was never handed over, whoever put it there.

        Args:
            conversation: Only its current path is looked at.
            message: One of it that is new or has grown.
            tokens: All tokens of that message; those that are new since the last time are stored.
        """
        messages = tuple(item for item in conversation.path if item is message or item.id not in self._handed)
        if message is not None and message not in messages:
            messages += (message,)
        traces: tuple[TokenTrace, ...] = ()
        if message is not None and tokens:
            stored = self._traced.setdefault(message.id, [])
            same = min(len(stored), len(tokens))
            while same and stored[same - 1] is not tokens[same - 1]:  # some were withdrawn
                same -= 1
            traces = tuple(token.trace for token in tokens[same:] if token.trace is not None)
            stored[same:] = tokens[same:]
        self._handed.update(item.id for item in messages)
        self._put(_Save(_head(conversation), messages, message.id if message is not None else None, traces))

    def remove(self, conversation: Conversation, message_ids: Sequence[str]) -> None:
        """Forgets messages that were taken back, and a conversation of which nothing is left."""
        self._handed.difference_update(message_ids)
        self._put(_Remove(_head(conversation), tuple(message_ids)))

    def _put(self, job: _Save | _Remove) -> None:
        self._queue.put(job)
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
                _carry_out(job, store)
        except Exception as error:  # the edge of a thread: whatever goes wrong with the disk becomes a notice
            known = error if isinstance(error, StorageError) else StorageError(f"storing failed unforeseen: {error!r}")
            self._report(StoringFailed(known))
            # Nothing is kept from now on; what still comes is taken and forgotten.
            while self._queue.get() is not None:
                pass
        finally:
            if store is not None:
                store.close()


def _head(conversation: Conversation) -> _Head:
    return _Head(conversation.id, conversation.tip)


def _carry_out(job: _Save | _Remove, store: Store) -> None:
    head = cast("Conversation", job.head)
    if isinstance(job, _Remove):
        store.remove(head, *job.message_ids)
        return
    store.write(head, *job.messages)
    if job.traced is not None and job.traces:
        store.add_traces(job.traced, job.traces)
