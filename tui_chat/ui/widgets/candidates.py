"""The tokens that were in the running: probability before the sampler chain, and after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual.reactive import reactive
from textual.strip import Strip

from tui_chat.display.cells import bar
from tui_chat.display.figures import percent
from tui_chat.display.text import piece_label
from tui_chat.engine.types import TokenTrace
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted

PieceOf = Callable[[int], bytes | None]
"""Gives a token's bytes, or None while the vocabulary is not known yet."""


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate. `before` is None where the token is not among the best kept; `after` is 0 where it was cut."""

    id: int
    before: float | None
    after: float | None
    chosen: bool


def candidate_rows(trace: TokenTrace, limit: int = 10) -> list[CandidateRow]:
    """Gives the `limit` best before the chain, then those of the `limit` best after it that are not among them.

    The chosen token is always there. `after` is None where the trace does not tell (deep among many survivors).
    """
    raw = {token: math.exp(logit - trace.logsumexp) for token, logit in trace.top}
    final = dict(trace.final)
    survivors = trace.stages[-1].survivors if trace.stages else None
    complete = survivors is not None and survivors <= len(final)
    ids = [token for token, _ in trace.top[:limit]]
    ids += [token for token, _ in trace.final[:limit] if token not in ids]
    if trace.id not in ids:
        ids.append(trace.id)
    rows = []
    for token in ids:
        before = trace.p if token == trace.id else raw.get(token)
        after = final.get(token, 0.0 if complete else None)
        rows.append(CandidateRow(token, before, after, token == trace.id))
    return rows


class CandidateTable(Painted):
    """A row for each candidate, the chosen one marked; cut ones show scissors."""

    DEFAULT_CSS = """
    CandidateTable {
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "head": Paint("muted"),
        "piece": Paint("foreground"),
        "cut": Paint("muted"),
        "chosen": Paint("accent", bold=True),
        "before": Paint("bar-before"),
        "after": Paint("bar-after"),
        "figure": Paint("foreground"),
    }

    trace: reactive[TokenTrace | None] = reactive(None)
    """The token whose candidates are on show."""

    def __init__(self, piece_of: PieceOf, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._piece_of = piece_of
        self._rows: list[CandidateRow] = []

    def watch_trace(self, trace: TokenTrace | None) -> None:
        self._rows = [] if trace is None else candidate_rows(trace)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self.trace is None:
            return Strip.blank(width, self.rich_style)
        if y == 0:
            return self._head(width).strip(width, self.rich_style)
        visible = self._visible_rows()
        if y > len(visible):
            return Strip.blank(width, self.rich_style)
        return self._row(visible[y - 1], width).strip(width, self.rich_style)

    def _visible_rows(self) -> list[CandidateRow]:
        room = max(0, self.size.height - 1)
        if len(self._rows) <= room:
            return self._rows
        shown = self._rows[:room]
        if room and not any(row.chosen for row in shown):
            shown[-1] = next(row for row in self._rows if row.chosen)
        return shown

    def _columns(self, width: int) -> tuple[int, int]:
        """Gives the width of a label and of one bar."""
        label = max(9, min(20, width // 4))
        return label, max(2, (width - 2 - label - 2 * 8) // 2)

    def _head(self, width: int) -> Line:
        label, bar_width = self._columns(width)
        style = self.part("head")
        line = Line().space(2).add("token", style, label)
        return line.space(1).add("before", style, bar_width + 6).space(2).add("after the chain", style, bar_width + 6)

    def _row(self, row: CandidateRow, width: int) -> Line:
        label, bar_width = self._columns(width)
        piece = self._piece_of(row.id)
        text = f"#{row.id}" if piece is None else piece_label(piece)
        cut = row.after == 0
        name = "chosen" if row.chosen else "cut" if cut else "piece"
        line = Line().add("▸ " if row.chosen else "  ", self.part("chosen")).add(text, self.part(name), label).space(1)
        figure = self.part("cut" if cut else "figure")
        if row.before is None:
            line.add("–", figure, bar_width + 6)
        else:
            line.add(bar(row.before, bar_width), self.part("before"), bar_width)
            line.add(percent(row.before).rjust(6), figure)
        line.space(2)
        if cut:
            return line.add("✂ cut", self.part("cut"))
        if row.after is None:
            return line.add("kept", self.part("cut"))
        return line.add(bar(row.after, bar_width), self.part("after"), bar_width).add(
            percent(row.after).rjust(6), figure
        )
