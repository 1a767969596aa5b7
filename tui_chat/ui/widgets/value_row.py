"""One named value on one line: stepped by keys and wheel, typed in, put back to its default."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.figures import retyped
from tui_chat.language import N_, _
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted

Check = Callable[[float | None], str | None]
"""Gives why a typed value does not hold, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSpec:
    """What a row holds and how it is stepped."""

    name: str
    """The setting's name, as in `SamplingParams`."""
    label: str
    low: float
    """Least value that stepping reaches."""
    high: float
    """Greatest value that stepping reaches; typed values may go beyond if they hold."""
    step: float
    coarse: float
    """Step with Shift."""
    default: float | None
    integer: bool = False
    curve: float = 1.0
    """1 for an even track; 2 gives small values more room."""
    off: float | None = None
    """The value that switches the setting off, if one does."""
    hint: str = ""
    """What the setting does, in one short sentence."""
    empty: str | None = None
    """What no value means; None where there must be one."""
    track: bool = True

    def show(self, value: float | None) -> str:
        """Gives the value as text."""
        if value is None:
            return self.empty or ""
        if self.off is not None and value == self.off:
            return "off"
        return f"{value:.0f}" if self.integer else f"{value:.2f}"

    def fraction(self, value: float) -> float:
        """Gives where the value stands on the track, 0 to 1."""
        linear = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return float(linear ** (1 / self.curve))

    def at(self, fraction: float) -> float:
        """Gives the value at a place on the track, rounded to a whole step."""
        value = self.low + (self.high - self.low) * min(1.0, max(0.0, fraction)) ** self.curve
        return self.rounded(value)

    def rounded(self, value: float) -> float:
        """Gives the value on the grid of steps, inside the track."""
        clean = round(round(value / self.step) * self.step, 6)
        return min(self.high, max(self.low, clean))


