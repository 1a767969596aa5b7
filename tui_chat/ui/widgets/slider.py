"""A value row with a track: dragged by the mouse, stepped by keys and wheel."""

from __future__ import annotations

from textual import events

from tui_chat.ui.draw import Line
from tui_chat.ui.widgets.value_row import ValueRow


class Slider(ValueRow):
    """`temperature  ━━━━●────┊──── 0.70`; `┊` stands where the default is."""

    def draw_track(self, line: Line, width: int) -> None:
        cells = self.track_width(width)
        if cells < 3 or self.value is None:
            return
        knob = round(self.spec.fraction(self.value) * (cells - 1))
        mark = None if self.spec.default is None else round(self.spec.fraction(self.spec.default) * (cells - 1))
        line.add("━" * knob, self.part("fill")).add("●", self.part("knob"))
        if mark is not None and mark > knob:
            line.add("─" * (mark - knob - 1), self.part("track")).add("┊", self.part("default"))
            line.add("─" * (cells - 1 - mark), self.part("track"))
        else:
            line.add("─" * (cells - 1 - knob), self.part("track"))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1 and self._on_track(event.x):
            self.capture_mouse()
            self._drag(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self:
            self._drag(event.x)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self.app.mouse_captured is self:
            self.release_mouse()

    def _on_track(self, x: int) -> bool:
        return self.LABEL_WIDTH <= x < self.LABEL_WIDTH + self.track_width(self.size.width)

    def _drag(self, x: int) -> None:
        cells = self.track_width(self.size.width)
        self.choose(self.spec.at((x - self.LABEL_WIDTH) / max(1, cells - 1)))
