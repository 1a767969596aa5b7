"""Two lines beneath the token view: a message's surprisal at a glance, to jump in, and what the tints mean."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.engine.types import GeneratedToken
from tui_chat.language import _
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint
from tui_chat.ui.tints import MARKS, SCALES, Measure, figure_of, legend_name
from tui_chat.ui.widgets.key_hints import KeyHints

_BARS = "▁▂▃▄▅▆▇█"
_HEIGHTS = (0.1, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0)
"""Most surprisal of each height but the last, nats."""


def sparkline(tokens: Sequence[GeneratedToken], width: int) -> str:
    """The surprisal of a message in at most `width` cells: the highest of the tokens that share a cell.

    A dot stands where it is not known.
    """
    columns = min(width, len(tokens))
    cells = []
    for column in range(columns):
        start, stop = column * len(tokens) // columns, (column + 1) * len(tokens) // columns
        known = [trace.surprisal for index in range(start, stop) if (trace := tokens[index].trace) is not None]
        cells.append(_BARS[bisect_left(_HEIGHTS, max(known))] if known else "·")
    return "".join(cells)


class TokenMap(KeyHints):
    """Shows the message that is stood in; a click or a drag jumps."""

    DEFAULT_CSS = """
    TokenMap { height: 2; padding: 0 2; display: none; }
    TokenMap.-shown { display: block; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "bars": Paint("bar-after"),
        "here": Paint("token-selected-text", on="token-selected", bold=True),
        "name": Paint("primary"),
        "figure": Paint("muted"),
        "level-0": Paint("foreground"),
        "level-1": Paint("heat-1-text", on="heat-1"),
        "level-2": Paint("heat-2-text", on="heat-2"),
        "level-3": Paint("heat-3-text", on="heat-3"),
        "level-4": Paint("heat-4-text", on="heat-4", bold=True),
    }

    class Jumped(Message):
        """A place in the message was pointed at."""

        def __init__(self, map: TokenMap, index: int) -> None:
            super().__init__()
            self.map = map
            self.index = index
            """The token there."""

        @property
        def control(self) -> Widget:
            return self.map

    measure: reactive[Measure] = reactive(Measure.PROBABILITY, layout=False)
    note: reactive[str] = reactive("", layout=False)
    """Stands in place of the legend: what is searched for."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens: Sequence[GeneratedToken] = ()
        self._current: int | None = None
        self._bars = ""
        self._bars_for: object = None

    def show(self, tokens: Sequence[GeneratedToken], current: int | None) -> None:
        """Shows a message, and where one is in it."""
        self._tokens, self._current = tokens, current
        self.refresh()

    def forget(self) -> None:
        """Draws the figures of the tokens anew: there are more of them."""
        self._bars_for = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, style = self.size.width, self.rich_style
        return (self._map(width) if y == 0 else self._legend(width)).strip(width, style)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        event.stop()
        if event.button == 1:
            self.capture_mouse()
            self._jump(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self:
            self._jump(event)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.release_mouse()

    def _jump(self, event: events.MouseEvent) -> None:
        offset = event.get_content_offset_capture(self)
        if self._bars and offset.y == 0:
            column = max(0, min(offset.x, len(self._bars) - 1))
            index = -(-column * len(self._tokens) // len(self._bars))
            if index != self._current:
                self.post_message(self.Jumped(self, min(index, len(self._tokens) - 1)))

    def _map(self, width: int) -> Line:
        n = len(self._tokens)
        last = self._tokens[-1] if n else None
        if self._bars_for != (key := (n, id(last), width)):
            self._bars, self._bars_for = sparkline(self._tokens, width), key
        bars, current = self._bars, self._current
        if current is None or not bars:
            return Line().add(bars, self.part("bars"))
        here = min(current * len(bars) // n, len(bars) - 1)
        line = Line().add(bars[:here], self.part("bars")).add(bars[here], self.part("here"))
        return line.add(bars[here + 1 :], self.part("bars"))

    def _legend(self, width: int) -> Line:
        current, n = self._current, len(self._tokens)
        figure = "" if current is None or current >= n else figure_of(self.measure, self._tokens, current)
        place = "" if current is None else f"{current + 1:,}/{n:,}"
        right = f"{figure}  {place}" if figure else place
        if self.note:
            line = Line().add(self.note, self.part("name"))
        else:
            line = Line()
            if not self.letters_are_text:
                line.add("m ", self.part("figure"))  # the key that changes it
            line.add(legend_name(self.measure, _(self.measure.value)), self.part("name"))
            for level, (mark, text) in enumerate(zip(MARKS, SCALES[self.measure].legend, strict=True)):
                line.space(1).add(f"{mark}{text}", self.part(f"level-{level}"))
        if line.width + len(right) + 1 <= width:
            line.to(width - len(right)).add(right, self.part("figure"))
        return line
