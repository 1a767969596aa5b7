"""The sampling pane: every setting in groups that fold, the stages of the chain in their order, and a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from tui_chat.config import InferenceSettings
from tui_chat.config.idle import STAGE_FIELDS, acts, idle
from tui_chat.display.cells import side_by_side
from tui_chat.engine.types import DEFAULT_ORDER
from tui_chat.language import N_, _, n_
from tui_chat.ui.widgets.setting_groups import Group, TextSpec, complaint, groups, matches, text_of
from tui_chat.ui.widgets.setting_rows import GroupRow, StageRow, TextRow
from tui_chat.ui.widgets.slider import Slider
from tui_chat.ui.widgets.value_row import ValueRow

SettingRow = ValueRow | TextRow
Row = GroupRow | SettingRow | StageRow

_PAGE = 8


def arranged(shown: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """All stages as the pane lists them: those that run in their order, the others where they stood.

    Args:
        shown: All stages as they are listed now.
        order: Those that are to run, in order.
    """
    if [stage for stage in shown if stage in order] == list(order):
        return tuple(shown)
    found = list(order)
    for place, stage in enumerate(shown):
        if stage not in order:
            before = [other for other in shown[:place] if other in found]
            found.insert(found.index(before[-1]) + 1 if before else 0, stage)
    return tuple(found)


class SettingList(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The rows. It scrolls to the selected one; the keys that scroll by themselves mean something else here."""


