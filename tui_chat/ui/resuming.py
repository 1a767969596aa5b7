"""Reopens the conversation that was written last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tui_chat import paths
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.errors import StorageError
from tui_chat.ui.archive import STORE_NAME


@dataclass(frozen=True, slots=True)
class Resumed:
    """A conversation to go on with."""

    conversation: Conversation | None = None
    """None where there is none."""
    tokens_of: Mapping[str, Sequence[GeneratedToken]] = field(default_factory=dict)
    """Tokens of its last answer and of the answers beside that one, with their figures, by message."""
    note: str | None = None
    """Why there is none."""


def newest_conversation() -> Resumed:
    """Gives the conversation that was written last."""
    try:
        return _read(paths.data_dir() / STORE_NAME)
    except StorageError as error:
        return Resumed(note=f"{error}. This is a new conversation.")


def _read(path: Path) -> Resumed:
    from tui_chat.chat.store import Store

    nothing = Resumed(note="No conversation is stored yet: this is a new one.")
    if not path.is_file():
        return nothing
    with Store(path) as store:
        newest = store.newest()
        if newest is None:
            return nothing
        conversation = store.load(newest.id)
        last = conversation.last(Role.ASSISTANT)
        answers = conversation.siblings(last.id) if last is not None else ()
        traces = {message.id: store.traces(message.id) for message in answers}
    return Resumed(conversation, {key: tokens_of(conversation[key], found) for key, found in traces.items()})


def tokens_of(message: Message, traces: Sequence[TokenTrace]) -> list[GeneratedToken]:
    """The tokens of an answer; where its place is not known, only those with figures."""
    if message.prompt_ids is None or message.ids is None:
        return [GeneratedToken(trace.id, trace.piece, trace) for trace in traces]
    at = {trace.position - len(message.prompt_ids): trace for trace in traces}
    tokens: list[GeneratedToken] = []
    for index, token in enumerate(message.ids):
        trace = at.get(index)
        trace = trace if trace is not None and trace.id == token else None
        tokens.append(GeneratedToken(token, trace.piece if trace else b"", trace, index in message.forced))
    return tokens
