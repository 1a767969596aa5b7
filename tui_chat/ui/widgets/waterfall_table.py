"""The waterfall of one token: a row per candidate, a column per stage, however many candidates there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip

from tui_chat.display.cells import bar, wrapped
from tui_chat.display.figures import count
from tui_chat.display.text import one_line, piece_label
from tui_chat.language import N_, _
from tui_chat.ui import waterfall_view as view
from tui_chat.ui.beside import beside
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.widgets.steering import CandidateBanned, CandidateChosen, NothingToChoose, WhatIfToggled

if TYPE_CHECKING:
    from tui_chat.engine.waterfall import Order, Row, Waterfall

PieceOf = Callable[[int], bytes | None]
"""Gives a token's bytes, or None while the vocabulary is not known yet."""


class WaterfallTable(Painted, can_focus=True):
    """Candidates in rows, stages in columns; what a stage removed stays, with ✂, the stage and the arithmetic.

    ↑/↓ go through the candidates, ←/→ through the columns; Enter takes a candidate, `/` looks for one.

    Args:
        piece_of: Gives a token's bytes by its id, None while unknown.
        pieces: Gives the bytes of all tokens, as far as they are known.
    """

    DEFAULT_CSS = """
    WaterfallTable { height: 4fr; min-height: 4; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "head": Paint("muted"),
        "sorted": Paint("primary", bold=True),
        "piece": Paint("foreground"),
        "cut": Paint("muted"),
        "chosen": Paint("accent", bold=True),
        "after": Paint("bar-after"),
        "figure": Paint("foreground"),
        "cursor": Paint("token-selected-text", on="token-selected"),
        "own": Paint("accent"),
        "even": Paint("bar-after"),
        "odd": Paint("bar-before"),
        "mark": Paint("background", on="foreground", bold=True),
        "edit": Paint("background", on="primary"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", N_("Candidate above"), show=False, id="waterfall.up"),
        Binding("down", "move(1)", N_("Candidate below"), show=False, id="waterfall.down"),
        Binding("pageup", "page(-1)", N_("Page up"), show=False, id="waterfall.page-up"),
        Binding("pagedown", "page(1)", N_("Page down"), show=False, id="waterfall.page-down"),
        Binding("home", "edge(0)", N_("Best candidate"), show=False, id="waterfall.first"),
        Binding("end", "edge(1)", N_("Last candidate"), show=False, id="waterfall.last"),
        Binding("left", "scroll_columns(-1)", N_("Stages before"), show=False, id="waterfall.left"),
        Binding("right", "scroll_columns(1)", N_("Stages behind"), show=False, id="waterfall.right"),
        Binding("l", "unit", N_("Logits or p"), show=False, id="waterfall.unit"),
        Binding("s", "sort", N_("Sort raw or final"), show=False, id="waterfall.sort"),
        Binding("c", "chosen", N_("To chosen token"), show=False, id="waterfall.chosen"),
        Binding("slash", "search", N_("Search a token"), show=False, priority=True, id="waterfall.search"),
        Binding("n", "next_found", N_("Next found"), show=False, id="waterfall.next"),
        Binding("enter", "take(True)", N_("Take, go on there"), show=False, id="waterfall.take"),
        Binding("f", "take(False)", N_("Force, stop there"), show=False, id="waterfall.force"),
        Binding("b", "ban", N_("Ban, draw again"), show=False, id="waterfall.ban"),
        Binding("w", "what_if", N_("What if"), show=False, id="waterfall.what-if"),
    ]

    HINT: ClassVar[str] = N_("⏎ take · f force · / find · s sort · l logits · w what if · ←→ stages")

    logits: reactive[bool] = reactive(False)
    """Show logits; probabilities otherwise."""
    by_raw: reactive[bool] = reactive(False)
    """Sort by the model's logits; by what is left after the chain otherwise."""
    typing: reactive[str | None] = reactive(None)
    """What is typed to be searched for; None when nothing is."""

    def __init__(self, piece_of: PieceOf, pieces: Callable[[], Sequence[bytes]], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._piece_of, self._pieces = piece_of, pieces
        self._table: Waterfall | None = None
        self._chosen: int | None = None
        self._title, self._problem, self._given = "", "", False
        self._top, self._cursor, self._offset = 0, 0, 0
        self._found: list[int] = []
        self._sought = ""
        self._rows: tuple[Row, ...] = ()
        self._rows_for: tuple[object, ...] = ()
        self._notes: list[str] = []
        self._feet: list[str | None] = []
        self._feet_for: tuple[object, ...] = ()
        self._marked: list[Row] = []
        self._marked_for: Waterfall | None = None
        self._drawn: list[tuple[Row, bool]] = []
        self._drawn_for: tuple[object, ...] = ()

    # What is on show

    @property
    def table(self) -> Waterfall | None:
        """The waterfall on show."""
        return self._table

    @property
    def candidate(self) -> int | None:
        """The token under the cursor."""
        row = self._row_at(self._cursor)
        return None if row is None else row.id

    def show(
        self,
        table: Waterfall | None,
        chosen: int | None,
        *,
        title: str = "",
        problem: str = "",
        given: bool = False,
    ) -> None:
        """Shows another waterfall; with the same place in the text the cursor stays on its candidate.

        Args:
            table: None where there are no figures.
            chosen: The token that stands there; None where none does yet.
            title: What it is of, in a word or two.
            problem: Why there is none.
            given: The token that stands there was given: nothing was drawn.
        """
        old, kept = self._table, self.candidate
        self._table, self._chosen, self._title, self._problem = table, chosen, title, problem
        self._given = given
        self._rows_for, self._marked_for, self._feet_for, self._drawn_for = (), None, (), ()
        self._notes = [] if table is None else view.notes_of(table, given=given)
        if table is None or old is None or old.position != table.position:
            self._top, self._cursor, self._found, self._sought = 0, 0, [], ""
        elif kept is not None:
            self._go_to(kept)
        self._clamp()
        self.refresh()

    # Drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        self._clamp()  # by the very layout that is drawn
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, line = self.size.width, Line()
        table = self._table
        if table is None:
            words = "".join(wrapped(self._problem, width)[y : y + 1])
            return line.add(words, self.part("head")).strip(width, self.rich_style)
        n_head, n_rows, _feet = self._layout()
        if y < n_head:
            self._draw_head(line, table, width, ("name", "setting", "left")[y] if n_head == 3 else ("name", "left")[y])
        elif y < n_head + n_rows:
            n = y - n_head
            for row, pinned in self._rows_on_show()[n : n + 1]:
                self._draw_row(line, row, table, width, self._top + n == self._cursor, pinned)
        else:
            self._draw_foot(line, table, y - n_head - n_rows, width)
        return line.strip(width, self.rich_style)

    def _layout(self) -> tuple[int, int, int]:
        """Lines of the head, of rows, and beneath them."""
        height = self.size.height
        # The same for all candidates, or the rows would move with the cursor.
        feet = 0 if height < 7 else 2 if height < 9 else 3 if height < 10 else 4 if height < 20 else 6
        head = 1 if height < 7 else 2 if height < 14 else 3
        return head, max(0, height - head - feet), feet

    def _columns(self, width: int) -> tuple[int, int, view.Shown]:
        """Cells of a label, of the bar behind the last column, and the columns that fit."""
        assert self._table is not None
        label = max(9, min(18, width // 4))
        room = width - 2 - label
        shown = view.fitting(len(self._table.columns), room, self._offset)
        return label, min(16, room - len(shown.columns) * view.COLUMN), shown

    def _draw_head(self, line: Line, table: Waterfall, width: int, what: str) -> None:
        label, _bar, shown = self._columns(width)
        if table.known is not None:
            unit = _("best {n} only").format(n=len(table.known))
        else:
            unit = _("logits") if self.logits else _("probability")
        line.space(2).add({"name": self._title, "setting": "", "left": unit}[what], self.part("head"), label)
        last, room = shown.columns[-1], view.COLUMN - 2
        for index in shown.columns:
            column = table.columns[index]
            by = index == (0 if self.by_raw else last)
            text = {
                "name": view.short_name(column.name) + ("▾" if by else ""),
                "setting": view.setting_of(column.name, table.params),
                "left": self._left(table, index),
            }[what]
            hidden = (index == last and shown.more_right) or (index == shown.columns[1] and shown.more_left)
            line.add("…" if hidden and what == "name" else " ", self.part("head"))
            text = text if len(text) > room or text.endswith("▾") else text + " "
            line.add(text.rjust(room + 1), self.part("sorted" if by else "head"), room + 1)
        if what == "left" and width - line.width > 4:
            line.add(_("left"), self.part("head"), max(0, width - line.width))

    def _left(self, table: Waterfall, index: int) -> str:
        """How many candidates stand in a column; about, where they were not counted."""
        column = table.columns[index]
        if index == 0 and table.known is not None:
            return count(len(column.logits))
        return "~" * column.guessed + count(column.survivors)

    def _draw_row(self, line: Line, row: Row, table: Waterfall, width: int, at_cursor: bool, pinned: bool) -> None:
        label, bar_width, shown = self._columns(width)
        own = row.id == self._chosen
        cursor = self.part("cursor") if at_cursor and self.has_focus else None
        piece = self._piece_of(row.id)
        mark = "▸" if own else "◇" if row.id == table.picked and not self._given else " "
        line.add(mark + ("›" if cursor is not None else "⋮" if pinned else " "), self.part("chosen"))
        name = "chosen" if own else "cut" if row.removed is not None else "piece"
        line.add(f"#{row.id}" if piece is None else piece_label(piece), cursor or self.part(name), label)
        for index in shown.columns:
            if row.removed is not None and index >= row.removed:
                line.space(1)
                line.add(view.cut_words(row, table, width - line.width), self.part("cut"), max(0, width - line.width))
                return
            text = view.figure(row, index, logits=self.logits).rjust(view.COLUMN - 2)
            line.space(1).add(text, self.part("figure"))
            line.add(view.moved(row, table.columns[index].name) or " ", self.part("chosen"))
        p = row.p[-1]
        if bar_width > 1 and p is not None:
            line.add(bar(p, bar_width), self.part("own" if own else "after"))

    def _draw_foot(self, line: Line, table: Waterfall, number: int, width: int) -> None:
        if self.typing is not None and number == 0:
            line.add(f"/{self.typing}▏", self.part("edit")).space(1)
            line.add(_("text, id or 0x bytes; Enter finds"), self.part("head"))
            return
        if self._sought and number == 0:
            line.add(self._sought, self.part("chosen"))
            return
        lines = self._foot_lines(table)
        if number < len(lines):
            words = lines[number]
            if words is None:
                self._draw_bar(line, table, width)
            else:
                line.add(words, self.part("head"), width)

    def _foot_lines(self, table: Waterfall) -> list[str | None]:
        """What stands beneath the candidates, of the one under the cursor; see `waterfall_view.foot`."""
        row = self._row_at(self._cursor) if self.has_focus else self._subject()
        _head, _rows, room = self._layout()
        key = (table, row, self.size.width, room)
        if key != self._feet_for:  # the rank counts the whole vocabulary
            given, width = self._given, self.size.width
            self._feet = [] if row is None else view.foot(row, table, self._notes, width, room, given=given)
            self._feet_for = key
        return self._feet

    def _draw_bar(self, line: Line, table: Waterfall, width: int) -> None:
        words = _("greedy") if table.u is None else f"u {table.u:.4f}"
        line.add(_("draw") + " ", self.part("head"))
        row = self._row_at(self._cursor) if self.has_focus else None
        token = row.id if row is not None and row.interval is not None else self._chosen
        for glyph, name in view.draw_bar(table, token, max(4, width - line.width - len(words) - 1)):
            line.add(glyph, self.part(name))
        line.space(1).add(words, self.part("figure"))

    # Rows

    def _order(self) -> Order:
        from tui_chat.engine.waterfall import Order

        return Order.RAW if self.by_raw else Order.FINAL

    def _row_at(self, place: int) -> Row | None:
        table = self._table
        if table is None:
            return None
        _head, n_rows, _feet = self._layout()
        key = (table, self._top, n_rows, self.by_raw)
        if key != self._rows_for:
            self._rows = table.rows(self._top, self._top + max(1, n_rows), self._order())
            self._rows_for = key
        return self._rows[place - self._top] if 0 <= place - self._top < len(self._rows) else None

    def _subject(self) -> Row | None:
        """The token that stands there, or the one that would be drawn."""
        marked = self._marked_rows()
        return marked[-1] if marked else None

    def _marked_rows(self) -> list[Row]:
        """The one that would be drawn, where something was drawn, and behind it the token that stands there."""
        table = self._table
        if table is not None and self._marked_for is not table:
            wanted = dict.fromkeys((self._chosen, None if self._given else table.picked))
            tokens = [token for token in wanted if token is not None and (table.known is None or token in table.known)]
            self._marked, self._marked_for = [table.row(token) for token in reversed(tokens)], table
        return self._marked if table is not None else []

    def _rows_on_show(self) -> list[tuple[Row, bool]]:
        """Those of the window with the marked ones pinned; none is while the cursor shows what is there."""
        table, n_rows = self._table, self._layout()[1]
        if table is None or n_rows == 0:
            return []
        self._row_at(self._top)
        key = (*self._rows_for, self.has_focus)
        if key != self._drawn_for:
            marked = [] if self.has_focus else self._marked_rows()[-n_rows:]
            placed = [(table.place(row.id, self._order()), row) for row in marked]
            self._drawn, self._drawn_for = view.with_pinned(self._rows, placed, self._top), key
        return self._drawn

    def _clamp(self) -> None:
        n = 0 if self._table is None else self._table.n_rows
        _head, n_rows, _feet = self._layout()
        self._cursor = max(0, min(n - 1, self._cursor))
        self._top = max(0, min(self._cursor, max(self._top, self._cursor - max(1, n_rows) + 1)))

    def _go_to(self, token: int) -> None:
        if self._table is None:
            return
        try:
            self._cursor = self._table.place(token, self._order())
        except KeyError:
            self._cursor = 0
        self._clamp()
        self.refresh()

    def _move(self, place: int) -> None:
        self._cursor, self._sought = place, ""
        self._clamp()
        self.refresh()

    # Keys and mouse

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.typing is None or not hasattr(WaterfallTable, f"action_{action}")

    def on_key(self, event: events.Key) -> None:
        if self.typing is None:
            return
        if event.key == "enter":
            text, self.typing = self.typing, None
            self._search(text)
        elif event.key == "escape":
            self.typing = None
        elif event.key == "backspace":
            self.typing = self.typing[:-1]
        elif event.character and event.is_printable:
            self.typing += event.character
        else:
            return
        event.stop()
        event.prevent_default()

    def on_blur(self) -> None:
        self.typing = None

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        head, n_rows, _feet = self._layout()
        if offset is not None and head <= offset.y < head + n_rows:
            self._move(self._top + offset.y - head)
            if event.chain == 2:
                self.action_take(True)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._move(self._cursor + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._move(self._cursor - 3)

    def action_move(self, step: int) -> None:
        self._move(self._cursor + step)

    def action_page(self, direction: int) -> None:
        self._move(self._cursor + direction * max(1, self._layout()[1] - 1))

    def action_edge(self, last: int) -> None:
        self._move((self._table.n_rows - 1) if last and self._table is not None else 0)

    def action_scroll_columns(self, step: int) -> None:
        if self._table is not None:
            width = self.size.width
            room = width - 2 - self._columns(width)[0]
            most = view.most_offset(len(self._table.columns), room)
            self._offset = max(0, min(most, self._offset + step))
            self.refresh()

    def action_unit(self) -> None:
        self.logits = not self.logits

    def action_sort(self) -> None:
        token = self.candidate
        self.by_raw = not self.by_raw
        if token is not None:
            self._go_to(token)

    def action_chosen(self) -> None:
        if self._table is not None:
            self._go_to(self._table.picked if self._chosen is None else self._chosen)

    def action_search(self) -> None:
        self.typing, self._sought = "", ""

    def action_next_found(self) -> None:
        if self._found:
            at = self._found.index(self.candidate) + 1 if self.candidate in self._found else 0
            self._go_to(self._found[at % len(self._found)])

    def action_take(self, goes_on: bool) -> None:
        token = self.candidate
        self.post_message(CandidateChosen(self, token, goes_on=goes_on) if token is not None else self._nothing())

    def action_ban(self) -> None:
        token = self.candidate
        self.post_message(CandidateBanned(self, token) if token is not None else self._nothing())

    def _nothing(self) -> NothingToChoose:
        return NothingToChoose(self, self._problem)

    def action_what_if(self) -> None:
        self.post_message(WhatIfToggled(self))

    def _search(self, text: str) -> None:
        table, pieces = self._table, self._pieces()
        if table is not None and text:
            self.run_worker(self._find(table, text, pieces), exclusive=True, group="search")

    async def _find(self, table: Waterfall, text: str, pieces: Sequence[bytes]) -> None:
        found = await beside(lambda: view.found_by(table, text, pieces), name="tui-chat-search")
        if table is not self._table:
            return
        self._found = found
        if found:
            self._go_to(found[0])
        else:
            self._sought = _("no candidate holds {text}").format(text=one_line(text))
            self.refresh()
