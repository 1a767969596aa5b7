"""Step mode: the token that is waited before, what it may be drawn from, and the keys that decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.strip import Strip

from tui_chat.display.cells import bar
from tui_chat.display.figures import count, percent
from tui_chat.display.text import piece_label
from tui_chat.engine.types import TokenPending
from tui_chat.language import N_, _
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint
from tui_chat.ui.widgets.key_hints import KeyHints
from tui_chat.ui.widgets.steering import CandidateBanned, CandidateChosen

STEP_BINDINGS: list[BindingType] = [
    Binding("space", "step('draw')", N_("Draw the token"), show=False, id="step.draw"),
    Binding("backspace", "step('back')", N_("Take last back"), show=False, id="step.back"),
    Binding("r", "step('run')", N_("Run on"), show=False, id="step.run"),
    Binding("slash", "command", N_("Write a command"), show=False, id="step.command"),
]
"""What acts while an answer waits, wherever the focus is, but where something is written."""

_AROUND = 2
"""Lines above and below the candidates: the figures, and the keys."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One that may come. `after` is None where it was cut, or where its figure was not kept."""

    id: int
    before: float | None
    after: float | None
    cut: bool


class StepPanel(KeyHints, can_focus=True):
    """Stands above the composer while an answer waits. ↑/↓ mark a candidate, Enter takes it, `b` bans it.

    A click marks a candidate, a double click takes it; a click on a key presses it.

    Args:
        piece_of: Gives a token's bytes by its id, None while unknown.
    """

    DEFAULT_CSS = """
    StepPanel {
        height: 9; min-height: 5; max-height: 40vh; display: none; padding: 0 1; border: round $line;
        border-title-color: $primary; border-title-style: bold; border-subtitle-color: $muted;
        &:focus { border: round $primary; }
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "head": Paint("muted"),
        "piece": Paint("foreground"),
        "cut": Paint("muted"),
        "drawn": Paint("accent", bold=True),
        "cursor": Paint("token-selected-text", on="token-selected", bold=True),
        "before": Paint("bar-before"),
        "after": Paint("bar-after"),
        "figure": Paint("foreground"),
        "key": Paint("primary", bold=True),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", N_("Candidate above"), show=False, id="step.up"),
        Binding("down", "move(1)", N_("Candidate below"), show=False, id="step.down"),
        Binding("enter", "take", N_("Take it instead"), show=False, id="step.take"),
        Binding("b", "ban", N_("Ban, draw again"), show=False, id="step.ban"),
        # Here with priority, so that the next key finds the composer.
        Binding("slash", "screen.command", N_("Write a command"), show=False, priority=True, id="step.command"),
    ]

    def __init__(self, piece_of: Callable[[int], bytes | None], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._piece_of = piece_of
        self._pending: TokenPending | None = None
        self._candidates: list[_Candidate] = []
        self._cursor = self._top = 0
        self._places: list[tuple[int, int, str]] = []
        """Cells of each key in the last line, and what it does."""

    @property
    def pending(self) -> TokenPending | None:
        """What is waited before; None while the next token is on its way."""
        return self._pending

    def show(self, pending: TokenPending | None, number: int, held_by: str = "") -> None:
        """Shows what is waited before.

        Args:
            pending: None while the next token is on its way: what was there stays, dim.
            number: Which token of the answer it will be, from 1.
            held_by: The breakpoint that stopped the run, if one did.
        """
        self.display = True
        self._pending = pending
        if pending is not None:
            self._candidates = _candidates(pending)
            drawn = (n for n, candidate in enumerate(self._candidates) if candidate.id == pending.token.id)
            self._cursor, self._top = next(drawn, 0), 0
            self._keep_in_view()
            self.border_title = _("step · before token {n}").format(n=number)
            stopped = _("breakpoint: {condition}").format(condition=held_by) if held_by else ""
            self.border_subtitle = Content(stopped)
        self.refresh()

    def hide(self) -> None:
        """Goes away until something is waited for again."""
        self._pending = None
        self.display = False

    @property
    def _n_rows(self) -> int:
        """Candidates on show at once."""
        return max(1, self.size.height - _AROUND)

    def on_resize(self) -> None:
        self._keep_in_view()

    def render_line(self, y: int) -> Strip:
        line = Line()
        if y == 0:
            self._draw_head(line)
        elif y <= self._n_rows:
            place = self._top + y - 1
            if place < len(self._candidates):
                self._draw_row(line, self._candidates[place], place)
        else:
            self._draw_keys(line)
        return line.strip(self.size.width, self.rich_style)

    async def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        if offset is None or not offset.y:
            return
        if offset.y > self._n_rows:
            for start, end, action in self._places:
                if start <= offset.x < end:
                    await self.run_action(action)
            return
        place = self._top + offset.y - 1
        if place < len(self._candidates):
            self._cursor = place
            self.refresh()
            if event.chain == 2:
                self.action_take()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-1)

    def action_move(self, step: int) -> None:
        self._cursor = max(0, min(len(self._candidates) - 1, self._cursor + step))
        self._keep_in_view()
        self.refresh()

    def action_take(self) -> None:
        if self._pending is not None:
            self.post_message(CandidateChosen(self, self._candidates[self._cursor].id))

    def action_ban(self) -> None:
        if self._pending is not None:
            self.post_message(CandidateBanned(self, self._candidates[self._cursor].id))

    def _keep_in_view(self) -> None:
        self._top = max(min(self._top, self._cursor), self._cursor - self._n_rows + 1)

    def _draw_head(self, line: Line) -> None:
        head = self.part("head")
        if self._pending is None or (trace := self._pending.token.trace) is None:
            line.add("…", head)
            return
        left = trace.stages[-1].survivors if trace.stages else None
        parts = [_("entropy {nats:.2f} nats").format(nats=trace.entropy)]
        if left is not None:
            parts.append(_("{n} left to draw from").format(n=count(left)))
        parts.append(_("greedy") if trace.u is None else f"u {trace.u:.4f}")
        line.add(" · ".join(parts), head)

    def _draw_row(self, line: Line, candidate: _Candidate, place: int) -> None:
        pending = self._pending
        waits = pending is not None
        drawn = pending is not None and candidate.id == pending.token.id
        label = max(9, min(20, self.size.width // 4))
        room = max(2, (self.size.width - 2 - label - 2 * 8 - 9) // 2)
        name = "cursor" if waits and place == self._cursor else "drawn" if drawn else "cut" if not waits else "piece"
        piece = self._piece_of(candidate.id)
        text = f"#{candidate.id}" if piece is None else piece_label(piece)
        line.add("▸ " if waits and place == self._cursor else "  ", self.part("key"))
        line.add(text, self.part("cut" if candidate.cut and name == "piece" else name), label).space(1)
        figure = self.part("figure" if waits and candidate.after is not None else "cut")
        if candidate.before is None:
            line.add("–", figure, room + 6)
        else:
            line.add(bar(candidate.before, room), self.part("before"), room).add(
                percent(candidate.before).rjust(6), figure
            )
        line.space(2)
        if candidate.after is None:
            banned = pending is not None and candidate.id in pending.banned
            words = _("✂ banned") if banned else _("✂ cut") if candidate.cut else "–"
            line.add(words, self.part("cut"), room + 6)
        else:
            line.add(bar(candidate.after, room), self.part("after"), room)
            line.add(percent(candidate.after).rjust(6), figure)
        if drawn:
            line.space(1).add(_("◀ drawn"), self.part("drawn"))

    def _draw_keys(self, line: Line) -> None:
        words = {
            "step.draw": (_("draws"), "screen.step('draw')"),
            "step.take": (_("takes ▸"), "take"),
            "step.ban": (_("bans ▸"), "ban"),
            "step.back": (_("back"), "screen.step('back')"),
            "step.run": (_("runs"), "screen.step('run')"),
            "step.command": (_("command"), "screen.command"),
        }
        if self.letters_are_text:
            words = {"panes.next": (_("to these keys"), "screen.next_pane(1)")} | words
        self._places = []
        bound = {one.id: one.key for one in (*STEP_BINDINGS, *self.BINDINGS) if isinstance(one, Binding) and one.id}
        bound["panes.next"] = "tab"
        for name, (word, action) in words.items():
            key = self.app._keymap.get(name, bound[name]).split(",")[0].strip()
            shown = self.app.get_key_display(Binding(key, "", ""))
            if line.width + len(shown) + len(word) + 3 > self.size.width:
                return
            line.add(" · " if line.width else "", self.part("head"))
            start = line.width
            line.add(shown, self.part("key")).space(1).add(word, self.part("head"))
            self._places.append((start, line.width, action))


def _candidates(pending: TokenPending) -> list[_Candidate]:
    """All that are known: those left to draw from, best first, then those that were cut."""
    trace = pending.token.trace
    if trace is None:
        return [_Candidate(pending.token.id, None, pending.p_final, cut=False)]
    raw = {token: math.exp(logit - trace.logsumexp) for token, logit in trace.top} | {trace.id: trace.p}
    final = dict(trace.final)
    if pending.p_final is not None:
        final.setdefault(trace.id, pending.p_final)
    all_known = trace.u is None or not trace.stages or trace.stages[-1].survivors <= len(final)
    ids = [*final, *(token for token in raw if token not in final)]

    def cut(token: int) -> bool:
        return token not in final and token != trace.id and (all_known or token in pending.banned)

    return [_Candidate(token, raw.get(token), final.get(token), cut(token)) for token in ids]
