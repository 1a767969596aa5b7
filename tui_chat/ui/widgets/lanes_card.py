"""The card of a comparison: lanes side by side, one of which can be kept as the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui_chat.language import N_, _
from tui_chat.lessons.report import Report
from tui_chat.ui.widgets.report_card import ReportCard

if TYPE_CHECKING:
    from tui_chat.lessons.compare import Comparison


class LanesCard(ReportCard):
    """Shows a comparison; the keys 1 to 4 keep a lane.

    Args:
        title: Of the card, the command that made it.
        comparison: What is compared.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(str(n), f"keep({n})", N_("Keep this lane"), show=False, id=f"lanes.keep-{n}") for n in range(1, 5)
    ]

    class Kept(Message):
        """A lane shall be the answer; `number` counts from 0."""

        def __init__(self, card: LanesCard, number: int) -> None:
            super().__init__()
            self.card = card
            self.number = number

        @property
        def control(self) -> Widget:
            return self.card

    def __init__(self, title: str, comparison: Comparison) -> None:
        super().__init__(title)
        self.comparison = comparison

    def show(self, report: Report, *, done: bool) -> None:
        super().show(report, done=done)
        if done:
            self._offer()

    def action_keep(self, number: int) -> None:
        if self.comparison.ended and number <= len(self.comparison.runs) and self.comparison.runs[number - 1].tokens:
            self.post_message(self.Kept(self, number - 1))

    def _own_offers(self) -> dict[str, Content]:
        if not self.comparison.ended:
            return {}
        keys = [
            Content.from_markup(f"[@click=keep({n})]$text[/]", text=str(n))
            for n in range(1, len(self.comparison.runs) + 1)
        ]
        return {"keep": Content.assemble(Content(" ").join(keys), " ", _("keep a lane"))}
