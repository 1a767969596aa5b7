"""A demonstration's report in the transcript: a card that is no message, can be folded, copied and saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from tui_chat.display.text import one_line
from tui_chat.engine.control import CancelFlag
from tui_chat.language import N_, _
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.report import Block, Line, Report, Tone, Words
from tui_chat.ui.settled import Settled

_STYLES: dict[Tone, str] = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.DIM: "$muted",
    Tone.ACCENT: "$accent",
    Tone.GOOD: "$success",
    Tone.WARN: "$warning",
    Tone.BAD: "$error bold",
    Tone.CONTROL: "$code italic",
    Tone.EVEN: "",
    Tone.ODD: "$foreground on $panel",
    Tone.HEAT_0: "",
    Tone.HEAT_1: "$success",
    Tone.HEAT_2: "$warning",
    Tone.HEAT_3: "$error",
    Tone.HEAT_4: "$error bold reverse",
}

_CORNERS = 6
"""Cells of a border's line that its text cannot take."""

COPY_WIDTH = 100
"""Cells of a line of what is copied."""


class ReportBody(Settled, Widget):
    """Blocks, drawn for the width there is."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__(classes="report-body")
        self._blocks = blocks
        self._drawn: tuple[int, list[Line]] = (0, [])

    def show(self, blocks: Sequence[Block]) -> None:
        """Shows other blocks."""
        self._blocks = blocks
        self._drawn = (0, [])
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(1, len(self._lines(width)))

    def render(self) -> Content:
        lines = self._lines(self.content_size.width)
        return Content("\n").join(
            [Content.assemble(*((span.text, _STYLES[span.tone]) for span in line)) for line in lines]
        )

    def _lines(self, width: int) -> list[Line]:
        if self._drawn[0] != width:
            self._drawn = (width, draw(self._blocks, width))
        return self._drawn[1]


class ReportCard(Settled, Vertical, can_focus=True):
    """What a demonstration gives, from "under way" to the whole report.

    Args:
        title: Of the card, the command that made it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "fold", N_("Fold"), id="report.fold"),
        Binding("c", "copy", N_("Copy"), id="report.copy"),
        Binding("s,e", "save", N_("Save"), id="report.save"),
        Binding("x,delete", "close", N_("Close"), show=False, id="report.close"),
    ]

    folded: reactive[bool] = reactive(False)
    cancel: reactive[CancelFlag | None] = reactive(None)
    """Stops the demonstration under way; None where none is."""

    class Wanted(Message):
        """Somebody wants the report elsewhere."""

        def __init__(self, card: ReportCard, what: str) -> None:
            super().__init__()
            self.card = card
            self.what = what
            """`copy`, `save` or `close`."""

    def __init__(self, title: str) -> None:
        super().__init__(classes="notice -report report-card")
        self._title = title
        self._status = _("under way …")
        self.report: Report | None = None
        """What there is so far; None while there is nothing."""

    def compose(self) -> ComposeResult:
        yield ReportBody((Words(self._status, Tone.DIM),))
        yield Static(classes="report-foot", markup=False)

    def on_mount(self) -> None:
        self._head()
        self._foot("")
        self._offer()

    @property
    def is_open(self) -> bool:
        """Whether it can show anything: its parts go before it does."""
        return bool(self.query(ReportBody))

    @property
    def text(self) -> str:
        """The report as plain text."""
        return "" if self.report is None else "\n".join(text_of(line) for line in draw(self.report.blocks, COPY_WIDTH))

    def say(self, status: str) -> None:
        """Says how far it is."""
        self._status = status
        if self.report is None:
            self._body.show((Words(status, Tone.DIM),))
        else:
            self._foot(status)

    def show(self, report: Report, *, done: bool) -> None:
        """Shows a report; more will come unless it is done."""
        self.report = report
        self._body.show(report.blocks)
        self._foot("" if done else self._status)

    def note(self, text: str) -> None:
        """Says something about the finished report, beneath it."""
        self._foot(text)

    def fail(self, reason: str) -> None:
        """Says why there is no report, or no more of it."""
        self.set_class(True, "-problem")
        if self.report is None:
            self._body.show((Words(reason),))
        else:
            self._foot(reason)

    def watch_folded(self, folded: bool) -> None:
        self.set_class(folded, "-folded")
        if self.is_mounted:
            self._head()

    def watch_cancel(self) -> None:
        if self.is_mounted:
            self._offer()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        if self.is_mounted:
            self._offer()

    def on_resize(self) -> None:
        self._offer()

    def on_click(self, event: events.Click) -> None:
        if event.chain == 2 or event.y == 0:
            event.stop()
            self.action_fold()

    def action_fold(self) -> None:
        self.folded = not self.folded
        self.call_after_refresh(self.scroll_visible, animate=False)

    def action_copy(self) -> None:
        self.post_message(self.Wanted(self, "copy"))

    def action_save(self) -> None:
        self.post_message(self.Wanted(self, "save"))

    def action_close(self) -> None:
        if self.cancel is not None:
            self.cancel.set()
        self.post_message(self.Wanted(self, "close"))

    @property
    def _body(self) -> ReportBody:
        return self.query_one(ReportBody)

    def _head(self) -> None:
        self.border_title = Content(f"{'▸' if self.folded else '▾'} {one_line(self._title)}")

    def _foot(self, text: str) -> None:
        foot = self.query_one(".report-foot", Static)
        foot.display = bool(text)
        foot.update(Content(one_line(text)))

    def _offer(self) -> None:
        """Names what can be done with the card, with the keys; a click does it as well.

        It stands at the right and keeps its width: the first click gives the focus, and must hit what it was meant for.
        What there is no room for goes, the least important first; the last one stays.
        """
        keys = {
            binding.id: binding.key for binding in ReportCard.BINDINGS if isinstance(binding, Binding) and binding.id
        }
        parts = self._own_offers()
        if self.cancel is not None:
            parts["stop"] = Content(_("{key} stops").format(key=self._key("chat.stop", "escape")))
        if not self.has_focus:
            parts["select"] = Content(_("{key} selects").format(key=self._key("panes.previous", "shift+tab")))
        for action, word in (("fold", _("fold")), ("copy", _("copy")), ("save", _("save")), ("close", _("close"))):
            name = f"report.{action}"
            text = f"{self._key(name, keys[name])} {word}"
            parts[action] = Content.from_markup(f"[@click={action}]$text[/]", text=text)
        line = Content(" · ").join(parts.values())
        for name in ("select", "fold", "save", "copy", "stop"):
            if line.cell_length > self.outer_size.width - _CORNERS and parts.pop(name, None) is not None:
                line = Content(" · ").join(parts.values())
        self.border_subtitle = line

    def _own_offers(self) -> dict[str, Content]:
        """What this card has to offer that others have not."""
        return {}

    def _key(self, name: str, default: str) -> str:
        """The first key of a binding as it is bound now."""
        key = self.app._keymap.get(name, default).split(",")[0].strip()
        return self.app.get_key_display(Binding(key, "", ""))
