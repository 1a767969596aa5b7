"""Conversations on disk: an SQLite database that several instances of the program may use at once.

A message is written when it begins and grows while it streams; each write is a transaction of its own, so a program
that is killed loses at most what came since the last one.
"""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.schema import MIGRATIONS
from tui_chat.chat.trace_codec import pack_trace, unpack_trace
from tui_chat.engine.types import FinishReason, Timings, TokenTrace, Usage
from tui_chat.errors import StorageError

BUSY_TIMEOUT_S = 5.0
"""How long a write waits for another instance of the program."""

TITLE_CHARS = 60
"""Longest title of a conversation."""


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """One line of the list of conversations."""

    id: str
    title: str
    """The first words of the user; "" where there are none."""
    created: datetime
    updated: datetime
    n_messages: int
    """In the whole tree."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that holds what was searched for."""

    conversation_id: str
    message_id: str
    role: Role
    before: str
    match: str
    after: str
    """The text around the first place, and that place between."""


class Store:
    """The database. Its methods may be called from any thread.

    Args:
        path: The file; it and its directory are made if they are not there.

    Raises:
        StorageError: It cannot be opened; says why and what to do. `Store.in_memory` can take its place.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the directory {path.parent} for conversations cannot be made ({error.strerror}): change the "
                "permissions above it, or set TUI_CHAT_HOME to a directory that can be written"
            ) from error
        self._open(str(path))

    @classmethod
    def in_memory(cls) -> Store:
        """A store that keeps nothing after the program ends."""
        store = cls.__new__(cls)
        store.path = None
        store._lock = threading.RLock()
        store._open(":memory:")
        return store

    @property
    def is_persistent(self) -> bool:
        """Whether anything is kept after the program ends."""
        return self.path is not None

    def _open(self, target: str) -> None:
        with self._guard():
            self._db = sqlite3.connect(
                target, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
            )
        try:
            with self._guard():
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("PRAGMA foreign_keys = ON")
                self._migrate()
        except StorageError:
            self._db.close()
            raise

    def _migrate(self) -> None:
        with self._write():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.path} was written by a newer tui-chat (its format is {version}, this one knows "
                    f"{len(MIGRATIONS)}): update tui-chat, or move the file away"
                )
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    self._db.execute(statement)
            if version < len(MIGRATIONS):
                self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def close(self) -> None:
        """Write everything out and let the file go."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, conversation: Conversation, *messages: Message) -> None:
        """Store messages of a conversation, new ones or later states of old ones, and where its path ends.

        Args:
            conversation: Made known to the database if it is not yet.
            messages: Parents before their children; none stores only where the path ends.
        """
        now = _text(datetime.now(UTC))
        with self._write():
            self._db.execute(
                "INSERT INTO conversation (id, created, updated, tip_id) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET updated = excluded.updated, tip_id = excluded.tip_id",
                (conversation.id, now, now, conversation.tip.id if conversation.tip else None),
            )
            for message in messages:
                self._db.execute(
                    "INSERT INTO message (id, conversation_id, parent_id, role, text, ids, settings, model, created, "
                    "finished, finish_reason, measured, prompt_ids, forked_from, n_kept, forced) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET text = excluded.text, ids = excluded.ids, "
                    "settings = excluded.settings, model = excluded.model, finished = excluded.finished, "
                    "finish_reason = excluded.finish_reason, measured = excluded.measured, "
                    "prompt_ids = excluded.prompt_ids, forced = excluded.forced",
                    _row(conversation.id, message),
                )

    def grow(self, message_id: str, text: str, ids: Sequence[int] = ()) -> None:
        """Append what has come in since the last time to a message that streams.

        Raises:
            StorageError: The message is not in the database.
        """
        with self._write():
            changed = self._db.execute(
                "UPDATE message SET text = text || ?, ids = CAST(coalesce(ids, x'') || ? AS BLOB) WHERE id = ?",
                (_clean(text), _pack_ids(ids), message_id),
            ).rowcount
            if changed != 1:
                raise StorageError(f"the message {message_id} is not in {self._name()}: was the file replaced?")

    def add_traces(self, message_id: str, traces: Iterable[TokenTrace]) -> None:
        """Store the figures behind tokens of a message; those of the same position are replaced."""
        rows = [(trace.position, pack_trace(trace), message_id) for trace in traces]
        with self._write():
            self._db.executemany(
                "INSERT OR REPLACE INTO trace (message, position, data) SELECT number, ?, ? FROM message WHERE id = ?",
                rows,
            )

    def traces(self, message_id: str) -> tuple[TokenTrace, ...]:
        """The stored figures of a message, in order; damaged ones are left out."""
        rows = self._read(
            "SELECT data FROM trace JOIN message ON message.number = trace.message WHERE message.id = ? "
            "ORDER BY position",
            message_id,
        )
        found: list[TokenTrace] = []
        for (data,) in rows:
            try:
                found.append(unpack_trace(data))
            except ValueError:
                continue
        return tuple(found)

    def conversations(self, *, limit: int = 100, offset: int = 0) -> tuple[ConversationSummary, ...]:
        """The conversations that have messages, newest first."""
        rows = self._read(
            "SELECT id, created, updated, (SELECT count(*) FROM message WHERE conversation_id = c.id) AS n, "
            "(SELECT substr(text, 1, 500) FROM message WHERE conversation_id = c.id AND role = 'user' "
            "ORDER BY number LIMIT 1) FROM conversation AS c WHERE n > 0 "
            "ORDER BY updated DESC, c.rowid DESC LIMIT ? OFFSET ?",
            limit,
            offset,
        )
        return tuple(
            ConversationSummary(key, _title(text or ""), _time(created), _time(updated), count)
            for key, created, updated, count, text in rows
        )

    def newest(self) -> ConversationSummary | None:
        """The conversation that was written last; None where there is none."""
        # One without a title is a system text to which nothing was said.
        return next((summary for summary in self.conversations() if summary.title), None)

    def load(self, conversation_id: str) -> Conversation:
        """A conversation with all its branches, its path ending where it did.

        Raises:
            StorageError: It is not in the database.
        """
        heads = self._read("SELECT tip_id FROM conversation WHERE id = ?", conversation_id)
        if not heads:
            raise StorageError(f"there is no conversation {conversation_id} in {self._name()}")
        rows = self._read(
            "SELECT id, parent_id, role, text, ids, settings, model, created, finished, finish_reason, measured, "
            "prompt_ids, forked_from, n_kept, forced FROM message WHERE conversation_id = ? ORDER BY number",
            conversation_id,
        )
        conversation = Conversation(map(_message, rows), id=conversation_id)
        tip_id: str | None = heads[0][0]
        if tip_id is None:
            conversation.rewind()
        elif tip_id in conversation:
            conversation.select(tip_id, descend=False)
        return conversation

    def search(self, query: str, *, limit: int = 50) -> tuple[SearchHit, ...]:
        """Messages that hold all words of the query, or words that begin with them; the best first."""
        words = " ".join('"{}"*'.format(word.replace('"', '""')) for word in _clean(query).split())
        if not words:
            return ()
        rows = self._read(
            "SELECT conversation_id, id, role, snippet(message_text, 0, char(1), char(2), '…', 16) FROM message_text "
            "JOIN message ON message.number = message_text.rowid WHERE message_text MATCH ? ORDER BY rank LIMIT ?",
            words,
            limit,
        )
        hits: list[SearchHit] = []
        for conversation_id, message_id, role, snippet in rows:
            before, _, rest = snippet.partition("\x01")
            match, _, after = rest.partition("\x02")
            after = after.replace("\x01", "").replace("\x02", "")
            hits.append(SearchHit(conversation_id, message_id, Role(role), before, match, after))
        return tuple(hits)

    def remove(self, conversation: Conversation, *message_ids: str) -> None:
        """Forget messages of a conversation, and the conversation itself where none is left."""
        with self._write():
            self._db.executemany("DELETE FROM message WHERE id = ?", [(key,) for key in message_ids])
            self._db.execute(
                "UPDATE conversation SET tip_id = ? WHERE id = ?",
                (conversation.tip.id if conversation.tip else None, conversation.id),
            )
            self._db.execute(
                "DELETE FROM conversation WHERE id = ?1 AND NOT EXISTS "
                "(SELECT 1 FROM message WHERE conversation_id = ?1)",
                (conversation.id,),
            )

    def delete(self, conversation_id: str) -> None:
        """Remove a conversation with all it holds."""
        with self._write():
            self._db.execute("DELETE FROM conversation WHERE id = ?", (conversation_id,))

    def _read(self, statement: str, *values: object) -> list[Any]:
        with self._lock, self._guard():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _write(self) -> Iterator[None]:
        """One transaction; what was begun in it is undone where it fails."""
        with self._lock, self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _name(self) -> str:
        return str(self.path) if self.path else "the conversations of this run"

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn what SQLite reports into words for people."""
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"{self._name()}: {_explain(error)}") from error


def _explain(error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text or "busy" in text:
        return "another program holds the database: close it, or wait and try again"
    if "full" in text:
        return "the disk is full: make room, what was written before is safe"
    if "readonly" in text or "unable to open" in text or "permission" in text:
        return "the database cannot be opened for writing: change the permissions of the file and its directory"
    if "not a database" in text or "malformed" in text:
        return "the file is not a database, or is damaged: move it away, a new one is made"
    if "fts5" in text:
        return "this Python's SQLite has no full-text search: use a Python whose SQLite has FTS5"
    if "closed" in text:
        return "the database is closed already"
    return f"the database failed ({text})"


def _clean(text: str) -> str:
    """Text that SQLite can store: lone surrogates, which UTF-8 has no bytes for, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _pack_ids(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}i", *ids)


