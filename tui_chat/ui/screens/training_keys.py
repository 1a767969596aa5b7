"""The keys of the training screen and of its parts, with the ids that `ui.keys` of the settings may bind them by."""

from __future__ import annotations

from textual.binding import Binding, BindingType

TRAINING_BINDINGS: list[BindingType] = [
    Binding("escape", "back", "Chat", id="training.back"),
    Binding("enter", "talk(False)", "Talk to newest", id="training.newest"),
    Binding("b", "talk(True)", "Talk to best", id="training.best"),
    Binding("tab", "app.focus_next", "Runs, samples", id="training.pane"),
    Binding("pageup", "page(-1)", "Samples up", show=False, priority=True, id="training.page-up"),
    Binding("pagedown", "page(1)", "Samples down", show=False, priority=True, id="training.page-down"),
    Binding("f1", "app.help", "Help", priority=True, id="app.help"),
    Binding("ctrl+p", "app.command_palette", "Palette", show=False, priority=True, id="app.palette"),
    Binding("ctrl+q", "app.quit", "Quit", priority=True, id="app.quit"),
]
"""Those with priority act wherever the focus is."""

RUN_BINDINGS: list[BindingType] = [
    Binding("up", "move(-1)", "Run above", show=False, id="training.up"),
    Binding("down", "move(1)", "Run below", show=False, id="training.down"),
    Binding("home", "first", "Newest run", show=False, id="training.first"),
    Binding("end", "last", "Oldest run", show=False, id="training.last"),
]

SAMPLE_BINDINGS: list[BindingType] = [
    Binding("left", "prompt(-1)", "Prompt before", show=False, id="training.previous-prompt"),
    Binding("right", "prompt(1)", "Next prompt", show=False, id="training.next-prompt"),
]
