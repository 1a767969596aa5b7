"""The training screen: the runs on this machine, and of one of them the curve, the figures and the samples."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from tui_chat.checkpoints.runs import Run
from tui_chat.display.text import one_line
from tui_chat.errors import TuiChatError
from tui_chat.ui.beside import beside
from tui_chat.ui.screens.sizes import HEIGHTS, MIN_HEIGHT, MIN_WIDTH, WIDTHS, layout_classes
from tui_chat.ui.screens.training_keys import TRAINING_BINDINGS
from tui_chat.ui.trainings import SeenTraining, TrainingShelf
from tui_chat.ui.widgets.loss_curve import LossCurve
from tui_chat.ui.widgets.run_list import RunList
from tui_chat.ui.widgets.sample_list import SampleList
from tui_chat.ui.widgets.training_figures import TrainingFigures

SHORT_HEIGHT = 20
"""Below this there is no room for the curve above the samples."""

LOOK_INTERVAL_S = 1.0
"""Time between two looks at the files."""

HOW_TO_BEGIN = (
    ("No training yet\n\n", "bold $primary"),
    ("Begin one in another terminal:\n\n", "$foreground"),
    ("    tui-chat train --preset demo\n\n", "bold $accent"),
    (
        "It goes from ten paragraphs of text to a model that completes its sentences, in about two minutes. ",
        "$foreground",
    ),
    ("It appears here by itself, and can be talked to while it learns.\n\n", "$foreground"),
    ("    tui-chat train FILE\n\n", "bold $accent"),
    ("trains on a text of your own; ", "$foreground"),
    ("tui-chat train --help", "bold $accent"),
    (" lists the rest.", "$foreground"),
)


@dataclass(frozen=True, slots=True)
class TalkTo:
    """The checkpoint that the user chose to talk to."""

    run: Run
    best: bool
    """The one with the lowest loss, not the newest."""


class TrainingScreen(Screen[TalkTo | None]):
    """Shows trainings and keeps up with the ones that run; its result is the checkpoint to talk to, or None.

    Args:
        shelf: Reads the trainings.
        selected: Folder of the run to show first; None shows the newest, a running one before others.
    """

    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar[list[BindingType]] = TRAINING_BINDINGS

    def __init__(self, shelf: TrainingShelf, selected: Path | None = None) -> None:
        super().__init__()
        self._shelf = shelf
        self._list = RunList(selected)
        self._shown: Path | None = None

    def compose(self) -> ComposeResult:
        self.add_class(*layout_classes(self.app.size), update=False)
        with Vertical(id="frame"):
            yield Static("trainings", id="training-title", markup=False)
            yield Static(Content.assemble(*HOW_TO_BEGIN), id="no-training")
            yield self._list
            with Container(id="training"):
                with Vertical(id="course"):
                    yield TrainingFigures()
                    yield LossCurve()
                yield SampleList()
            yield Footer(show_command_palette=False)
        yield Static(id="too-small", markup=False)

    def on_mount(self) -> None:
        self.run_worker(self._watch(), exit_on_error=True)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.set_class(isinstance(event.widget, SampleList), "-reading")

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        tiny = width < MIN_WIDTH or height < MIN_HEIGHT
        # Before Textual does so itself, or the screen would be laid out by the old classes and, as containers remember
        # their arrangement for a size, stay so.
        present = layout_classes(event.size)
        classes = {name: name in present for _, name in (*WIDTHS, *HEIGHTS)}
        self.update_classes(classes | {"-tiny": tiny, "-short": height < SHORT_HEIGHT}, animate=False)
        if tiny:
            needs = f"needs {MIN_WIDTH}×{MIN_HEIGHT}, is {width}×{height}"
            self.query_one("#too-small", Static).update(f"terminal too small: {needs}")
        else:  # what is hidden loses the focus
            self.call_after_refresh(self._focus_something)

    # Messages and keys

    @on(RunList.Selected)
    def _run_selected(self, event: RunList.Selected) -> None:
        event.stop()
        self._show_selected()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "talk":
            # None greys it out.
            return True if self._list.selected is not None else None
        return True

    def action_back(self) -> None:
        self.dismiss(None)

    def action_talk(self, best: bool) -> None:
        # What is on show may be a key behind the list.
        seen = self._list.selected
        if seen is None:
            return
        if seen.run.latest is None:
            runs = seen.told.state == "running"
            why = "wait until the training saves one" if runs else "it ended before it saved one"
            self._say(seen.run.problem or f"{seen.run.name} has no checkpoint to talk to: {why}")
            return
        self.dismiss(TalkTo(seen.run, best))

    def action_page(self, direction: int) -> None:
        samples = self.query_one(SampleList)
        if direction < 0:
            samples.scroll_page_up(animate=False)
        else:
            samples.scroll_page_down(animate=False)

    # Inside

    async def _watch(self) -> None:
        while True:
            try:
                runs = await beside(self._shelf.look, name="tui-chat-trainings")
            except (TuiChatError, OSError) as error:
                self._say(str(error))
            else:
                if not self.query(RunList):
                    return  # the screen was closed meanwhile, and its widgets went first
                if runs is not None:
                    self._show(runs)
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _show(self, runs: Sequence[SeenTraining]) -> None:
        self.set_class(bool(runs), "-some")
        self.set_class(not runs, "-none")
        self._list.show(runs)
        self._show_selected()
        self.call_after_refresh(self._focus_something)

    def _focus_something(self) -> None:
        if self.focused is None and self._list.selected is not None and not self.has_class("-tiny"):
            self._list.focus()

    def _show_selected(self) -> None:
        seen = self._list.selected
        same = seen is not None and seen.path == self._shown
        self._shown = seen.path if seen is not None else None
        self.query_one(TrainingFigures).seen = seen
        self.query_one(LossCurve).seen = seen
        self.query_one(SampleList).show(seen.told.samples if seen is not None else (), same_run=same)
        self._say(seen.run.problem if seen is not None else "")
        self.refresh_bindings()

    def _say(self, problem: str) -> None:
        line = self.query_one("#training-title", Static)
        line.set_class(bool(problem), "-problem")
        line.update(one_line(problem) if problem else "trainings")
