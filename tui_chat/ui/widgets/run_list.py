"""The runs, one a line: what they are called, what they are doing, how far and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.figures import perplexity_text
from tui_chat.display.text import one_line
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.screens.training_keys import RUN_BINDINGS
from tui_chat.ui.trainings import SeenTraining

STATE_SIGNS: Mapping[str, str] = {"running": "●", "finished": "✓", "stopped": "‖", "failed": "✗"}
"""What stands before the name of a state."""

_COLUMNS = (("state", 12), ("step", 16), ("loss", 9), ("perplexity", 11))
"""Title and cells of the columns after the name."""


class RunList(Painted, ScrollView, can_focus=True):
    """A table of runs; ↑/↓, Home and End move, a click selects. The selected run stays selected when others come.

    Args:
        selected: Folder of the run that is selected first, if it is there.
    """

    DEFAULT_CSS = """
    RunList { height: auto; scrollbar-size-vertical: 1; overflow: hidden auto; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "title": Paint("muted"),
        "name": Paint("foreground"),
        "value": Paint("foreground"),
        "running": Paint("success", bold=True),
        "finished": Paint("primary"),
        "stopped": Paint("muted"),
        "failed": Paint("error", bold=True),
        "selected": Paint("token-selected-text", on="token-selected", bold=True),
        "chosen": Paint("primary", bold=True),
    }
    BINDINGS: ClassVar[list[BindingType]] = RUN_BINDINGS

    class Selected(Message):
        """Another run was chosen by key or mouse."""

        def __init__(self, run_list: RunList, path: Path) -> None:
            super().__init__()
            self.run_list = run_list
            self.path = path

        @property
        def control(self) -> Widget:
            return self.run_list

    def __init__(self, selected: Path | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._runs: Sequence[SeenTraining] = ()
        self._selected = selected

    @property
    def selected(self) -> SeenTraining | None:
        """The run that is selected; None where there are no runs."""
        return next((seen for seen in self._runs if seen.path == self._selected), None)

    def show(self, runs: Sequence[SeenTraining]) -> None:
        """Shows these runs, newest first; where the selected one is not among them, selects the first that runs."""
        grew = len(runs) != len(self._runs)
        self._runs = runs
        if self.selected is None:
            running = [seen for seen in runs if seen.told.state == "running"]
            first = next(iter(running or runs), None)
            self._selected = first.path if first is not None else None
        size = Size(max(1, self.size.width), len(runs) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        if grew:
            self.refresh(layout=True)
        self._show_selected()
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._runs) + 1

    def on_resize(self, event: events.Resize) -> None:
        self.virtual_size = Size(max(1, event.size.width), len(self._runs) + 1)
        self._show_selected()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        row = y + self.scroll_offset.y
        if row == 0:
            return self._titles(width).strip(width, self.rich_style)
        if row > len(self._runs):
            return Strip.blank(width, self.rich_style)
        return self._row(self._runs[row - 1], width).strip(width, self.rich_style)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        if offset is not None:
            self._select(offset.y + self.scroll_offset.y - 1)

    def action_move(self, step: int) -> None:
        self._select(self._place() + step)

    def action_first(self) -> None:
        self._select(0)

    def action_last(self) -> None:
        self._select(len(self._runs) - 1)

    def _select(self, place: int) -> None:
        if 0 <= place < len(self._runs) and self._runs[place].path != self._selected:
            self._selected = self._runs[place].path
            self._show_selected()
            self.refresh()
            self.post_message(self.Selected(self, self._selected))

    def _place(self) -> int:
        return next((place for place, seen in enumerate(self._runs) if seen.path == self._selected), 0)

    def _show_selected(self) -> None:
        place = self._place()
        # With the first run its titles are shown too.
        region = Region(0, 0, 1, 2) if place == 0 else Region(0, place + 1, 1, 1)
        self.scroll_to_region(region, animate=False, force=True, x_axis=False)

    def _name_width(self, width: int) -> int:
        return max(8, width - 2 - sum(cells for _, cells in _COLUMNS))

    def _titles(self, width: int) -> Line:
        line = Line().add("  ").add("training", self.part("title"), self._name_width(width))
        for title, cells in _COLUMNS:
            line.add(f" {title}" if title == "state" else f"{title:>{cells}}", self.part("title"), cells)
        return line

    def _row(self, seen: SeenTraining, width: int) -> Line:
        chosen = seen.path == self._selected
        lit = self.part("selected") if chosen and self.has_focus else None
        value = lit or self.part("value")
        last = seen.last
        line = Line().add("▸ " if chosen else "  ", lit or self.part("chosen"))
        line.add(one_line(seen.run.name), lit or self.part("chosen" if chosen else "name"), self._name_width(width))
        state = seen.told.state
        line.add(f" {STATE_SIGNS.get(state, ' ')} {state}", lit or self.part(state), _COLUMNS[0][1])
        cells = ("–", "–", "–")
        if last is not None:
            cells = (f"{last.step:,}/{last.n_steps:,}", f"{seen.loss:.3f}", perplexity_text(seen.perplexity))
        for text, (_, room) in zip(cells, _COLUMNS[1:], strict=True):
            line.add(f"{text:>{room}}", value, room)
        return line
