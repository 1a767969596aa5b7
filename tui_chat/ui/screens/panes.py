"""A screen of three panes: side by side where there is room, one at a time where there is none."""

from __future__ import annotations

from textual.screen import Screen

from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.pane_tabs import PANES, PaneTabs
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.step_panel import StepPanel
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.token_text import TokenText
from tui_chat.ui.widgets.transcript import Transcript


class PanedScreen(Screen[None]):
    """Which pane is on show, and which has the focus."""

    _pane = "chat"

    def action_pane(self, pane: str) -> None:
        self.show_pane(pane, focus=True)

    def action_next_pane(self, step: int) -> None:
        """Goes to the next pane or the one before. Reports and messages as tokens lie between the composer and that."""
        if self._focused_pane() == "chat" and (self._go_to_steps(step) or self._go_to_report(step)):
            return
        if self.query_one(Inspector).focus_next(step):
            return
        names = [name for name, _, _ in PANES]
        self.show_pane(names[(names.index(self._focused_pane()) + step) % len(names)], focus=True)

    def _go_to_steps(self, step: int) -> bool:
        """Goes from the composer to the panel of step mode, or back from there; False if it is not there to go to."""
        panel = self.query_one(StepPanel)
        if step > 0 and panel.display and isinstance(self.focused, MessageInput):
            panel.focus()
        elif step < 0 and self.focused is panel:
            self._focus_pane("chat")
        else:
            return False
        return True

    def _go_to_report(self, step: int) -> bool:
        """Goes from a report or a message's tokens, or back from the composer, to the next; False if none is there."""
        cards = [node for node in self.query("ReportCard, TokenText") if isinstance(node, ReportCard | TokenText)]
        at = cards.index(self.focused) if isinstance(self.focused, ReportCard | TokenText) else len(cards)
        if at == len(cards) and step > 0:
            return False
        if at + step == len(cards):
            self._focus_pane("chat")
        elif at + step >= 0:
            card = cards[at + step]
            if isinstance(card, ReportCard):
                self.query_one(Transcript).reveal(card)
            card.focus(scroll_visible=False)
        return at + step >= 0

    def _focused_pane(self) -> str:
        focused = self.focused
        if focused is None:
            return self._pane
        if any(isinstance(node, Inspector) for node in focused.ancestors_with_self):
            return "inspector"
        if any(isinstance(node, SamplingPanel) for node in focused.ancestors_with_self):
            return "sampling"
        return "chat"

    def show_pane(self, pane: str, *, focus: bool) -> None:
        """Shows a pane where there is room for one only, and gives it the focus."""
        self._pane = pane
        self.update_classes({f"-pane-{name}": name == pane for name, _, _ in PANES}, animate=False)
        self.query_one(PaneTabs).active = pane
        if focus:
            self._focus_pane(pane)

    def _focus_pane(self, pane: str) -> None:
        # At once, before it is on show: `focus` waits, and the next key would go to the pane that is left.
        if pane == "chat":
            self.query_one(Composer).focus_input()
        elif pane == "inspector":
            self.set_focus(self.query_one(TokenStrip))
        else:
            self.query_one(SamplingPanel).focus_first()
