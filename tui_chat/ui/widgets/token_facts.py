"""The figures of one token: what it is, how likely it was, and what each stage of the sampler chain left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.reactive import reactive
from textual.strip import Strip

from tui_chat.display.figures import count, percent, span, stage_name
from tui_chat.display.text import hex_bytes, piece_label
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted


class TokenFacts(Painted):
    """Four to six lines of figures for one token."""

    DEFAULT_CSS = """
    TokenFacts {
        height: 6;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "name": Paint("muted"),
        "value": Paint("foreground"),
        "token": Paint("accent", bold=True),
        "stage": Paint("primary"),
    }

    token: reactive[GeneratedToken | None] = reactive(None)
    """The token on show."""
    place: reactive[tuple[int, int] | None] = reactive(None)
    """Which token of how many it is, from 1."""
    n_vocab: reactive[int] = reactive(0)
    """Entries of the vocabulary; 0 while unknown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: list[Line] = []
        self._rows_for: object = None

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        key = (self.token, self.place, self.n_vocab, width, self.app.theme)
        if key != self._rows_for:
            self._rows = self._build(width)
            self._rows_for = key
        if y >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        return self._rows[y].strip(width, self.rich_style)

    def _build(self, width: int) -> list[Line]:
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
        rows = (
            (
                ("p", percent(trace.p)),
                ("rank", f"{trace.rank:,}"),
                ("u", "greedy" if trace.u is None else f"{trace.u:.4f}"),
            ),
            (
                ("surprisal", f"{trace.surprisal:.2f}"),
                ("entropy", f"{trace.entropy:.2f}"),
                ("at", span(trace.seconds)),
            ),
        )
        return [head, *(self._figures(row, width) for row in rows), Line(), *self._stages(trace, width)]

    def _figures(self, row: tuple[tuple[str, str], ...], width: int) -> Line:
        line = Line()
        column = 0
        for index, (name, value) in enumerate(row):
            line.to(column).add(name, self.part("name")).space(1).add(value, self.part("value"))
            column = (index + 1) * width // len(row)
        return line

    def _stages(self, trace: TokenTrace, width: int) -> list[Line]:
        name, value, stage_style = self.part("name"), self.part("value"), self.part("stage")
        parts: list[tuple[str, str]] = [("vocab", count(self.n_vocab))] if self.n_vocab else []
        before = self.n_vocab
        for stage in trace.stages:
            if stage.survivors != before or stage.name in {"top_k", "top_p", "min_p"}:
                parts.append((stage_name(stage.name), count(stage.survivors)))
            before = stage.survivors
        lines = [Line()]
        for index, (what, left) in enumerate(parts):
            arrow = "→ " if index else ""
            if lines[-1].width and lines[-1].width + len(arrow) + len(what) + len(left) + 2 > width:
                lines.append(Line())
            line = lines[-1]
            line.add(arrow, name).add(what, stage_style if index else name).space(1)
            line.add(left, value).space(1)
        return lines[:2]
