"""Markdown as it streams: whole blocks are given to the Markdown widget once, the block under way stays light text.

A Markdown widget costs most where it is asked for the same block again and again, so only finished blocks reach it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from textual.content import Content, Span

MAX_TAIL_CHARS = 2_000
"""A block under way that grows beyond this gives its whole lines to the Markdown widget early."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class BlockSplitter:
    """Cuts streamed text at the ends of Markdown blocks."""

    def __init__(self) -> None:
        self.tail = ""
        """The block under way."""
        self._fence = ""

    def push(self, text: str) -> str:
        """Takes text and gives the blocks it finished, with their line ends; empty if none."""
        self.tail += text
        fence = fence_there = self._fence
        finished = position = 0
        while (end := self.tail.find("\n", position)) >= 0:
            line = self.tail[position:end]
            position = end + 1
            was, fence = fence, _next_fence(fence, line)
            closed = bool(was) and not fence
            blank = not fence and not line.strip()
            if closed or blank or position - finished > MAX_TAIL_CHARS:
                finished, fence_there = position, fence
        done, self.tail = self.tail[:finished], self.tail[finished:]
        self._fence = fence_there
        return done

    def flush(self) -> str:
        """Gives what is left."""
        rest, self.tail = self.tail, ""
        return rest

    @property
    def in_fence(self) -> bool:
        """Whether the tail begins inside a code block."""
        return bool(self._fence)


def _next_fence(fence: str, line: str) -> str:
    """Gives the code fence that is open after a line, empty if none."""
    match = _FENCE.match(line)
    if match is None:
        return fence
    marks = match.group(1)
    if not fence:
        return marks
    closes = marks[0] == fence[0] and len(marks) >= len(fence) and not line[match.end() :].strip()
    return "" if closes else fence


_INLINE = re.compile(
    r"(`+)(?P<code>.+?)\1|\*\*(?P<strong>\S(?:.*?\S)?)\*\*|(?<![\w*])\*(?P<em>\S(?:[^*\n]*?\S)?)\*(?![\w*])"
)
_HEADING = re.compile(r" {0,3}#{1,6} ")
_BULLET = re.compile(r"( *)[-*+] ")


def tail_content(text: str, *, in_fence: bool, cursor: str = "") -> Content:
    """Gives the block under way with light styling, near to what Markdown will make of it.

    Args:
        text: The block so far.
        in_fence: Whether it begins inside a code block.
        cursor: Shown at the end.
    """
    parts: list[str] = []
    spans: list[Span] = []
    position = 0

    def add(piece: str, style: str) -> None:
        nonlocal position
        parts.append(piece)
        if style:
            spans.append(Span(position, position + len(piece), style))
        position += len(piece)

    fence = "```" if in_fence else ""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        was, fence = fence, _next_fence(fence, line)
        if index:
            add("\n", "")
        if was != fence:
            add(line, "$muted")
        elif fence:
            add(line, "$code")
        elif heading := _HEADING.match(line):
            add(line[heading.end() :], "bold $primary")
        else:
            if bullet := _BULLET.match(line):
                add(f"{bullet.group(1)}• ", "")
                line = line[bullet.end() :]
            _add_inline(line, add)
    if cursor:
        add(cursor, "$primary")
    return Content("".join(parts), spans=spans)


def _add_inline(line: str, add: Callable[[str, str], None]) -> None:
    start = 0
    for match in _INLINE.finditer(line):
        add(line[start : match.start()], "")
        kind = match.lastgroup or ""
        add(match.group(kind), {"code": "$code", "strong": "bold", "em": "italic"}[kind])
        start = match.end()
    add(line[start:], "")
