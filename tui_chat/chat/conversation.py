"""A conversation as a tree of messages, and the current path through it.

Nothing that was said is destroyed: editing and regenerating add a sibling beside the message, and the path moves over
to it. Only what came to nothing is taken back, by `remove`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from tui_chat.engine.types import FinishReason, Timings, Usage


class Role(StrEnum):
    """Who speaks, in the words that chat templates use."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


def new_id() -> str:
    """A fresh identity for a message or a conversation, unique across processes."""
    return uuid.uuid4().hex


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. What changes while it streams is a new value with the same `id`."""

    role: Role
    text: str
    id: str = field(default_factory=new_id)
    parent_id: str | None = None
    """The message before it; None at the beginning of the conversation."""
    ids: tuple[int, ...] | None = None
    """The tokens the model generated, the truth that `text` is a view of; None for text that was typed."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The sampling settings the answer was generated with."""
    model: str | None = None
    """Name of the model that wrote it."""
    created: datetime = field(default_factory=_now)
    finished: bool = True
    """False while it streams, and for ever if the program was ended in the middle."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """Token counts of the answer, once it has ended; None where they are not known."""
    timings: Timings | None = None
    """How long the answer took, once it has ended; None where that is not known."""
    prompt_ids: tuple[int, ...] | None = None
    """The tokens that stood before the answer; None where they are not known."""
    forked_from: str | None = None
    """The message whose first tokens it has, if it branched off in the middle of one."""
    n_kept: int = 0
    """How many those are."""
    forced: tuple[int, ...] = ()
    """Which of `ids`, counted from 0, a person put there."""


class Conversation:
    """A tree of messages with one current path, from the first message to the tip.

    Args:
        messages: Parents before their children.
        tip_id: The last message of the current path; None takes the newest.
        id: Identity of the conversation.

    Raises:
        KeyError: A parent or the tip is not among the messages.
    """

    def __init__(self, messages: Iterable[Message] = (), *, tip_id: str | None = None, id: str | None = None) -> None:
        self.id = id or new_id()
        self._messages: dict[str, Message] = {}
        self._children: dict[str | None, list[str]] = {None: []}
        self._chosen: dict[str | None, str] = {}
        self._tip_id: str | None = None
        for message in messages:
            self.add(message)
        if tip_id is not None:
            self.select(tip_id, descend=False)

    def __len__(self) -> int:
        """Number of messages in the whole tree."""
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        """All messages, parents before their children."""
        return iter(self._messages.values())

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._messages

    def __getitem__(self, message_id: str) -> Message:
        return self._messages[message_id]

    @property
    def tip(self) -> Message | None:
        """The last message of the current path."""
        return None if self._tip_id is None else self._messages[self._tip_id]

    @property
    def path(self) -> tuple[Message, ...]:
        """The current path, first message first."""
        return self.path_to(self._tip_id)

    @property
    def system(self) -> str | None:
        """The system text that the current path begins with."""
        path = self.path
        return path[0].text if path and path[0].role is Role.SYSTEM else None

    def path_to(self, message_id: str | None) -> tuple[Message, ...]:
        """All messages from the first down to `message_id`, which is included."""
        path: list[Message] = []
        while message_id is not None:
            message = self._messages[message_id]
            path.append(message)
            message_id = message.parent_id
        return tuple(reversed(path))

    def siblings(self, message_id: str) -> tuple[Message, ...]:
        """The message and all its alternatives, oldest first."""
        return tuple(self._messages[sibling] for sibling in self._children[self._messages[message_id].parent_id])

    def children(self, message_id: str | None) -> tuple[Message, ...]:
        """The messages that follow `message_id`, oldest first; those that begin the conversation for None."""
        return tuple(self._messages[child] for child in self._children[message_id])

    def add(self, message: Message) -> Message:
        """Put a message into the tree and move the path to it.

        Raises:
            KeyError: Its parent is not in the tree.
            ValueError: A message with its id is.
        """
        if message.id in self._messages:
            raise ValueError(f"the message {message.id} is in the conversation already")
        self._children[message.parent_id].append(message.id)
        self._children[message.id] = []
        self._messages[message.id] = message
        self._move_to(message.id)
        return message

    def append(self, role: Role, text: str) -> Message:
        """Add a message at the tip."""
        return self.add(Message(role=role, text=text, parent_id=self._tip_id))

    def begin_answer(self, *, model: str | None = None, settings: Mapping[str, object] | None = None) -> Message:
        """Add the empty answer that is about to stream, at the tip."""
        return self.add(self._answer(self._tip_id, model, settings))

    def update(self, message: Message) -> Message:
        """Replace a message by a later state of itself.

        Raises:
            ValueError: Its place in the tree or its role would change.
        """
        old = self._messages[message.id]
        if (old.parent_id, old.role) != (message.parent_id, message.role):
            raise ValueError("a message keeps its place and its role")
        self._messages[message.id] = message
        return message

    def select(self, message_id: str, *, descend: bool = True) -> Message:
        """Lead the path through a message and on along the branch last taken from there; gives the new tip.

        Args:
            message_id: Where the path shall lead.
            descend: False makes the message itself the tip.
        """
        self._messages[message_id]
        tip = message_id
        while descend and self._children[tip]:
            tip = self._chosen.get(tip, self._children[tip][-1])
        self._move_to(tip)
        return self._messages[tip]

    def rewind(self) -> None:
        """Lead the path back to before the first message."""
        self._tip_id = None

    def remove(self, message_id: str) -> None:
        """Take a message back that nothing follows; where it was the tip, the path ends before it.

        Raises:
            ValueError: Something follows it.
        """
        message = self._messages[message_id]
        if self._children[message_id]:
            raise ValueError(f"the message {message_id} is followed by others")
        if self._tip_id == message_id:
            self._tip_id = message.parent_id
        if self._chosen.get(message.parent_id) == message_id:
            del self._chosen[message.parent_id]
        self._children[message.parent_id].remove(message_id)
        del self._children[message_id], self._messages[message_id]

    def step(self, message_id: str, offset: int) -> Message:
        """Switch to the sibling `offset` places after a message, stopping at the ends; gives that sibling."""
        family = self.siblings(message_id)
        place = next(index for index, message in enumerate(family) if message.id == message_id)
        sibling = family[min(max(place + offset, 0), len(family) - 1)]
        self.select(sibling.id)
        return sibling

    def edit(self, message_id: str, text: str) -> Message:
        """Add a sibling with another text and move the path to it; what followed stays with the old one."""
        old = self._messages[message_id]
        return self.add(Message(role=old.role, text=text, parent_id=old.parent_id))

    def regenerate(
        self, message_id: str, *, model: str | None = None, settings: Mapping[str, object] | None = None
    ) -> Message:
        """Add an empty answer beside an answer, or after a user's message, and move the path to it.

        Raises:
            ValueError: It is a system message.
        """
        old = self._messages[message_id]
        if old.role is Role.SYSTEM:
            raise ValueError("a system message has no answer")
        parent_id = old.id if old.role is Role.USER else old.parent_id
        return self.add(self._answer(parent_id, model, settings))

    def fork(
        self, message_id: str, index: int, *, model: str | None = None, settings: Mapping[str, object] | None = None
    ) -> Message:
        """Add an answer that has the first `index` tokens of another one, beside it, and move the path to it.

        Raises:
            ValueError: It is no answer, or has not that many tokens.
        """
        old = self._messages[message_id]
        if old.role is not Role.ASSISTANT or old.ids is None or not 0 <= index <= len(old.ids):
            raise ValueError(f"the message {message_id} has no token {index} to go on from")
        answer = self._answer(old.parent_id, model, settings)
        forced = tuple(place for place in old.forced if place < index)
        return self.add(replace(answer, ids=old.ids[:index], forked_from=old.id, n_kept=index, forced=forced))

    def set_system(self, text: str | None) -> tuple[Message, ...]:
        """Give the current path another system text, or none.

        The messages of the path are copied behind the new beginning; the old branch stays as it is. Gives the messages
        that were added.
        """
        text = text or None
        if text == self.system:
            return ()
        rest = [message for message in self.path if message.role is not Role.SYSTEM]
        added: list[Message] = []
        parent_id: str | None = None
        if text is not None:
            added.append(self.add(Message(role=Role.SYSTEM, text=text)))
            parent_id = added[0].id
        for message in rest:
            added.append(self.add(replace(message, id=new_id(), parent_id=parent_id, prompt_ids=None)))
            parent_id = added[-1].id
        if not added:
            self.rewind()
        return tuple(added)

    def last(self, role: Role) -> Message | None:
        """The newest message of a role on the current path."""
        return next((message for message in reversed(self.path) if message.role is role), None)

    def _answer(self, parent_id: str | None, model: str | None, settings: Mapping[str, object] | None) -> Message:
        return Message(
            role=Role.ASSISTANT,
            text="",
            parent_id=parent_id,
            ids=(),
            model=model,
            settings=dict(settings or {}),
            finished=False,
        )

    def _move_to(self, message_id: str) -> None:
        self._tip_id = message_id
        child: str | None = message_id
        while child is not None:
            parent = self._messages[child].parent_id
            self._chosen[parent] = child
            child = parent
