"""The keys of the training screen and of its parts, with the ids that `ui.keys` of the settings may bind them by."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from tui_chat.language import N_

TRAINING_BINDINGS: list[BindingType] = [
    Binding("escape", "back", N_("Chat"), id="training.back"),
    Binding("enter", "talk(False)", N_("Talk to newest"), id="training.newest"),
    Binding("b", "talk(True)", N_("Talk to best"), id="training.best"),
    Binding("tab", "app.focus_next", N_("Runs, samples"), id="training.pane"),
    Binding("pageup", "page(-1)", N_("Samples up"), show=False, priority=True, id="training.page-up"),
    Binding("pagedown", "page(1)", N_("Samples down"), show=False, priority=True, id="training.page-down"),
    Binding("f1", "app.help", N_("Help"), priority=True, id="app.help"),
    Binding("ctrl+p", "app.command_palette", N_("Palette"), show=False, priority=True, id="app.palette"),
    Binding("ctrl+q", "app.quit", N_("Quit"), priority=True, id="app.quit"),
]
"""Those with priority act wherever the focus is."""

RUN_BINDINGS: list[BindingType] = [
    Binding("up", "move(-1)", N_("Run above"), show=False, id="training.up"),
    Binding("down", "move(1)", N_("Run below"), show=False, id="training.down"),
    Binding("home", "first", N_("Newest run"), show=False, id="training.first"),
    Binding("end", "last", N_("Oldest run"), show=False, id="training.last"),
]

SAMPLE_BINDINGS: list[BindingType] = [
    Binding("left", "prompt(-1)", N_("Prompt before"), show=False, id="training.previous-prompt"),
    Binding("right", "prompt(1)", N_("Next prompt"), show=False, id="training.next-prompt"),
]
