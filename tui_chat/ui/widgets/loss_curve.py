"""The loss over the steps: a line for training, marks for validation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import ClassVar

from textual.reactive import reactive
from textual.strip import Strip

from tui_chat.display.curve import MARK, draw_curve
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.trainings import SeenTraining

_FIRST_DOTS, _LAST_DOTS = "\u2800", "\u28ff"


class LossCurve(Painted):
    """A curve as wide and as high as the widget. Drawn anew only when the training told more."""

    DEFAULT_CSS = """
    LossCurve { height: 1fr; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "axis": Paint("muted"),
        "training": Paint("primary"),
        "validation": Paint("accent", bold=True),
        "empty": Paint("muted"),
    }

    seen: reactive[SeenTraining | None] = reactive(None)
    """The training on show."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._drawn: list[str] = []
        self._drawn_for: tuple[object, ...] = ()
        self.border_title = "loss"

    def watch_seen(self, seen: SeenTraining | None) -> None:
        marked = seen is not None and any(progress.validation_loss is not None for progress in seen.told.progress)
        title = f"loss · ⠤⠒ training · {MARK} validation" if marked else "loss"
        # Every change of the title draws the border anew.
        if self.border_title != title:
            self.border_title = title

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        key = (self.seen, width, height)
        if key != self._drawn_for:
            self._drawn_for, self._drawn = key, self._draw(width, height)
        if not self._drawn:
            hint = "the curve begins with the first report" if y == 0 and self.seen is not None else ""
            return Line().add(hint, self.part("empty")).strip(width, self.rich_style)
        line = Line()
        for part, cells in groupby(self._drawn[y], _part):
            line.add("".join(cells), self.part(part))
        return line.strip(width, self.rich_style)

    def _draw(self, width: int, height: int) -> list[str]:
        if self.seen is None:
            return []
        training, validation = self.seen.losses()
        return draw_curve(training, width, height, validation, cut_start=True) if training else []


def _part(cell: str) -> str:
    if cell == MARK:
        return "validation"
    return "training" if _FIRST_DOTS <= cell <= _LAST_DOTS else "axis"
