"""The figures of one token: what it is, how likely it was, and what each stage of the sampler chain left.

A click on one of them asks for its formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.figures import count, percent, span, stage_name
from tui_chat.display.text import hex_bytes, piece_label
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted

_EXPLAINED = {
    "penalties": "repeat-penalty",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "temperature": "temperature",
}
"""Stage to the figure it is explained by."""


def _undrawn(token: GeneratedToken) -> str:
    """What chose a token that was not drawn: a person, the best logit, or nothing where it was given."""
    if token.forced:
        return "by hand"
    return "greedy" if token.trace is not None and token.trace.final else "–"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a figure stands: cells `start` to `end` of line `y`."""

    figure: str
    y: int
    start: int
    end: int


class TokenFacts(Painted):
    """Four lines of figures for one token."""

    DEFAULT_CSS = """
    TokenFacts {
        height: 4;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "name": Paint("muted"),
        "value": Paint("foreground"),
        "token": Paint("accent", bold=True),
        "stage": Paint("primary"),
    }

    class Asked(Message):
        """A figure was clicked; `figure` is what `/why` calls it."""

        def __init__(self, facts: TokenFacts, figure: str) -> None:
            super().__init__()
            self.facts = facts
            self.figure = figure

        @property
        def control(self) -> Widget:
            return self.facts

    token: reactive[GeneratedToken | None] = reactive(None)
    """The token on show."""
    given: reactive[bool] = reactive(False)
    """Whether the model was given it: nothing drew it, at no time."""
    place: reactive[tuple[int, int] | None] = reactive(None)
    """Which token of how many it is, from 1."""
    n_vocab: reactive[int] = reactive(0)
    """Entries of the vocabulary; 0 while unknown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: list[Line] = []
        self._rows_for: object = None
        self._places: list[_Place] = []

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        key = (self.token, self.given, self.place, self.n_vocab, width, self.app.theme)
        if key != self._rows_for:
            self._rows = self._build(width)
            self._rows_for = key
        if y >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        return self._rows[y].strip(width, self.rich_style)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        for place in self._places:
            if offset is not None and place.y == offset.y and place.start <= offset.x < place.end:
                self.post_message(self.Asked(self, place.figure))

    def _build(self, width: int) -> list[Line]:
        self._places = []
        name, value = self.part("name"), self.part("value")
        token = self.token
        if token is None:
            return [
                Line().add("No token yet.", value),
                Line().add("Send a message: each token of the answer", name),
                Line().add("appears here with the figures that chose it.", name),
            ]
        label = piece_label(token.piece)
        head = Line().add(label if len(label) < width // 2 else label[: width // 2 - 1] + "…", self.part("token"))
        head.space(2).add(f"id {token.id}", value).space(2).add(hex_bytes(token.piece[:12]), name)
        if len(token.piece) > 12:
            head.add(" …", name)
        if self.place is not None:
            place = f"{self.place[0]}/{self.place[1]}"
            if head.width + len(place) < width:
                head.to(width - len(place)).add(place, name)
        trace = token.trace
        if trace is None:
            return [head, Line(), Line().add("Not inspected: no figures were kept.", name)]
        drawn = (
            ("u", f"{trace.u:.4f}" if trace.u is not None else _undrawn(token), "u"),
            ("at", span(trace.seconds), "first-token"),
        )
        rows = (
            (
                ("p", percent(trace.p), "probability"),
                ("rank", f"{trace.rank:,}", "rank"),
                *((("u", "not drawn", "u"),) if self.given else drawn),
            ),
            (
                ("surprisal", f"{trace.surprisal:.2f} nats", "surprisal"),
                ("entropy", f"{trace.entropy:.2f} nats", "entropy"),
            ),
        )
        lines = [head, *(self._figures(row, width, y) for y, row in enumerate(rows, start=1))]
        return [*lines, *self._stages(trace, width, len(lines))]

    def _figures(self, row: tuple[tuple[str, str, str], ...], width: int, y: int) -> Line:
        line = Line()
        column = 0
        for index, (name, value, figure) in enumerate(row):
            line.to(column).add(name, self.part("name")).space(1).add(value, self.part("value"))
            self._places.append(_Place(figure, y, column, line.width))
            column = (index + 1) * width // len(row)
        return line

    def _stages(self, trace: TokenTrace, width: int, y: int) -> list[Line]:
        """What stages left, as far as a line goes; all of it stands above the columns of the waterfall."""
        name, value, stage_style = self.part("name"), self.part("value"), self.part("stage")
        parts = [("vocab", count(self.n_vocab), "")] if self.n_vocab else []
        before = self.n_vocab
        for stage in trace.stages:
            if stage.survivors != before or stage.name in {"top_k", "top_p", "min_p"}:
                left = ("≥" if stage.at_least else "") + count(stage.survivors)
                parts.append((stage_name(stage.name), left, _EXPLAINED.get(stage.name, "")))
            before = stage.survivors
        line = Line()
        for index, (what, left, figure) in enumerate(parts):
            arrow = "→ " if index else ""
            if line.width and line.width + len(arrow) + len(what) + len(left) + 2 > width:
                break
            start = line.width
            line.add(arrow, name).add(what, stage_style if index else name).space(1)
            line.add(left, value).space(1)
            if figure:
                self._places.append(_Place(figure, y, start, line.width))
        return [line]
