"""Colours for widgets that draw their own lines, taken from the theme by name.

Textual's component classes would do the same, but every one of them costs a pass of the stylesheet for every widget,
which is felt before the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rich.color import Color as RichColor
from rich.style import Style
from textual.color import Color
from textual.widget import Widget

from tui_chat.ui.settled import Settled


@dataclass(frozen=True, slots=True)
class Paint:
    """How a part of a widget is painted. Colours are names of theme variables."""

    color: str
    on: str | None = None
    """Ground; None leaves the widget's own."""
    bold: bool = False
    underline: bool = False


class Painted(Settled, Widget):
    """A widget whose parts are painted from the theme."""

    PARTS: ClassVar[Mapping[str, Paint]] = {}
    """The parts by name."""

    _painted_with: str = ""
    _painted: Mapping[str, Style] = {}

    def part(self, name: str) -> Style:
        """Gives the style of one part."""
        if self._painted_with != self.app.theme:
            variables = self.app.theme_variables
            self._painted = {name: _style(paint, variables) for name, paint in self.PARTS.items()}
            self._painted_with = self.app.theme
        return self._painted[name]


def _style(paint: Paint, variables: Mapping[str, str]) -> Style:
    return Style(
        color=_color(variables[paint.color]),
        bgcolor=None if paint.on is None else _color(variables[paint.on]),
        bold=paint.bold,
        underline=paint.underline,
    )


def _color(text: str) -> RichColor:
    return Color.parse(text).rich_color
