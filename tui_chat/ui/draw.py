"""Lines of an exact width, for widgets that render their own.

Everything here yields plain segments, so text is never read as markup.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_chat.display.cells import fit


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
