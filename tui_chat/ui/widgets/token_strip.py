"""The tokens of one answer in a row, tinted by how sure the model was; any of them can be selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.text import piece_label
from tui_chat.engine.types import GeneratedToken
from tui_chat.language import N_
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted

LEVELS: tuple[tuple[float, str, str], ...] = (
    (0.9, "sure", "≥90%"),
    (0.5, "likely", "50–90%"),
    (0.1, "unsure", "10–50%"),
    (0.0, "unlikely", "<10%"),
)
"""Least probability before the chain, name of the level, and its legend."""


MARK = "≠"
"""Stands before a token that would come out differently, in place of its space."""


def level_of(token: GeneratedToken) -> str:
    """Gives the level of a token; `plain` where nothing was inspected."""
    if token.trace is None:
        return "plain"
    p = token.trace.p
    return next(name for least, name, _ in LEVELS if p >= least)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where a token stands: `column` of its line, in cells."""

    index: int
    column: int
    width: int
    label: str
    level: str


class TokenStrip(Painted, ScrollView, can_focus=True):
    """A flow of tokens. ←/→ move, a click selects, End follows the newest again, ? asks for the figures."""

    DEFAULT_CSS = """
    TokenStrip {
        height: 1fr; min-height: 2; scrollbar-size-vertical: 1; overflow-x: hidden;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "plain": Paint("foreground"),
        "sure": Paint("foreground"),
        "likely": Paint("token-likely-text", on="token-likely"),
        "unsure": Paint("token-unsure-text", on="token-unsure", underline=True),
        "unlikely": Paint("token-unlikely-text", on="token-unlikely", bold=True, underline=True),
        "selected": Paint("token-selected-text", on="token-selected", bold=True),
        "empty": Paint("muted"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", N_("Earlier token"), show=False, id="tokens.earlier"),
        Binding("right", "move(1)", N_("Later token"), show=False, id="tokens.later"),
        Binding("up", "move_line(-1)", N_("Line up"), show=False, id="tokens.up"),
        Binding("down", "move_line(1)", N_("Line down"), show=False, id="tokens.down"),
        Binding("home", "first", N_("First token"), show=False, id="tokens.first"),
        Binding("end", "newest", N_("Newest token"), show=False, id="tokens.newest"),
        Binding("question_mark", "explain", N_("Explain it"), show=False, id="tokens.explain"),
        Binding("enter", "enter", N_("Candidates, fork"), show=False, id="tokens.enter"),
        Binding("n", "next_mark", N_("Next difference"), show=False, id="tokens.next-mark"),
        Binding("p", "prompt", N_("Prompt or answer"), show=False, id="tokens.prompt"),
        Binding("w", "what_if", N_("What if"), show=False, id="tokens.what-if"),
    ]

    class Selected(Message):
        """A token was chosen by key or mouse; `index` is None when the newest is followed again."""

        def __init__(self, strip: TokenStrip, index: int | None) -> None:
            super().__init__()
            self.strip = strip
            self.index = index

        @property
        def control(self) -> Widget:
            return self.strip

    class Asked(Message):
        """Somebody wants the figures of the token on show explained."""

        def __init__(self, strip: TokenStrip) -> None:
            super().__init__()
            self.strip = strip

        @property
        def control(self) -> Widget:
            return self.strip

    class Wanted(Message):
        """Something was asked for by key: `enter`, `prompt` or `what-if`."""

        def __init__(self, strip: TokenStrip, what: str) -> None:
            super().__init__()
            self.strip = strip
            self.what = what

        @property
        def control(self) -> Widget:
            return self.strip

    selected: reactive[int | None] = reactive(None, layout=False)
    """Index of the selected token; None follows the newest."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._tokens: list[GeneratedToken] = []
        self._lines: list[list[_Placed]] = []
        self._line_of: list[int] = []
        self._laid_width = 0
        self._marks: frozenset[int] = frozenset()

    @property
    def marks(self) -> frozenset[int]:
        """Which of the tokens would come out differently: those have a `MARK`."""
        return self._marks

    @marks.setter
    def marks(self, marks: frozenset[int]) -> None:
        if marks != self._marks:
            self._marks = marks
            self._lay_out_all()

    @property
    def tokens(self) -> list[GeneratedToken]:
        """The tokens on show."""
        return self._tokens

    def show_tokens(self, tokens: list[GeneratedToken]) -> None:
        """Shows these tokens, following the newest."""
        self._tokens = list(tokens)
        self._marks = frozenset()
        self.set_reactive(TokenStrip.selected, None)
        self._lay_out_all()

    def extend(self, tokens: list[GeneratedToken]) -> None:
        """Appends tokens as they come."""
        self._tokens.extend(tokens)
        if self._laid_width:
            self._lay_out(len(self._tokens) - len(tokens))
            self._resized()
        self.refresh()

    def replace(self, tokens: list[GeneratedToken]) -> None:
        """Shows the same tokens with more figures; what is selected stays so."""
        self._tokens = tokens
        self._lay_out_all()

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width
        if width != self._laid_width:
            self._lay_out_all()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        y += self.scroll_offset.y
        if not self._tokens and y == 0:
            return (
                Line().add("tokens appear here as they are written", self.part("empty")).strip(width, self.rich_style)
            )
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        current = self.current
        segments: list[Segment] = []
        used = 0
        for placed in self._lines[y]:
            name = "selected" if placed.index == current else placed.level
            segments.append(Segment(placed.label, self.part(name)))
            used += placed.width
        return Strip(segments, used).adjust_cell_length(width).apply_style(self.rich_style)

    def watch_selected(self) -> None:
        self._show_current()
        self.refresh()

    @property
    def current(self) -> int | None:
        """Index of the token to inspect: the selected one or the newest."""
        if not self._tokens:
            return None
        return len(self._tokens) - 1 if self.selected is None else min(self.selected, len(self._tokens) - 1)

    def select(self, index: int | None) -> None:
        """Selects a token, as a person does; None follows the newest."""
        self.selected = index
        self.post_message(self.Selected(self, index))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        if offset is None:
            return
        y = offset.y + self.scroll_offset.y
        if y >= len(self._lines):
            return
        for placed in self._lines[y]:
            if placed.column <= offset.x < placed.column + placed.width:
                self.select(placed.index)
                return

    def action_move(self, step: int) -> None:
        current = self.current
        if current is not None:
            self.select(max(0, min(len(self._tokens) - 1, current + step)))

    def action_move_line(self, step: int) -> None:
        current = self.current
        if current is None or not self._lines:
            return
        line = self._line_of[current]
        target = line + step
        if not 0 <= target < len(self._lines):
            return
        column = next(placed.column for placed in self._lines[line] if placed.index == current)
        nearest = min(self._lines[target], key=lambda placed: abs(placed.column - column))
        self.select(nearest.index)

    def action_first(self) -> None:
        if self._tokens:
            self.select(0)

    def action_newest(self) -> None:
        self.select(None)

    def action_enter(self) -> None:
        self.post_message(self.Wanted(self, "enter"))

    def action_prompt(self) -> None:
        self.post_message(self.Wanted(self, "prompt"))

    def action_what_if(self) -> None:
        self.post_message(self.Wanted(self, "what-if"))

    def action_next_mark(self) -> None:
        if self._marks:
            current = -1 if self.current is None or self.selected is None else self.current
            self.select(min((mark for mark in self._marks if mark > current), default=min(self._marks)))

    def action_explain(self) -> None:
        if self._tokens:
            self.post_message(self.Asked(self))

    def _lay_out_all(self) -> None:
        self._laid_width = self.scrollable_content_region.width
        self._lines = []
        self._line_of = []
        if self._laid_width:
            self._lay_out(0)
        self._resized()
        self.refresh()

    def _lay_out(self, start: int) -> None:
        width = self._laid_width
        for index in range(start, len(self._tokens)):
            token = self._tokens[index]
            label = piece_label(token.piece)
            if index in self._marks:
                label = MARK + label.removeprefix("·")
            cells = cell_len(label)
            if cells > width:
                label, cells = set_cell_size(label, width - 1) + "…", width
            last = self._lines[-1] if self._lines else None
            column = last[-1].column + last[-1].width if last else 0
            ended = bool(last) and b"\n" in self._tokens[index - 1].piece
            if last is None or column + cells > width or ended:
                last, column = [], 0
                self._lines.append(last)
            last.append(_Placed(index, column, cells, label, level_of(token)))
            self._line_of.append(len(self._lines) - 1)

    def _resized(self) -> None:
        size = Size(max(1, self._laid_width), max(1, len(self._lines)))
        if size != self.virtual_size:
            # Assigned, it would lay out the whole screen; only what scrolls here has changed.
            self.set_reactive(TokenStrip.virtual_size, size)
            self._scroll_update(size)
        self._show_current()

    def _show_current(self) -> None:
        current = self.current
        if current is None or current >= len(self._line_of) or not self.size.height:
            return
        line = self._line_of[current]
        self.scroll_to_region(Region(0, line, 1, 1), animate=False, force=True, x_axis=False)


