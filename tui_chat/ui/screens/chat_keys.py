"""The keys of the chat screen. Each has an id by which `ui.keys` of the settings may bind it to other keys."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from tui_chat.language import N_
from tui_chat.ui.widgets.step_panel import STEP_BINDINGS

CHAT_BINDINGS: list[BindingType] = [
    Binding("escape", "stop", N_("Stop"), id="chat.stop"),
    Binding("ctrl+c", "interrupt", N_("Stop or copy"), show=False, priority=True, id="chat.interrupt"),
    Binding("ctrl+r", "retry", N_("Retry"), priority=True, id="chat.retry"),
    Binding("alt+left", "sibling(-1)", N_("Earlier answer"), show=False, priority=True, id="chat.earlier-answer"),
    Binding("alt+right", "sibling(1)", N_("Later answer"), show=False, priority=True, id="chat.later-answer"),
    Binding("ctrl+t", "fold", N_("Fold thinking"), show=False, priority=True, id="chat.fold"),
    Binding("tab", "next_pane(1)", N_("Panes"), id="panes.next"),
    Binding("shift+tab", "next_pane(-1)", N_("Pane before"), show=False, id="panes.previous"),
    Binding("f2", "pane('chat')", N_("Chat"), show=False, priority=True, id="panes.chat"),
    Binding("f3", "pane('inspector')", N_("Inspector"), show=False, priority=True, id="panes.inspector"),
    Binding("f4", "pane('sampling')", N_("Sampling"), show=False, priority=True, id="panes.sampling"),
    Binding("v", "view", N_("Text or tokens"), show=False, id="view.toggle"),
    Binding("ctrl+o", "view", N_("Text or tokens"), show=False, priority=True, id="view.switch"),
    Binding("pageup", "page(-1)", N_("Page up"), show=False, priority=True, id="transcript.page-up"),
    Binding("pagedown", "page(1)", N_("Page down"), show=False, priority=True, id="transcript.page-down"),
    Binding("f6", "step_mode", N_("Step mode"), show=False, priority=True, id="step.mode"),
    *STEP_BINDINGS,
    Binding("f1", "app.help", N_("Help"), priority=True, id="app.help"),
    Binding("ctrl+p", "app.command_palette", N_("Palette"), priority=True, id="app.palette"),
    Binding("ctrl+q", "app.quit", N_("Quit"), priority=True, id="app.quit"),
]
"""Those with priority act wherever the focus is, and before the next key is looked at."""
