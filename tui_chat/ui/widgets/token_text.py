"""A message as its tokens: the text, tinted, in which any token can be stood on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.cells import fit
from tui_chat.display.text import one_line
from tui_chat.engine.types import GeneratedToken
from tui_chat.language import N_
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.tints import MARKS, Measure, level_of, pace_of
from tui_chat.ui.token_lines import TokenLines

LAID_AT_ONCE = 800
"""Tokens set in lines in one go, some milliseconds; the screen has its turn before the next."""

_LEVELS = ("level-0", "level-1", "level-2", "level-3", "level-4")
_FORCED = Style(underline=True)
"""Beneath what a person put there."""
_WHAT_IF = "≠"
_STEP = 3
"""Lines that what streams grows by."""


@dataclass(slots=True)
class _Laid:
    """Tokens that are set in lines."""

    lines: TokenLines
    tokens: list[GeneratedToken] = field(default_factory=list)
    levels: list[int | None] = field(default_factory=list)
    pace: float = 0.0
    """Of the first `n_paced` of them, see `pace_of`."""
    n_paced: int = 0


class TokenText(Painted, can_focus=True):
    """Tokens in lines. Only the lines on the screen are drawn, and tokens that come are put behind the others.

    ←/→ move by token, ↑/↓ by line, a click selects. What lies beyond its ends is asked for by messages.
    """

    DEFAULT_CSS = """
    TokenText { width: 1fr; height: 1; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "unknown": Paint("muted"),
        "level-0": Paint("foreground"),
        "level-1": Paint("heat-1-text", on="heat-1"),
        "level-2": Paint("heat-2-text", on="heat-2"),
        "level-3": Paint("heat-3-text", on="heat-3"),
        "level-4": Paint("heat-4-text", on="heat-4", bold=True),
        "found": Paint("background", on="accent", underline=True),
        "marked": Paint("background", on="error", bold=True),
        "selected": Paint("token-selected-text", on="token-selected", bold=True),
        "footer": Paint("muted"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", N_("Earlier token"), show=False, id="view.earlier"),
        Binding("right", "move(1)", N_("Later token"), show=False, id="view.later"),
        Binding("up", "move_line(-1)", N_("Line up"), show=False, id="view.up"),
        Binding("down", "move_line(1)", N_("Line down"), show=False, id="view.down"),
        Binding("home", "jump(0)", N_("First token"), show=False, id="view.first"),
        Binding("end", "newest", N_("Newest token"), show=False, id="view.newest"),
        Binding("s", "ask('surprising', 1)", N_("Surprising"), id="view.surprising"),
        Binding("S,shift+s", "ask('surprising', -1)", N_("Surprising before"), show=False, id="view.surprising-before"),
        # With priority, so that the next key finds the field.
        Binding("slash", "screen.search_tokens", N_("Search"), priority=True, id="view.search"),
        Binding("n", "ask('found', 1)", N_("Next found"), show=False, id="view.found"),
        Binding("N,shift+n", "ask('found', -1)", N_("Found before"), show=False, id="view.found-before"),
        Binding("m", "ask('measure', 1)", N_("Tint by"), show=False, id="view.measure"),
        Binding("M,shift+m", "ask('measure', -1)", N_("Tint by, back"), show=False, id="view.measure-before"),
        Binding(
            "enter",
            "ask('enter', 0)",
            N_("Candidates, fork"),
            show=False,
            id="view.enter",
        ),
        Binding("w", "ask('what-if', 0)", N_("What if"), show=False, id="view.what-if"),
        Binding("question_mark", "ask('explain', 0)", N_("Explain it"), show=False, id="view.explain"),
        *(
            Binding(str(tenth), f"jump({tenth / 10})", N_("Jump to a tenth"), show=False, id=f"view.jump-{tenth}")
            for tenth in range(10)
        ),
    ]

    class Selected(Message):
        """A token was chosen by key or mouse; `index` is None when the newest is followed."""

        def __init__(self, text: TokenText, index: int | None) -> None:
            super().__init__()
            self.text = text
            self.index = index

        @property
        def control(self) -> Widget:
            return self.text

    class Left(Message):
        """A key leads out of the message: by tokens or by lines, backwards (-1) or on (1)."""

        def __init__(self, text: TokenText, step: int, column: int | None) -> None:
            super().__init__()
            self.text = text
            self.step = step
            self.column = column
            """The one to go on in, by lines; None by tokens."""

        @property
        def control(self) -> Widget:
            return self.text

    class Asked(Message):
        """Something is wanted that one message cannot give alone: `surprising`, `found`, `measure`, ..."""

        def __init__(self, text: TokenText, what: str, step: int) -> None:
            super().__init__()
            self.text = text
            self.what = what
            self.step = step

        @property
        def control(self) -> Widget:
            return self.text

    selected: reactive[int | None] = reactive(None, layout=False, repaint=False)
    """The token that is stood on; None follows the newest."""
    active: reactive[bool] = reactive(False, layout=False, repaint=False)
    """Whether it is this message whose token is on show in the inspector."""
    measure: reactive[Measure] = reactive(Measure.PROBABILITY, layout=False, repaint=False)
    """What the tints go by."""
    footer: reactive[str | None] = reactive(None, layout=False, repaint=False)
    """Stands beneath; None while more tokens will come."""

    def __init__(self) -> None:
        super().__init__(classes="token-text")
        self._tokens: Sequence[GeneratedToken] = ()
        self._laid = _Laid(TokenLines(2))
        self._anew: _Laid | None = None
        self._width = 0
        self._drawn = (0, 1)
        self._found: Set[int] = frozenset()
        self._marked: Set[int] = frozenset()
        self._going_on = False
        self._styled: tuple[str, Mapping[str, Style]] = ("", {})

    # What is on show

    @property
    def tokens(self) -> Sequence[GeneratedToken]:
        """The tokens of the message."""
        return self._tokens

    @property
    def current(self) -> int | None:
        """The token that is stood on, or the newest."""
        if not self._tokens:
            return None
        return len(self._tokens) - 1 if self.selected is None else min(self.selected, len(self._tokens) - 1)

    @property
    def n_lines(self) -> int:
        """Lines of tokens, as far as they are set."""
        return len(self._laid.lines.lines)

    def show(self, tokens: Sequence[GeneratedToken]) -> None:
        """Shows these tokens: those that are new behind the others where it only grew, all anew otherwise.

        Args:
            tokens: Kept, not copied: call it again when there are more or fewer of them.
        """
        self._tokens = tokens
        laid = (self._anew or self._laid).tokens
        if len(laid) > len(tokens) or (laid and laid[-1] is not tokens[len(laid) - 1]):
            self.lay_out_anew()
        else:
            self._go_on()

    def lay_out_anew(self) -> None:
        """Sets all tokens in lines again: their figures, the measure or the width are others.

        What is on show stays until that is done.
        """
        self._anew = _Laid(TokenLines(self._width))
        self._go_on()

    @property
    def marks(self) -> Set[int]:
        """The tokens that would have come out differently."""
        return self._marked

    def mark(self, indices: Collection[int]) -> None:
        """Marks tokens that would have come out differently; none takes the marks away."""
        if self._marked != (marked := frozenset(indices)):
            self._marked = marked
            self.lay_out_anew()

    def show_found(self, indices: Collection[int]) -> None:
        """Marks what a search found."""
        self._found = frozenset(indices)
        self.refresh()

    def line_region(self, index: int) -> Region:
        """Where a token's line stands, within the widget."""
        line_of = self._laid.lines.line_of
        return Region(0, line_of[index] if index < len(line_of) else 0, 1, 1)

    # Drawing

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._width:
            self._width = event.size.width
            self.lay_out_anew()

    def render_line(self, y: int) -> Strip:
        width, styles, lines = self.size.width, self._styles(), self._laid.lines.lines
        if y >= len(lines):
            text = fit(one_line(self.footer or ""), width) if y == len(lines) else " " * width
            return Strip([Segment(text, styles["footer"])], width)
        current = self.current if self.active or self.has_focus else None
        segments: list[Segment] = []
        used = 0
        for fragment in lines[y]:
            index = fragment.token
            level = self._laid.levels[index]
            if index == current:
                name = "selected"
            elif index in self._marked:
                name = "marked"
            elif index in self._found:
                name = "found"
            else:
                name = "unknown" if level is None else _LEVELS[level]
            style = styles[name]
            segments.append(Segment(fragment.text, style + _FORCED if self._laid.tokens[index].forced else style))
            used += fragment.width
        segments.append(Segment(" " * max(0, width - used), styles["footer"]))
        return Strip(segments, max(used, width)).crop(0, width)

    def watch_selected(self) -> None:
        self._redraw_current()

    def watch_active(self) -> None:
        self._redraw_current()

    def watch_measure(self) -> None:
        self.lay_out_anew()

    def watch_footer(self) -> None:
        self._fit_height()
        self.refresh()

    def on_focus(self) -> None:
        self._redraw_current()

    def on_blur(self) -> None:
        self._redraw_current()

    # Mouse and keys

    def on_click(self, event: events.Click) -> None:
        event.stop()
        index = self._laid.lines.at(event.x, event.y)
        if index is not None:
            self.select(index)

    def action_move(self, step: int) -> None:
        current = self.current
        if current is None or not 0 <= current + step < len(self._tokens):
            self.post_message(self.Left(self, step, None))
        else:
            self.select(current + step)

    def action_move_line(self, step: int) -> None:
        current = self.current
        lines = self._laid.lines
        if current is None or current >= len(lines.line_of):
            return
        column, line = lines.column_of(current), lines.line_of[current] + step
        # What is longer than a line has lines in which no other token begins.
        while (index := lines.nearest(column, line)) == current or (index is None and 0 <= line < self.n_lines):
            line += step
        if index is None:
            self.post_message(self.Left(self, step, column))
        else:
            self.select(index)

    def action_jump(self, share: float) -> None:
        if self._tokens:
            self.select(min(int(share * len(self._tokens)), len(self._tokens) - 1))

    def action_newest(self) -> None:
        self.select(None)

    def action_ask(self, what: str, step: int) -> None:
        self.post_message(self.Asked(self, what, step))

    def select(self, index: int | None) -> None:
        """Stands on a token, as by key or mouse; None follows the newest."""
        self.selected = index
        self.post_message(self.Selected(self, index))

    def enter(self, step: int, column: int | None) -> None:
        """Stands on the token that a key from the message before (1) or behind (-1) leads to."""
        if column is None:
            self.action_jump(0.0 if step > 0 else 1.0)
            return
        lines = range(self.n_lines) if step > 0 else range(self.n_lines - 1, -1, -1)
        found = (self._laid.lines.nearest(column, line) for line in lines)
        index = next((index for index in found if index is not None), None)
        if index is not None:
            self.select(index)

    # Inside

    def _styles(self) -> Mapping[str, Style]:
        """The style of every part, on the widget's ground; to ask for that again for each line would cost the most."""
        theme = self.app.theme
        if self._styled[0] != theme:
            ground = self.rich_style
            self._styled = (theme, {name: ground + self.part(name) for name in self.PARTS})
        return self._styled[1]

    def _go_on(self) -> None:
        """Sets the next tokens in lines; where many are left, those in a later turn."""
        laid, tokens, marked = self._anew or self._laid, self._tokens, self._marked
        if not self._width or (self._anew is None and len(laid.tokens) == len(tokens)):
            return
        start, stop = len(laid.tokens), min(len(laid.tokens) + LAID_AT_ONCE, len(tokens))
        if self.measure is Measure.TIME and len(tokens) >= 2 * laid.n_paced:
            # It settles early; what is set already keeps the tint it got.
            laid.pace, laid.n_paced = pace_of(tokens), len(tokens)
        levels = [level_of(self.measure, tokens, index, laid.pace) for index in range(start, stop)]
        laid.levels.extend(levels)
        laid.tokens.extend(tokens[start:stop])
        first = laid.lines.extend(
            (tokens[index].piece, _WHAT_IF if index in marked else MARKS[level or 0])
            for index, level in enumerate(levels, start)
        )
        if laid is self._laid:
            self._show_from(first)
        elif stop == len(tokens):
            self._laid, self._anew = laid, None
            self._show_from(0)
        if stop < len(tokens) and not self._going_on:
            self._going_on = True
            self.call_later(self._later)

    def _show_from(self, first: int) -> None:
        """Draws the lines from one on, that of the token that is stood on too where it is the newest."""
        if self.selected is None and self._laid.tokens:
            first = min(first, self._drawn[0])
            self._drawn = self._lines_of(len(self._laid.tokens) - 1)
        self._fit_height()
        self.refresh(Region(0, first, self._width, max(1, self.size.height - first)))

    def _later(self) -> None:
        self._going_on = False
        if self.is_mounted:
            self._go_on()

    def _fit_height(self) -> None:
        # Some lines at a time while more comes, so that most updates move nothing else on the screen.
        height = -(-self.n_lines // _STEP) * _STEP if self.footer is None else self.n_lines + bool(self.footer)
        if not self.styles.height or self.styles.height.value != height:
            self.styles.height = height

    def _redraw_current(self) -> None:
        """Draws the lines of the token that was stood on before, and of the one that is now."""
        current = self.current
        if current is None or current >= len(self._laid.tokens):
            return
        before, self._drawn = self._drawn, self._lines_of(current)
        for first, end in {before, self._drawn}:
            self.refresh(Region(0, first, self._width, end - first))

    def _lines_of(self, index: int) -> tuple[int, int]:
        """The first line of a token and the one behind its last; a long one has several."""
        line_of = self._laid.lines.line_of
        return line_of[index], (line_of[index + 1] + 1 if index + 1 < len(line_of) else self.n_lines)
