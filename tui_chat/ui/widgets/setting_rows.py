"""The other rows of the sampling pane: headings that fold, settings that are texts, and the stages of the chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_chat.display.text import one_line
from tui_chat.language import N_, _
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.widgets.setting_groups import Group, TextSpec, text_of
from tui_chat.ui.widgets.value_row import ValueRow

_PARTS: Mapping[str, Paint] = {
    "mark": Paint("accent", bold=True),
    "title": Paint("primary", bold=True),
    "label": Paint("muted"),
    "focused": Paint("foreground", bold=True),
    "value": Paint("foreground"),
    "changed": Paint("accent", bold=True),
    "idle": Paint("muted"),
}


_Row = TypeVar("_Row", bound=Widget)


class _OfRow(Message, Generic[_Row]):
    """What a row says of itself."""

    def __init__(self, row: _Row) -> None:
        super().__init__()
        self.row = row

    @property
    def control(self) -> _Row:
        return self.row


class GroupRow(Painted, can_focus=True):
    """The heading of a group: `+ penalties   repeat 1.10 •`. What differs from the default is named where it is folded.

    Args:
        group: Whose heading it is.
        folded: Whether the rows of the group are hidden.
    """

    DEFAULT_CSS = """
    GroupRow { height: 1; }
    """
    PARTS = _PARTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "switch", N_("Fold or unfold"), show=False, id="group.toggle"),
        Binding("right", "fold(False)", N_("Unfold"), show=False, id="group.unfold"),
        Binding("left", "fold(True)", N_("Fold"), show=False, id="group.fold"),
        Binding("delete,d", "default", N_("Group to default"), show=False, id="group.default"),
    ]

    class Toggled(_OfRow["GroupRow"]):
        """The group was folded or unfolded."""

    class Defaulted(_OfRow["GroupRow"]):
        """All settings of the group shall be as by default."""

    folded: reactive[bool] = reactive(True)
    summary: reactive[tuple[str, bool]] = reactive(("", False))
    """What to say of the group in few words, and whether that differs from the default."""

    def __init__(self, group: Group, *, folded: bool) -> None:
        super().__init__(id=f"group-{group.name.replace('_', '-')}")
        self.group = group
        self.set_reactive(GroupRow.folded, folded)

    @property
    def hint(self) -> str:
        """What the row is, in a line."""
        return _("Enter shows what is in it.") if self.folded else _("Enter folds it.")

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        text, changed = self.summary
        line = Line().add("▸ " if self.has_focus else "  ", self.part("mark"))
        line.add("+ " if self.folded else "− ", self.part("label"))
        line.add(_(self.group.title), self.part("focused" if self.has_focus else "title"))
        room = width - line.width - 4
        if self.folded and room > 3:
            shown = text if len(text) <= room else text[: room - 1] + "…"
            line.add(shown.rjust(room + 2), self.part("changed" if changed else "label"))
        line.to(width - 2).add(" •" if changed else "  ", self.part("mark"))
        return line.strip(width, self.rich_style)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_switch()

    def action_switch(self) -> None:
        self.folded = not self.folded
        self.post_message(self.Toggled(self))

    def action_fold(self, folded: bool) -> None:
        if self.folded is not folded:
            self.action_switch()

    def action_default(self) -> None:
        self.post_message(self.Defaulted(self))


class TextRow(Painted, can_focus=True):
    """A setting that is no number: `  bans    however, 42 •`. Enter writes the command that changes it.

    Args:
        spec: What it holds.
        value: What it holds now.
        default: What `d` puts there.
    """

    DEFAULT_CSS = """
    TextRow { height: 1; }
    """
    PARTS = _PARTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", N_("Write the command"), show=False, id="text.edit"),
        Binding("delete,d", "default", N_("Default"), show=False, id="text.default"),
    ]

    class Wanted(_OfRow["TextRow"]):
        """The command that changes it is wanted in the composer."""

    class Changed(_OfRow["TextRow"]):
        """It shall be as by default."""

    value: reactive[object] = reactive(None)
    reason: reactive[str] = reactive("")
    """Why it does nothing; "" where it does something."""

    def __init__(self, spec: TextSpec, value: object, default: object, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.spec = spec
        self.default = default
        self.set_reactive(TextRow.value, value)

    @property
    def hint(self) -> str:
        """What the row is, in a line."""
        return _(self.spec.hint)

    def render_line(self, y: int) -> Strip:
        width, changed = self.size.width, self.value != self.default
        line = Line().add("▸ " if self.has_focus else "  ", self.part("mark"))
        line.add(self.spec.label, self.part("focused" if self.has_focus else "label"), ValueRow.LABEL_WIDTH - 2)
        room = width - line.width - 2
        text = one_line(text_of(self.spec, self.value))
        if self.reason:
            text = f"{self.reason} · {text}"
        text = text if len(text) <= room else text[: max(0, room - 1)] + "…"
        part = "idle" if self.reason else "changed" if changed else "value"
        line.add(text.rjust(room), self.part(part), room)
        line.add(" •" if changed else "  ", self.part("mark"))
        return line.strip(width, self.rich_style)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        if event.chain == 2:
            self.action_edit()

    def action_edit(self) -> None:
        self.post_message(self.Wanted(self))

    def action_default(self) -> None:
        if self.value != self.default:
            self.post_message(self.Changed(self))


class StageRow(Painted, can_focus=True):
    """A stage of the chain in its place: `  3 [x] top_k        40`. Space switches it; it is moved by key or dragged.

    Args:
        stage: Its name.
    """

    DEFAULT_CSS = """
    StageRow { height: 1; }
    StageRow.-dragged { background-tint: $foreground 10%; }
    """
    PARTS = _PARTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("shift+up,K", "move(-1)", N_("Earlier in chain"), show=False, id="stage.earlier"),
        Binding("shift+down,J", "move(1)", N_("Later in chain"), show=False, id="stage.later"),
        Binding("space,enter", "switch", N_("Stage off or on"), show=False, id="stage.toggle"),
        Binding("delete,d", "default", N_("The default order"), show=False, id="stage.default"),
    ]

    class Moved(_OfRow["StageRow"]):
        """The stage shall stand elsewhere in the order."""

        def __init__(self, row: StageRow, by: int, *, done: bool = True) -> None:
            super().__init__(row)
            self.by = by
            """Places, negative for earlier."""
            self.done = done
            """False while it is dragged."""

    class Toggled(_OfRow["StageRow"]):
        """The stage shall run, or no longer."""

    class Defaulted(_OfRow["StageRow"]):
        """The order shall be the default."""

    place: reactive[int] = reactive(0)
    """From 1 among the stages that run; 0 where it does not."""
    note: reactive[str] = reactive("")
    """What it does, in short."""
    acts: reactive[bool] = reactive(True)
    """Whether it does something as the settings stand."""

    _dragging = False

    def __init__(self, stage: str) -> None:
        super().__init__(id=f"stage-{stage.replace('_', '-')}")
        self.stage = stage

    @property
    def hint(self) -> str:
        """What the row is, in a line."""
        return _("Shift+↑↓ or the mouse moves it, Space switches it.")

    def render_line(self, y: int) -> Strip:
        width, on = self.size.width, self.place > 0
        line = Line().add("▸ " if self.has_focus else "  ", self.part("mark"))
        line.add(f"{self.place:>2} " if on else "   ", self.part("label"))
        line.add("[x] " if on else "[ ] ", self.part("value" if on else "label"))
        alive = on and self.acts
        part = "focused" if self.has_focus else "value" if alive else "idle"
        line.add(self.stage, self.part(part), 13)
        room = width - line.width - 2
        line.add(self.note[:room].rjust(room), self.part("value" if alive else "idle"), room)
        return line.strip(width, self.rich_style)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1 and event.x >= 8:
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self and event.y != 0:
            self._dragging = True
            self.add_class("-dragged")
            self.post_message(self.Moved(self, -1 if event.y < 0 else 1, done=False))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self.app.mouse_captured is self:
            self.release_mouse()
        if self._dragging:
            self._dragging = False
            self.remove_class("-dragged")
            self.post_message(self.Moved(self, 0))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        if offset is not None and 5 <= offset.x < 8:
            self.action_switch()

    def action_move(self, by: int) -> None:
        self.post_message(self.Moved(self, by))

    def action_switch(self) -> None:
        self.post_message(self.Toggled(self))

    def action_default(self) -> None:
        self.post_message(self.Defaulted(self))