class TokenLegend(Painted):
    """One line that says what the tints of the token strip mean."""

    DEFAULT_CSS = """
    TokenLegend {
        height: 1; color: $muted;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "note": Paint("accent", bold=True),
        "sure": Paint("foreground"),
        "likely": Paint("token-likely-text", on="token-likely"),
        "unsure": Paint("token-unsure-text", on="token-unsure", underline=True),
        "unlikely": Paint("token-unlikely-text", on="token-unlikely", bold=True, underline=True),
    }

    note: reactive[str] = reactive("", layout=False)
    """Said in its place: the first line that fits; empty says what the tints mean."""

    hint: reactive[str] = reactive("", layout=False)
    """The keys of what has the focus, as many as fit; said before all else."""

    def render_line(self, y: int) -> Strip:
        if self.hint:
            hint = self.hint
            while cell_len(hint) > self.size.width and " · " in hint:
                hint = hint.rpartition(" · ")[0]
            return Line().add(hint).strip(self.size.width, self.rich_style)
        if self.note:
            ways = self.note.splitlines()
            note = next((way for way in ways if cell_len(way) <= self.size.width), ways[-1])
            return Line().add(note, self.part("note")).strip(self.size.width, self.rich_style)
        line = Line().add("p  " if self.size.width < 44 else "probability  ")
        for _, name, legend in LEVELS:
            line.add(legend, self.part(name)).space(2)
        return line.strip(self.size.width, self.rich_style)