class ValueRow(Painted, can_focus=True):
    """A value on one line: `▸ label   0.70`, with `•` where it differs from its default.

    Args:
        spec: What it holds.
        value: What it holds now.
        check: Judges typed values.
    """

    DEFAULT_CSS = """
    ValueRow {
        height: 1;
    }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "label": Paint("muted"),
        "focused": Paint("foreground", bold=True),
        "mark": Paint("accent", bold=True),
        "value": Paint("foreground"),
        "changed": Paint("accent", bold=True),
        "edit": Paint("background", on="primary"),
        "fill": Paint("bar-after"),
        "knob": Paint("foreground", bold=True),
        "track": Paint("line"),
        "default": Paint("muted"),
        "idle": Paint("muted"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", N_("Less"), show=False, id="value.less"),
        Binding("right", "step(1)", N_("More"), show=False, id="value.more"),
        Binding("shift+left", "coarse(-1)", N_("Much less"), show=False, id="value.much-less"),
        Binding("shift+right", "coarse(1)", N_("Much more"), show=False, id="value.much-more"),
        Binding("home", "end(-1)", N_("Least"), show=False, id="value.least"),
        Binding("end", "end(1)", N_("Most"), show=False, id="value.most"),
        Binding("delete,d", "default", N_("Default"), show=False, id="value.default"),
        Binding("enter", "edit", N_("Type a value"), show=False, id="value.edit"),
    ]

    LABEL_WIDTH: ClassVar[int] = 17
    VALUE_WIDTH: ClassVar[int] = 8

    class Changed(Message):
        """The user chose another value."""

        def __init__(self, row: ValueRow, value: float | None) -> None:
            super().__init__()
            self.row = row
            self.value = value

        @property
        def control(self) -> Widget:
            return self.row

    class Rejected(Message):
        """A typed value does not hold; editing goes on. An empty reason takes the complaint back."""

        def __init__(self, row: ValueRow, reason: str) -> None:
            super().__init__()
            self.row = row
            self.reason = reason

        @property
        def control(self) -> Widget:
            return self.row

    value: reactive[float | None] = reactive(None)
    editing: reactive[str | None] = reactive(None)
    """What has been typed so far; None when not typing."""
    note: reactive[str] = reactive("")
    """Shown before the value, dim."""
    reason: reactive[str] = reactive("")
    """Why the setting does nothing; "" where it does something."""

    def __init__(self, spec: ValueSpec, value: float | None, *, check: Check, id: str | None = None) -> None:
        super().__init__(id=id)
        self.spec = spec
        self._check = check
        self.set_reactive(ValueRow.value, value)

    @property
    def hint(self) -> str:
        """What the setting does; why it does nothing, if so."""
        about = _(self.spec.hint)
        return (
            _("{reason}: it does nothing now. {about}").format(reason=self.reason, about=about)
            if self.reason
            else about
        )

    @property
    def changed(self) -> bool:
        """Whether the value differs from the default."""
        return self.value != self.spec.default

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        line = Line()
        line.add("▸ " if self.has_focus else "  ", self.part("mark"))
        line.add(self.spec.label, self.part("focused" if self.has_focus else "label"), self.LABEL_WIDTH - 2)
        room = self.VALUE_WIDTH - 1
        if self.reason:
            cells = self.track_width(width)
            words = next((words for words in (self.reason, _("idle")) if cell_len(words) < cells), "")
            line.add(f" {words}", self.part("idle"), cells)
        elif self.spec.track:
            self.draw_track(line, width)
        else:
            room += self.track_width(width)
            note = self.note if len(self.note) + 12 < room else ""
            line.add(note, self.part("default"))
            room -= len(note)
        if self.editing is not None:
            line.add(f"{self.editing[-room + 1 :]}▏".rjust(room), self.part("edit"))
        else:
            shown = self.spec.show(self.value)
            part = "idle" if self.reason else "changed" if self.changed else "value"
            line.add(shown.rjust(room), self.part(part))
        line.add(" •" if self.changed else "  ", self.part("mark"))
        return line.strip(width, self.rich_style)

    def draw_track(self, line: Line, width: int) -> None:
        """Draws between label and value; only sliders do."""

    def track_width(self, width: int) -> int:
        """Gives the cells between label and value."""
        return width - self.LABEL_WIDTH - self.VALUE_WIDTH - 1

    def on_key(self, event: events.Key) -> None:
        if self.editing is None:
            if event.character and (event.character.isdigit() or event.character in ".-"):
                event.stop()
                self.editing = event.character
            return
        if event.key == "enter":
            self._commit()
        elif event.key == "escape":
            self._leave()
        elif event.key == "backspace":
            self.editing = self.editing[:-1]
        elif event.character and event.is_printable:
            # The decimal sign of many keyboards: left out, 0,7 would be 7.
            typed = event.character.replace(",", ".")
            if len(self.editing) < 20 and self._may_follow(typed):
                self.editing += typed
        elif event.key not in {"left", "right", "home", "end", "delete"}:
            return  # F2, Tab and the like mean what they mean elsewhere; leaving the row ends the typing
        event.stop()
        event.prevent_default()

    def _may_follow(self, character: str) -> bool:
        """Whether a character can be part of a value: a number, or one of the words that stand for one."""
        words = [word for word in (self.spec.empty, "off" if self.spec.off is not None else None) if word]
        typed = (self.editing or "") + character
        return character in "0123456789.-+e" or any(word.startswith(typed) for word in words)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.editing is None or not hasattr(ValueRow, f"action_{action}")

    def on_blur(self) -> None:
        self._leave()

    def on_click(self, event: events.Click) -> None:
        event.stop()
        if event.chain == 2:
            self.action_default()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_step(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_step(-1)

    def action_step(self, direction: int) -> None:
        self._move(direction * self.spec.step)

    def action_coarse(self, direction: int) -> None:
        self._move(direction * self.spec.coarse)

    def action_end(self, direction: int) -> None:
        self.choose(self.spec.high if direction > 0 else self.spec.low)

    def action_default(self) -> None:
        self.choose(self.spec.default)

    def action_edit(self) -> None:
        self.editing = "" if self.value is None else self.spec.show(self.value).replace("off", f"{self.value or 0:g}")

    def choose(self, value: float | None) -> None:
        """Takes a value as the user's choice."""
        if value != self.value:
            self.value = value
            self.post_message(self.Changed(self, value))

    def _move(self, delta: float) -> None:
        spec = self.spec
        base = self.value if self.value is not None else spec.low
        if delta < 0 and spec.off is not None and spec.off < spec.low >= base:
            self.choose(spec.off)  # below the least value there is none but off
        else:
            self.choose(spec.rounded(base + delta))

    def _commit(self) -> None:
        text = (self.editing or "").strip()
        value: float | None
        try:
            value = self._parse(text)
        except ValueError:
            wanted = "a whole number" if self.spec.integer else "a number"
            number = retyped(text, whole=self.spec.integer)
            hint = "" if number is None else f": write {number}"
            self.post_message(self.Rejected(self, f"{self.spec.label}: {text!r} is not {wanted}{hint}"))
            return
        reason = self._check(value)
        if reason is not None:
            self.post_message(self.Rejected(self, reason))
            return
        self._leave()
        self.choose(value)

    def _parse(self, text: str) -> float | None:
        if not text or text == self.spec.empty:
            if self.spec.empty is None:
                raise ValueError
            return None
        if text == "off" and self.spec.off is not None:
            return self.spec.off
        value = int(text) if self.spec.integer else float(text)
        if not math.isfinite(value):
            raise ValueError
        return value

    def _leave(self) -> None:
        if self.editing is not None:
            self.editing = None
            self.post_message(self.Rejected(self, ""))
