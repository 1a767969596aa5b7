"""The tokens of a message set in lines: which cells each of them takes, added to as they come.

A token is made readable and inert first (`piece_label`). Its leading space is one cell wide, in which its mark stands
if it has one. Lines break between words, and behind tokens that end a line; what is wider than a line takes several.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

from tui_chat.display.text import piece_label

_LINE_END = "⏎"


class Fragment(NamedTuple):
    """A token, or as much of it as stands in one line."""

    token: int
    """Its place in the message."""
    column: int
    width: int
    """Cells."""
    text: str
    breaks: bool
    """Whether a line may break before it."""


@lru_cache(maxsize=1 << 16)
def label_parts(piece: bytes) -> tuple[bool, tuple[str, ...]]:
    """Whether a token begins with a space, and its text without that, a part for each line that it ends."""
    label = piece_label(piece)
    spaced = label.startswith("·") and piece.startswith(b" ")
    if spaced:
        label = label[1:]
    if label and not cell_len(label[0]):
        label = "◌" + label  # it would be drawn onto the token before
    if not any(end in piece for end in (b"\n", b"\xe2\x80\xa8", b"\xe2\x80\xa9")):
        return spaced, (label,)
    parts = [part + _LINE_END for part in label.split(_LINE_END)]
    parts[-1] = parts[-1][: -len(_LINE_END)]
    return spaced, tuple(parts)  # the last one is "" where the token ends with a line end


class TokenLines:
    """Tokens in lines of a width.

    Args:
        width: Cells of a line, at least 2.
    """

    def __init__(self, width: int) -> None:
        self.width = max(2, width)
        self.lines: list[list[Fragment]] = [[]]
        self.line_of: list[int] = []
        """The line that each token begins in."""

    def extend(self, labels: Iterable[tuple[bytes, str]]) -> int:
        """Appends tokens.

        Args:
            labels: (bytes, mark) of each.

        Returns:
            The first line that is not as it was.
        """
        first = len(self.lines) - 1
        for piece, mark in labels:
            index = len(self.line_of)
            spaced, parts = label_parts(piece)
            text = (mark or (" " if spaced else "")) + parts[0]
            first = min(first, self._put(index, text, breaks=spaced or not piece.strip()))
            for part in parts[1:]:
                self.lines.append([])
                if part:
                    self._put(index, part, breaks=False)
        return first

    def at(self, x: int, y: int) -> int | None:
        """The token at a cell; None where there is none."""
        if 0 <= y < len(self.lines):
            for fragment in self.lines[y]:
                if fragment.column <= x < fragment.column + fragment.width:
                    return fragment.token
        return None

    def nearest(self, column: int, y: int) -> int | None:
        """The token of a line that is nearest to a column; None where the line has none."""
        fragments = self.lines[y] if 0 <= y < len(self.lines) else []
        return min(fragments, key=lambda fragment: _distance(fragment, column)).token if fragments else None

    def column_of(self, index: int) -> int:
        """The column that a token begins in."""
        line = self.lines[self.line_of[index]]
        return next((fragment.column for fragment in line if fragment.token == index), 0)

    def _put(self, index: int, text: str, *, breaks: bool) -> int:
        """Puts a token's text behind what there is; gives the first line that is not as it was."""
        cells = cell_len(text)
        line = self.lines[-1]
        column = line[-1].column + line[-1].width if line else 0
        touched = len(self.lines) - 1
        if column + cells > self.width and line:
            start = len(line) if breaks else self._word(line)
            kept, word = line[:start], line[start:]
            used = column - word[0].column if word else 0
            if not kept or used > self.width // 3 or used + cells > self.width:
                kept, word, used = line, [], 0
            self.lines[-1] = kept
            column = 0
            self.lines.append([])
            for fragment in word:
                self.lines[-1].append(fragment._replace(column=column))
                column += fragment.width
                if fragment.token < len(self.line_of):
                    self.line_of[fragment.token] = len(self.lines) - 1
        if index == len(self.line_of):
            self.line_of.append(len(self.lines) - 1)
        if cells <= self.width:
            self.lines[-1].append(Fragment(index, column, cells, text, breaks))
            return touched
        for number, part in enumerate(chop_cells(text, self.width)):
            if number:
                self.lines.append([])
            self.lines[-1].append(Fragment(index, 0, cell_len(part), part, breaks and not number))
        return touched

    def _word(self, line: list[Fragment]) -> int:
        """Where the last word of a line begins, that of a token which is under way there included."""
        for start in range(len(line) - 1, -1, -1):
            if line[start].breaks:
                return start
        return len(line)


def _distance(fragment: Fragment, column: int) -> int:
    return max(fragment.column - column, column - fragment.column - fragment.width + 1, 0)