class SamplingPanel(Vertical):
    """Shows and changes how the next token is chosen.

    Args:
        defaults: What settings go back to.
        settings: The present ones.
    """

    DEFAULT_CSS = """
    SamplingPanel {
        height: auto;
        & > #settings { height: 1fr; scrollbar-size-vertical: 1; }
        & > .hint { color: $muted; height: auto; min-height: 3; max-height: 6; padding: 0 0 0 2; }
        & > .hint.-bad { color: $error; text-style: bold; }
        & > Input { height: 1; border: none; padding: 0 2; background: $surface; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "row(-1)", N_("Setting above"), show=False, id="sampling.up"),
        Binding("down", "row(1)", N_("Setting below"), show=False, id="sampling.down"),
        Binding("pageup", f"row(-{_PAGE})", N_("Further up"), show=False, id="sampling.page-up"),
        Binding("pagedown", f"row({_PAGE})", N_("Further down"), show=False, id="sampling.page-down"),
        Binding("slash,ctrl+f", "search", N_("Search a setting"), show=False, priority=True, id="sampling.search"),
        Binding("escape", "close_search", N_("End the search"), show=False, id="sampling.end-search"),
        Binding("u,ctrl+z", "step(-1)", N_("Undo a change"), show=False, id="sampling.undo"),
        Binding("U,ctrl+y", "step(1)", N_("Redo a change"), show=False, id="sampling.redo"),
    ]
    KEYS_HINT: ClassVar[str] = N_("←→ change · d default · u undo · / search")

    class Changed(Message):
        """The user chose other values for settings."""

        def __init__(self, panel: SamplingPanel, values: Mapping[str, object]) -> None:
            super().__init__()
            self.panel = panel
            self.values = values

        @property
        def control(self) -> Widget:
            return self.panel

    class Stepped(Message):
        """The last change shall be taken back (-1), or brought again (1)."""

        def __init__(self, panel: SamplingPanel, direction: int) -> None:
            super().__init__()
            self.panel = panel
            self.direction = direction

        @property
        def control(self) -> Widget:
            return self.panel

    class CommandWanted(Message):
        """A setting is changed by a command, which begins like this."""

        def __init__(self, panel: SamplingPanel, line: str) -> None:
            super().__init__()
            self.panel = panel
            self.line = line

        @property
        def control(self) -> Widget:
            return self.panel

    def __init__(
        self, defaults: InferenceSettings, settings: InferenceSettings | None = None, *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._defaults = defaults
        self._settings = settings or defaults
        self._groups = groups(defaults)
        self._folded = {group.name: not group.open and bool(group.title) for group in self._groups}
        self._stages = arranged(DEFAULT_ORDER, self._settings.order)
        self._query = ""
        self._last: Widget | None = None
        self._seed_used: int | None = None
        self._hint = _(self.KEYS_HINT)
        self.border_title = "sampling"

    def compose(self) -> ComposeResult:
        # Rows of folded groups are made when they are first wanted: most never are.
        with SettingList(id="settings"):
            for group in self._groups:
                if group.title:
                    yield GroupRow(group, folded=self._folded[group.name])
                if not self._folded[group.name]:
                    yield from self._rows_of(group)
        yield Static(classes="hint", markup=False)

    def on_mount(self) -> None:
        self.show(self._settings)

    def on_resize(self) -> None:
        self._show_hint()

    # What others ask for

    def show(self, settings: InferenceSettings) -> None:
        """Shows the settings as they are now."""
        self._settings = settings
        reasons = idle(settings)
        for row in self._list.query(ValueRow):
            value = getattr(settings, row.spec.name)
            row.value, row.reason = value, reasons.get(row.spec.name, "")
        for text in self._list.query(TextRow):
            text.value, text.reason = getattr(settings, text.spec.name), reasons.get(text.spec.name, "")
        for head in self._list.query(GroupRow):
            head.summary = self._summary(head.group)
        self._stages = arranged(self._stages, settings.order)
        self._show_stages(reasons)
        self._show_seed()

    def show_seed_used(self, seed: int) -> None:
        """Shows the seed of the answer under way beside an empty seed."""
        self._seed_used = seed
        self._show_seed()

    def focus_first(self) -> None:
        """Moves the focus to the row last used, or the first setting, at once; to a search that finds none."""
        rows = self._visible()
        if not rows:
            self.screen.set_focus(self.query_one(Input))
            return
        first = next((row for row in rows if not isinstance(row, GroupRow)), rows[0])
        row = next((row for row in rows if row is self._last), first)
        self._last = row
        self.screen.set_focus(row)
        self._explain(row)

    # Messages of the rows

    @on(ValueRow.Changed)
    def _value_changed(self, event: ValueRow.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, {event.row.spec.name: event.row.value}))

    @on(ValueRow.Rejected)
    def _rejected(self, event: ValueRow.Rejected) -> None:
        event.stop()
        self._say(event.reason, bad=True) if event.reason else self._explain(event.row)

    @on(TextRow.Changed)
    def _text_defaulted(self, event: TextRow.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, {event.row.spec.name: event.row.default}))

    @on(TextRow.Wanted)
    def _command_wanted(self, event: TextRow.Wanted) -> None:
        event.stop()
        self.post_message(self.CommandWanted(self, event.row.spec.line))

    @on(GroupRow.Toggled)
    async def _toggled(self, event: GroupRow.Toggled) -> None:
        event.stop()
        row = event.row
        self._folded[row.group.name] = row.folded
        if not row.folded:
            await self._make(row.group)
        self._arrange()
        self._explain(row)

    @on(GroupRow.Defaulted)
    def _group_defaulted(self, event: GroupRow.Defaulted) -> None:
        event.stop()
        self._default(event.row.group.fields)

    @on(StageRow.Defaulted)
    def _order_defaulted(self, event: StageRow.Defaulted) -> None:
        event.stop()
        self._default(("order",))

    @on(StageRow.Toggled)
    def _stage_toggled(self, event: StageRow.Toggled) -> None:
        event.stop()
        switched = event.row.stage
        on = [stage for stage in self._stages if (stage in self._settings.order) is not (stage == switched)]
        self.post_message(self.Changed(self, {"order": tuple(on)}))

    @on(StageRow.Moved)
    def _stage_moved(self, event: StageRow.Moved) -> None:
        event.stop()
        stages, place = list(self._stages), self._stages.index(event.row.stage)
        target = min(max(0, place + event.by), len(stages) - 1)
        stages.insert(target, stages.pop(place))
        self._stages = tuple(stages)
        self._show_stages(idle(self._settings))
        event.row.scroll_visible(animate=False)
        order = tuple(stage for stage in stages if stage in self._settings.order)
        if event.done and order != self._settings.order:
            self.post_message(self.Changed(self, {"order": order}))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        # When the pane is hidden, Textual moves the focus from row to row before it leaves: nobody went there.
        if self.is_on_screen and isinstance(event.widget, ValueRow | TextRow | GroupRow | StageRow):
            self._last = event.widget
            self._explain(event.widget)

    # Search

    @on(Input.Changed)
    async def _searched(self, event: Input.Changed) -> None:
        event.stop()
        self._query = event.value.strip()
        for group in self._groups if self._query else ():
            if matches(group, self._query):
                await self._make(group)
        self._arrange()
        if not self._visible():
            self._say(_("no setting is called {query}").format(query=repr(self._query)), bad=True)
        else:
            self._say(_("Enter goes to the first one · Esc ends the search"), bad=False)

    @on(Input.Submitted)
    def _search_entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_row(1)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "search":  # has priority, so that the next key finds the field
            return not isinstance(self.screen.focused, Input)
        if action == "close_search":
            return bool(self.query(Input)) and not any(row.editing is not None for row in self.query(ValueRow))
        return True

    def action_row(self, step: int) -> None:
        rows = self._visible()
        if not rows:
            return
        focused = next((index for index, row in enumerate(rows) if row.has_focus), None)
        if focused is None:
            next((row for row in rows if not isinstance(row, GroupRow)), rows[0]).focus()
        else:
            rows[min(max(0, focused + step), len(rows) - 1)].focus()

    async def action_search(self) -> None:
        if not self.query(Input):
            await self.mount(Input(placeholder=_("part of a name"), compact=True), before=0)
        self.screen.set_focus(self.query_one(Input))

    async def action_close_search(self) -> None:
        await self.query(Input).remove()
        self._query = ""
        self._arrange()
        self.focus_first()

    def action_step(self, direction: int) -> None:
        self.post_message(self.Stepped(self, direction))

    # Inside

    @property
    def _list(self) -> SettingList:
        return self.query_one(SettingList)

    def _rows_of(self, group: Group) -> Iterator[Widget]:
        for spec in group.specs:
            key, value = f"value-{spec.name.replace('_', '-')}", getattr(self._settings, spec.name)
            if isinstance(spec, TextSpec):
                yield TextRow(spec, value, getattr(self._defaults, spec.name), id=key)
            else:
                kind = Slider if spec.track else ValueRow
                yield kind(spec, value, check=partial(complaint, spec.name), id=key)
        if not group.specs:
            yield from (StageRow(stage) for stage in self._stages)

    async def _make(self, group: Group) -> None:
        """Makes the rows of a group, if that was not done yet."""
        head = f"#group-{group.name.replace('_', '-')}"
        there = self._list.query(StageRow) if not group.specs else self._list.query(f"#{self._key(group)}")
        if group.title and not there:
            await self._list.mount_all(self._rows_of(group), after=head)
            self.show(self._settings)

    @staticmethod
    def _key(group: Group) -> str:
        return f"value-{group.specs[0].name.replace('_', '-')}"

    def _arrange(self) -> None:
        """Shows the rows of open groups, or those that the search finds."""
        of_group = {spec.name: group for group in self._groups for spec in group.specs}
        found = {group.name: matches(group, self._query) for group in self._groups}
        for row in self._list.children:
            if isinstance(row, GroupRow):
                row.display = bool(found[row.group.name]) or not self._query
                row.folded = self._folded[row.group.name] and not self._query
            elif isinstance(row, ValueRow | TextRow):
                group = of_group[row.spec.name]
                row.display = row.spec.name in found[group.name] if self._query else not self._folded[group.name]
            elif isinstance(row, StageRow):
                row.display = row.stage in found["order"] if self._query else not self._folded["order"]

    def _visible(self) -> list[Row]:
        return [
            row
            for row in self._list.children
            if row.display and isinstance(row, ValueRow | TextRow | GroupRow | StageRow)
        ]

    def _summary(self, group: Group) -> tuple[str, bool]:
        """What a folded group has to say: what differs from the default, else its first setting."""
        settings, defaults = self._settings, self._defaults
        if not group.specs:
            left, all_stages = len(settings.order), len(DEFAULT_ORDER)
            if settings.order == defaults.order:
                return _("default"), False
            if left < all_stages:
                return n_("{n} of {all} stages", "{n} of {all} stages", left).format(n=left, all=all_stages), True
            return _("another one"), True
        changed = [
            f"{spec.label} {text_of(spec, getattr(settings, spec.name))}"
            for spec in group.specs
            if getattr(settings, spec.name) != getattr(defaults, spec.name)
        ]
        if changed:
            return " · ".join(changed), True
        first = group.specs[0]
        text = text_of(first, getattr(settings, first.name))
        return (text if text in ("off", _("none")) else f"{first.label} {text}"), False

    def _show_stages(self, reasons: Mapping[str, str]) -> None:
        rows = {row.stage: row for row in self._list.query(StageRow)}
        if not rows:
            return
        order, at = self._settings.order, 0
        present = [row.stage for row in self._list.children if isinstance(row, StageRow)]
        if present != list(self._stages):
            for before, stage in zip(self._stages, self._stages[1:], strict=False):
                self._list.move_child(rows[stage], after=rows[before])
        for stage in self._stages:
            at += stage in order
            row = rows[stage]
            row.place = at if stage in order else 0
            reason = reasons.get(STAGE_FIELDS[stage][0], "") if stage in order else ""
            row.acts = stage in order and acts(self._settings, stage) and not reason
            row.note = self._note(stage) if row.acts else reason or (_("does nothing") if stage in order else "")

    def _note(self, stage: str) -> str:
        """The settings of a stage in short."""
        names = STAGE_FIELDS[stage]
        specs = [spec for group in self._groups for spec in group.specs if spec.name in names]
        said = [text_of(spec, getattr(self._settings, spec.name)) for spec in specs]
        return next((text for text in said if text not in ("off", _("none"))), "")

    def _show_seed(self) -> None:
        for row in self._list.query("#value-seed").results(ValueRow):
            used = self._seed_used
            row.note = _("last {seed}").format(seed=used) if row.value is None and used is not None else ""

    def _default(self, names: Sequence[str]) -> None:
        values = {name: getattr(self._defaults, name) for name in names}
        if any(getattr(self._settings, name) != value for name, value in values.items()):
            self.post_message(self.Changed(self, values))

    def _explain(self, row: Row) -> None:
        self._say(f"{row.hint}\n{_(self.KEYS_HINT)}", bad=False)

    def _say(self, text: str, *, bad: bool) -> None:
        self._hint = text
        self.query_one(".hint", Static).set_class(bad, "-bad")
        self._show_hint()

    def _show_hint(self) -> None:
        hint = self.query_one(".hint", Static)
        lines = [side_by_side(line.split(" · "), hint.content_size.width) for line in self._hint.splitlines()]
        hint.update("\n".join(chain.from_iterable(lines)))
