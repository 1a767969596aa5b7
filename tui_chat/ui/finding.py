"""Looks for tokens in a message: those that hold a text, and those that were hardly expected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from tui_chat.engine.types import GeneratedToken
from tui_chat.ui.tints import SURPRISING_NATS


def find(tokens: Sequence[GeneratedToken], text: str) -> list[range]:
    """The tokens of each place that holds a text, in order; a place may begin and end within a token.

    Large and small letters of ASCII are the same. `#1234` finds the token with that id instead.
    """
    if text[:1] == "#" and text[1:].isdecimal():
        return [range(index, index + 1) for index, token in enumerate(tokens) if token.id == int(text[1:])]
    wanted = text.encode("utf-8", "replace").lower()
    if not wanted:
        return []
    ends = list(accumulate(len(token.piece) for token in tokens))
    whole = b"".join(token.piece for token in tokens).lower()
    found = []
    index, start = 0, whole.find(wanted)
    while start >= 0:
        while ends[index] <= start:
            index += 1
        last = index
        while ends[last] < start + len(wanted):
            last += 1
        found.append(range(index, last + 1))
        start = whole.find(wanted, start + len(wanted))
    return found


def next_surprising(tokens: Sequence[GeneratedToken], current: int, step: int) -> int | None:
    """The next token on (1) or back (-1) that had a chance of one in ten or less; None where there is none.

    Args:
        tokens: Of a message.
        current: Where to begin, itself not looked at; -1 or the number of tokens looks at all.
        step: In which direction.
    """
    index = current + step
    while 0 <= index < len(tokens):
        trace = tokens[index].trace
        if trace is not None and trace.surprisal >= SURPRISING_NATS:
            return index
        index += step
    return None
