"""The help: every key and what it does, with the names to rebind them by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_chat.display.cells import fit
from tui_chat.language import _
from tui_chat.ui.keys import KeyRow


class HelpScreen(ModalScreen[None]):
    """A panel over the chat; Esc or F1 closes it.

    Args:
        rows: The keys to show.
    """

    DEFAULT_CSS = """
    HelpScreen { align: right top; background: $background 60%; }
    HelpScreen > VerticalScroll {
        width: 70; max-width: 100%; height: 1fr; background: $surface; border: round $primary; padding: 0 2;
        border-title-color: $primary; border-title-style: bold; border-subtitle-color: $muted;
    }
    HelpScreen Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q", "dismiss", "Close")]

    def __init__(self, rows: Sequence[KeyRow]) -> None:
        super().__init__()
        self._rows = list(rows)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as panel:
            panel.border_title = _("Keys")
            panel.border_subtitle = _("Esc closes · /help lists the commands")
            yield Static(self._table())

    def _table(self) -> Content:
        parts: list[tuple[str, str]] = []
        for group, rows in groupby(self._rows, key=lambda row: row.group):
            parts.append((f"\n{_(group)}\n", "bold $primary"))
            for row in rows:
                parts.append((f"  {fit(row.keys, 16)}", "bold $foreground"))
                parts.append((f" {fit(_(row.description), 17)}", "$foreground"))
                parts.append((f" {row.id}\n", "$muted"))
        parts.append(("\n" + _("The names on the right are those of ui.keys in the settings file.") + "\n", "$muted"))
        return Content.assemble(*parts)
