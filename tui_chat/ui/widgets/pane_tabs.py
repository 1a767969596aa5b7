"""The tabs of a narrow screen: one pane at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted

PANES: tuple[tuple[str, str, str], ...] = (
    ("chat", "Chat", "F2"),
    ("inspector", "Inspector", "F3"),
    ("sampling", "Sampling", "F4"),
)
"""Name, title and key of each pane."""


class PaneTabs(Painted):
    """One line with the titles of the panes, the one on show underlined and in brackets."""

    DEFAULT_CSS = """
    PaneTabs {
        height: 1; padding: 0 1; color: $muted;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "active": Paint("primary", bold=True, underline=True),
        "key": Paint("muted"),
    }

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, tabs: PaneTabs, pane: str) -> None:
            super().__init__()
            self.tabs = tabs
            self.pane = pane

        @property
        def control(self) -> Widget:
            return self.tabs

    active: reactive[str] = reactive("chat")

    def render_line(self, y: int) -> Strip:
        line = Line()
        for name, title, key in PANES:
            style = self.part("active") if name == self.active else None
            line.add("▸" if name == self.active else " ", style and style.without_color)
            line.add(title, style).space(1)
            line.add(key, self.part("key")).space(3)
        return line.strip(self.size.width, self.rich_style)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        column = 0
        for name, title, key in PANES:
            column += 1 + len(title) + 1 + len(key) + 3
            if offset is not None and offset.x < column:
                self.post_message(self.Chosen(self, name))
                return
