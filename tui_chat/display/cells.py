"""Text in an exact number of terminal cells, and bars in eighths of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rich.cells import cell_len, chop_cells, set_cell_size

_EIGHTHS = " ▏▎▍▌▋▊▉"


def fit(text: str, width: int) -> str:
    """Gives the text in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def wrapped(text: str, width: int) -> list[str]:
    """Gives the text in lines of at most `width` cells, broken at spaces; a word that is longer than a line is cut.

    The lines joined are the text: the spaces a line is broken at stay at its end, and count for nothing there.
    """
    lines: list[str] = []
    for word in re.findall(r"[^ ]+ *|^ +", text):
        bare = word.rstrip(" ")
        if lines and cell_len(lines[-1] + bare) <= width:
            lines[-1] += word
        else:
            lines += chop_cells(bare, width) or [""]
            lines[-1] += word[len(bare) :]
    return lines or [""]


def side_by_side(parts: Iterable[str], width: int, between: str = " · ") -> list[str]:
    """Gives the parts in lines of at most `width` cells; one that is longer has a line to itself, uncut."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1] + between + part) <= width:
            lines[-1] += between + part
        else:
            lines.append(part)
    return lines


def hanging(head: str, text: str, width: int | None) -> Iterator[str]:
    """Gives lines of at most `width` cells with `head` in front of the first and as many spaces before the others.

    Without a width, and where the head leaves no room, the text is one line.
    """
    room = None if width is None else width - cell_len(head)
    for line in [text] if room is None or room < 1 else wrapped(text, room):
        yield (head + line).rstrip()
        head = " " * cell_len(head)


def bar(fraction: float, width: int) -> str:
    """Gives a bar of at most `width` cells in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def gauge(fraction: float, width: int) -> tuple[str, str]:
    """Gives the filled and the empty part of a gauge of `width` cells."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    if fraction > 0:
        filled = max(1, filled)
    return "▓" * filled, "░" * (width - filled)