def _unpack_ids(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4])


def _row(conversation_id: str, message: Message) -> tuple[object, ...]:
    return (
        message.id,
        conversation_id,
        message.parent_id,
        message.role.value,
        _clean(message.text),
        None if message.ids is None else _pack_ids(message.ids),
        json.dumps(_finite(message.settings), default=str, allow_nan=False),
        message.model,
        _text(message.created),
        int(message.finished),
        None if message.finish_reason is None else message.finish_reason.value,
        _pack_measures(message),
        None if message.prompt_ids is None else zlib.compress(_pack_ids(message.prompt_ids), 1),
        message.forked_from,
        message.n_kept,
        _pack_ids(message.forced) or None,
    )


def _message(row: Sequence[Any]) -> Message:
    (key, parent_id, role, text, ids, settings, model, created, finished, reason, measured, *branch) = row
    prompt, forked, n_kept, forced = branch
    measures = json.loads(measured or "{}")
    return Message(
        id=key,
        parent_id=parent_id,
        role=Role(role),
        text=text,
        ids=None if ids is None else _unpack_ids(ids),
        settings=json.loads(settings),
        model=model,
        created=_time(created),
        finished=bool(finished),
        finish_reason=None if reason is None else FinishReason(reason),
        usage=_usage(measures["usage"]) if "usage" in measures else None,
        timings=Timings(**measures["timings"]) if "timings" in measures else None,
        prompt_ids=None if prompt is None else _unpack_prompt(prompt),
        forked_from=forked,
        n_kept=n_kept,
        forced=_unpack_ids(forced or b""),
    )


def _finite(value: Any) -> Any:
    """The value with each number that JSON does not know as text, at any depth; an infinite bias is a ban."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value


def _usage(stored: dict[str, Any]) -> Usage:
    return Usage(**{**stored, "chunks": tuple((size, count) for size, count in stored.get("chunks", ()))})


def _unpack_prompt(data: bytes) -> tuple[int, ...] | None:
    try:
        return _unpack_ids(zlib.decompress(data))
    except zlib.error:  # damaged: as good as not kept
        return None


def _pack_measures(message: Message) -> str:
    found = {"usage": message.usage, "timings": message.timings}
    return json.dumps({name: asdict(value) for name, value in found.items() if value is not None})


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _title(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= TITLE_CHARS:
        return line
    return line[: TITLE_CHARS - 1].rsplit(" ", 1)[0] + "…"
