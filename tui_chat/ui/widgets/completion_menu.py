"""The menu of completions above the composer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.cells import fit
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted

MAX_ROWS = 8


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One completion: what it puts in place of the whole line, and how it is shown."""

    text: str
    """The line once it is accepted."""
    label: str
    matched: tuple[int, ...] = ()
    """Indices of the label's characters that matched what was typed."""
    hint: str = ""
    value: str = ""
    """What it would change, as it is now; it stands at the right, and the hint gives way to it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """All that can be offered for a line."""

    suggestions: tuple[Suggestion, ...] = ()
    """Best first."""
    hint: str = ""
    """What is expected at the cursor."""
    of_name: bool = False
    """Whether it is the command's name that is being typed, not a value."""


class CompletionMenu(Painted):
    """A list that floats above the composer; the keys reach it through the composer."""

    DEFAULT_CSS = """
    CompletionMenu {
        overlay: screen; constrain: inside inflect; display: none;
        width: 1fr; height: auto; background: $panel; color: $foreground; padding: 0 1;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "label": Paint("foreground"),
        "matched": Paint("primary", bold=True, underline=True),
        "hint": Paint("muted"),
        "selected": Paint("background", on="primary"),
    }

    class Accepted(Message):
        """A suggestion was clicked."""

        def __init__(self, menu: CompletionMenu, suggestion: Suggestion) -> None:
            super().__init__()
            self.menu = menu
            self.suggestion = suggestion

        @property
        def control(self) -> Widget:
            return self.menu

    def __init__(self) -> None:
        super().__init__()
        self._offer = Offer()
        self._index = 0
        self._moved = False

    @property
    def is_open(self) -> bool:
        """Whether something is shown."""
        return bool(self._suggestions or self._offer.hint)

    @property
    def is_meant(self) -> bool:
        """Whether Enter means the highlighted suggestion: a name under way, or one that was chosen by key."""
        return bool(self._suggestions) and (self._offer.of_name or self._moved)

    @property
    def is_chosen(self) -> bool:
        """Whether the highlighted suggestion was chosen by key."""
        return self._moved

    @property
    def _suggestions(self) -> tuple[Suggestion, ...]:
        return self._offer.suggestions

    @property
    def highlighted(self) -> Suggestion | None:
        """The suggestion that would be accepted."""
        return self._suggestions[self._index] if self._suggestions else None

    def show(self, offer: Offer) -> None:
        """Offers this; nothing closes the menu."""
        if offer == self._offer:
            return
        self._offer = offer
        self._index = 0
        self._moved = False
        self.display = self.is_open
        rows = min(MAX_ROWS, len(offer.suggestions)) + bool(offer.hint)
        self.styles.height = max(1, rows)
        self.styles.offset = (0, -rows - 1)
        self.refresh()

    def move(self, step: int) -> None:
        """Moves the highlight, around the ends."""
        if self._suggestions:
            self._index = (self._index + step) % len(self._suggestions)
            self._moved = True
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == min(MAX_ROWS, len(self._suggestions)):
            return Line().space(2).add(self._offer.hint, self.part("hint")).strip(width, self.rich_style)
        index = self._first() + y
        if index >= len(self._suggestions):
            return Strip.blank(width, self.rich_style)
        suggestion = self._suggestions[index]
        selected = index == self._index
        label_width = min(max(len(item.label) for item in self._suggestions) + 2, width // 2)
        plain, matched, hint = (self.part(name) for name in ("label", "matched", "hint"))
        line = Line().add("▸ " if selected else "  ")
        for position, character in enumerate(fit(suggestion.label, label_width)):
            line.add(
                character, matched if position in suggestion.matched and not selected else None if selected else plain
            )
        value = fit(suggestion.value, min(cell_len(suggestion.value), max(0, width - line.width) // 2))
        line.add(suggestion.hint, None if selected else hint, max(0, width - line.width - cell_len(value) - 2))
        line.space(2).add(value, None if selected else plain)
        return line.strip(width, self.part("selected") if selected else self.rich_style)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        index = self._first() + event.y
        if index < len(self._suggestions):
            self.post_message(self.Accepted(self, self._suggestions[index]))

    def _first(self) -> int:
        rows = min(MAX_ROWS, len(self._suggestions))
        return max(0, min(self._index - rows + 1, len(self._suggestions) - rows))
