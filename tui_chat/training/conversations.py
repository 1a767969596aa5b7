"""Conversations in JSON lines: `{"messages": [...]}` or `{"prompt": ..., "completion": ...}` on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tui_chat.errors import UsageError
from tui_chat.training.dialogue import Dialogue, Exchange
from tui_chat.training.tokenizer import CONTROL_TOKENS

_FORMS = '{"messages": [{"role": ..., "content": ...}, ...]} or {"prompt": ..., "completion": ...}'

_ROLES = ("system", "user", "assistant")


def read_conversations(text: str, name: str) -> Iterator[Dialogue]:
    """The dialogues of a JSONL file; empty lines are passed over.

    Args:
        text: Of the file.
        name: Of the file, for messages.

    Raises:
        UsageError: A line is no conversation; names file, line and what is wrong.
    """
    # Only "\n" ends a line: JSON strings may hold other characters that Python takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _dialogue(_parsed(line))
            except _LineError as error:
                raise UsageError(f"{name}, line {number}: {error}") from error


class _LineError(Exception):
    """What is wrong with a line."""


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise _LineError(f"not JSON at column {error.colno} ({error.msg}); each line holds one {_FORMS}") from error
    except (ValueError, RecursionError) as error:
        raise _LineError(f"a number too long or lists nested too deeply; each line holds one {_FORMS}") from error


def _dialogue(value: Any) -> Dialogue:
    if not isinstance(value, dict):
        raise _LineError(f"{_kind(value)} where an object is needed: {_FORMS}")
    if "messages" in value:
        return _from_messages(value["messages"])
    if "prompt" in value and "completion" in value:
        exchange = Exchange("", _text(value["prompt"], '"prompt"'), _text(value["completion"], '"completion"'))
        return Dialogue((exchange,))
    there = ", ".join(json.dumps(key) for key in list(value)[:5]) or "nothing"
    raise _LineError(f'neither "messages" nor "prompt" and "completion" is there, but {there}: write {_FORMS}')


def _from_messages(messages: Any) -> Dialogue:
    if not isinstance(messages, list):
        raise _LineError(f'"messages" is {_kind(messages)} where a list is needed')
    read = [_message(message, f"message {number}") for number, message in enumerate(messages, start=1)]
    system = read.pop(0)[1] if read and read[0][0] == "system" else None
    shift = 1 if system is None else 2
    if not read:
        raise _LineError('"messages" has no question and no answer: give at least a user and an assistant message')
    for index, (role, _) in enumerate(read):
        expected = ("user", "assistant")[index % 2]
        if role != expected:
            raise _LineError(
                f'message {index + shift} is of "{role}" where "{expected}" is due: an optional system message comes '
                "first, then user and assistant take turns"
            )
    if len(read) % 2:
        raise _LineError("the last message is the user's: it needs an answer of the assistant to learn from")
    turns = [Exchange("", read[i][1], read[i + 1][1]) for i in range(0, len(read), 2)]
    return Dialogue(tuple(turns), system)


def _message(value: Any, where: str) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise _LineError(f'{where} is {_kind(value)} where an object with "role" and "content" is needed')
    for key in ("role", "content"):
        if key not in value:
            raise _LineError(f'{where} has no "{key}"')
    if value["role"] not in _ROLES:
        role = json.dumps(value["role"])
        raise _LineError(f"{where} has the role {role}: use one of {', '.join(_ROLES)}")
    return value["role"], _text(value["content"], f'"content" of {where}')


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _LineError(f"{where} is {_kind(value)} where text is needed")
    if not value.strip():
        raise _LineError(f"{where} is empty")
    for token in CONTROL_TOKENS:
        if token in value:
            raise _LineError(f"{where} holds the control token {token}, which only the chat template may write")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _LineError(f"{where} holds half of a character (\\u{ord(value[error.start]):04x})") from error
    return value.replace("\r\n", "\n")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"
