"""What a model wrote at several steps of its training, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_chat.checkpoints.record import Sample
from tui_chat.display.text import visible
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.screens.training_keys import SAMPLE_BINDINGS

MAX_SAMPLES = 400
"""Older ones are not shown."""


class SampleList(Painted, ScrollView, can_focus=True):
    """Samples by step, the prompt set off from what the model wrote. ←/→ narrow them down to one prompt.

    What is read stays in place when newer ones come in above it.
    """

    DEFAULT_CSS = """
    SampleList { height: 1fr; scrollbar-size-vertical: 1; overflow: hidden auto; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "step": Paint("muted", bold=True),
        "prompt": Paint("accent", bold=True),
        "text": Paint("foreground"),
        "empty": Paint("muted"),
    }
    BINDINGS: ClassVar[list[BindingType]] = SAMPLE_BINDINGS

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples: tuple[Sample, ...] = ()
        self._prompt: str | None = None
        self._rows: list[Line] = []
        self._wrapped: dict[Sample, list[Line]] = {}
        self._wrapped_for: tuple[object, ...] = ()
        self.border_title = "samples"

    def show(self, samples: Sequence[Sample], *, same_run: bool) -> None:
        """Shows these samples, given oldest first.

        Args:
            samples: All of them.
            same_run: Whether they are those shown before and perhaps more.
        """
        fresh = tuple(samples[-MAX_SAMPLES:])
        if same_run and fresh == self._samples:
            return
        self._samples = fresh
        if not same_run or self._prompt not in self._prompts():
            self._prompt = None
        self._lay_out(keep_place=same_run)

    def on_resize(self, event: events.Resize) -> None:
        self._lay_out(keep_place=True)

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y == 0 and (width, self.app.theme) != self._wrapped_for:
            # Where one layout follows another at once, the event of the last one may have come before its size.
            self.call_later(self._lay_out, keep_place=True)
        row = y + self.scroll_offset.y
        if not self._rows and row == 0:
            hint = "what the model writes as it learns appears here"
            return Line().add(hint, self.part("empty")).strip(width, self.rich_style)
        line = self._rows[row] if row < len(self._rows) else Line()
        return line.strip(width, self.rich_style)

    def action_prompt(self, step: int) -> None:
        choices: list[str | None] = [None, *self._prompts()]
        self._prompt = choices[(choices.index(self._prompt) + step) % len(choices)]
        self._lay_out(keep_place=False)

    def _prompts(self) -> list[str]:
        return list(dict.fromkeys(sample.prompt for sample in self._samples))

    def _lay_out(self, *, keep_place: bool) -> None:
        width = self.scrollable_content_region.width
        prompts = self._prompts()
        self._entitle(prompts)
        if not width:
            return
        if self._wrapped_for != (width, self.app.theme):
            self._wrapped_for, self._wrapped = (width, self.app.theme), {}
        shown = [sample for sample in self._samples if self._prompt in (None, sample.prompt)]
        rows: list[Line] = []
        for step, group in groupby(sorted(shown, key=lambda sample: -sample.step), key=lambda sample: sample.step):
            rows.append(Line().add(f"step {step:,}", self.part("step")))
            for sample in group:
                rows += self._wrap(sample, width)
        above = len(rows) - len(self._rows)
        self._rows = rows
        self._wrapped = {sample: lines for sample, lines in self._wrapped.items() if sample in shown}
        place = self.scroll_offset.y
        self.virtual_size = Size(width, max(1, len(rows)))
        if not keep_place:
            self.scroll_to(y=0, animate=False, force=True)
        elif place and above > 0:
            self.scroll_to(y=place + above, animate=False, force=True)
        self.refresh()

    def _entitle(self, prompts: list[str]) -> None:
        title = "samples"
        if self._prompt is not None:
            title = f"samples · prompt {prompts.index(self._prompt) + 1} of {len(prompts)} · ←→"
        elif len(prompts) > 1:
            title = "samples · ←→ one prompt at a time"
        if self.border_title != title:
            self.border_title = title

    def _wrap(self, sample: Sample, width: int) -> list[Line]:
        lines = self._wrapped.get(sample)
        if lines is None:
            prompt, text = visible(sample.prompt), visible(sample.text)
            whole = Text(prompt, self.part("prompt"), tab_size=4, end="")
            whole.append(text, self.part("text"))
            lines = []
            for wrapped in whole.wrap(self.app.console, width, overflow="fold", tab_size=4):
                line = Line()
                for segment in wrapped.render(self.app.console):
                    line.add(segment.text, segment.style)
                lines.append(line)
            self._wrapped[sample] = lines
        return lines
