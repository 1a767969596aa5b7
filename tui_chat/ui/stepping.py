"""Step mode: whether answers wait before their tokens, and where a run stops by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui_chat.engine.breakpoints import Breakpoint, parse_breakpoint
from tui_chat.engine.stepping import StepControl

if TYPE_CHECKING:
    from tui_chat.engine.types import TokenTrace
    from tui_chat.ui.ports import Worker


class Stepping:
    """What a person wants of the answers to come, and the control of the one under way.

    Args:
        worker: Writes the answers.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.on = False
        """Whether answers wait before each token."""
        self.breakpoints: tuple[Breakpoint, ...] = ()
        """Where a run stops; one that holds is enough."""
        self.control: StepControl | None = None
        """What decides on the tokens of the answer under way; None where nothing has it wait."""

    def begin(self) -> StepControl | None:
        """Gives the control of an answer that begins now."""
        wanted = self.on or self.breakpoints
        self.control = StepControl(stepping=self.on, until=self._until()) if wanted else None
        return self.control

    def turn(self, *, on: bool) -> None:
        """Turns step mode on or off, for an answer under way too: it waits before its next token, or runs on."""
        self.on = on
        if not on:
            self.run()
        elif self.control is not None:
            self.control.pause()
        else:
            self._reach_out()

    def run(self) -> bool:
        """Lets the answer under way run, to its end or to a breakpoint; False where it did not wait."""
        return self.control is not None and self.control.run(self._until())

    def stop_at(self, breakpoints: Sequence[Breakpoint]) -> None:
        """Has runs stop at these breakpoints and no others, that of the answer under way too."""
        self.breakpoints = tuple(breakpoints)
        if self.control is not None:
            self.control.stop_at(self._until())
        elif self.breakpoints:
            self._reach_out()

    def held_by(self, trace: TokenTrace) -> Breakpoint | None:
        """The breakpoint that holds for a token, if one does."""
        return next((found for found in self.breakpoints if found.hit(trace)), None)

    def _reach_out(self) -> None:
        if (control := self.begin()) is not None:
            self._worker.set_steps(control)

    def _until(self) -> Breakpoint | None:
        if len(self.breakpoints) < 2:
            return self.breakpoints[0] if self.breakpoints else None
        return parse_breakpoint(" or ".join(f"({found.source})" for found in self.breakpoints))
