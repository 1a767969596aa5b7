"""Widgets that name keys of one letter."""

from __future__ import annotations

from textual.widgets import Input, TextArea

from tui_chat.ui.paint import Painted


class KeyHints(Painted):
    """It is drawn anew when the focus moves: where something is written, a letter is text and no key."""

    def on_mount(self) -> None:
        self.watch(self.screen, "focused", self._draw_anew)

    @property
    def letters_are_text(self) -> bool:
        """Whether somebody writes, so that a letter does nothing else."""
        return isinstance(self.screen.focused, Input | TextArea)

    def _draw_anew(self) -> None:
        self.refresh()
