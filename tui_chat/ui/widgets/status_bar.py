"""The line at the top: the model, where it runs, the context, and what is going on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.reactive import reactive
from textual.strip import Strip

from tui_chat.display.cells import fit, gauge
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted


class StatusBar(Painted):
    """`tui-chat · model · device    activity   ctx ▓▓░░ 412/2048   212 tok/s`."""

    DEFAULT_CSS = """
    StatusBar {
        height: 1; background: $panel; color: $foreground; padding: 0 1;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "name": Paint("primary", bold=True),
        "model": Paint("foreground"),
        "dim": Paint("muted"),
        "gauge": Paint("bar-after"),
        "full": Paint("warning", bold=True),
        "busy": Paint("accent", bold=True),
    }

    model: reactive[str] = reactive("")
    """The model, in short."""
    device: reactive[str] = reactive("")
    """Where it runs."""
    activity: reactive[str] = reactive("")
    """What is going on; empty when nothing is."""
    fraction: reactive[float | None] = reactive(None)
    """How far the activity is, 0 to 1."""
    rate: reactive[str] = reactive("")
    """Tokens a second."""
    context: reactive[tuple[int, int] | None] = reactive(None)
    """Tokens in the context, and how many it holds."""

    differs: reactive[str] = reactive("")
    """How many tokens of the answer on show would have come out differently."""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        right = self._right(width)
        left = Line().add("tui-chat", self.part("name"))
        room = width - right.width - left.width - 2
        for text, style in ((self.model, "model"), (self.device, "dim")):
            if text and room > 8:
                shown = text if len(text) + 3 <= room else fit(text, room - 3).rstrip()
                left.add(" · ", self.part("dim")).add(shown, self.part(style))
                room = width - right.width - left.width - 2
        left.to(width - right.width)
        for text, segment_style, _ in right.segments:
            left.add(text, segment_style)
        return left.strip(width, self.rich_style)

    def _right(self, width: int) -> Line:
        line = Line()
        if self.activity:
            if self.fraction is not None:
                full, empty = gauge(self.fraction, 8)
                line.add(full, self.part("busy")).add(empty, self.part("dim")).space(1)
            line.add(self.activity, self.part("busy"))
        elif self.differs:
            line.add(f"≠ {self.differs}", self.part("busy"))
        crowded = (self.activity and width < 100) or (self.differs and width < 70)
        if self.context is not None and not crowded:
            used, holds = self.context
            cells = 8 if width < 110 else 12
            full, empty = gauge(used / holds if holds else 0, cells)
            style = self.part("full" if holds and used > 0.9 * holds else "gauge")
            line.space(3 if line.width else 0).add("ctx ", self.part("dim"))
            line.add(full, style).add(empty, self.part("dim")).add(f" {used}/{holds}", self.part("model"))
        if self.rate:
            line.space(3 if line.width else 0).add(self.rate, self.part("model"))
        return line
