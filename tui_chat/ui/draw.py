"""Drawing in cells: fitted text and bars in eighths, for widgets that render their own lines.

Everything here yields plain segments, so text is never read as markup.
"""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

_EIGHTHS = " ▏▎▍▌▋▊▉"


def fit(text: str, width: int) -> str:
    """Gives the text in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


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


class Line:
    """A line under construction: parts with styles, then a strip of an exact width."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self.width = 0
        """Cells used so far."""

    @property
    def segments(self) -> list[Segment]:
        """The parts so far."""
        return self._segments

    def add(self, text: str, style: Style | None = None, width: int | None = None) -> Line:
        """Appends text, fitted into `width` cells if given."""
        if width is not None:
            text = fit(text, width)
        if text:
            self._segments.append(Segment(text, style))
            self.width += width if width is not None else cell_len(text)
        return self

    def space(self, width: int, style: Style | None = None) -> Line:
        """Appends blank cells; nothing if `width` is not positive."""
        return self.add(" " * width, style, max(0, width))

    def to(self, column: int, style: Style | None = None) -> Line:
        """Appends blanks up to a column."""
        return self.space(column - self.width, style)

    def strip(self, width: int, style: Style | None = None) -> Strip:
        """Gives the line cut or padded to `width` cells, with `style` beneath all of it."""
        if style is None:
            return Strip(self._segments, self.width).adjust_cell_length(width)
        segments = [Segment(text, style if own is None else style + own) for text, own, _ in self._segments]
        if self.width < width:
            segments.append(Segment(" " * (width - self.width), style))
            return Strip(segments, width)
        strip = Strip(segments, self.width)
        return strip if self.width == width else strip.crop(0, width)
