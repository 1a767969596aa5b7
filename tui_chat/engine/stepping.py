"""Token by token: what a person says to a generation that waits before each token.

The generation offers the coming token (`TokenPending`) and sleeps until something is decided, the settings change or
the answer is stopped. Only a token that is on offer can be decided on: what comes too early or twice is not taken, so
that no order meets a token it was not meant for.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum, auto

from tui_chat.engine.breakpoints import Breakpoint
from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.types import TokenTrace


class Step(Enum):
    """What to do with the token on offer."""

    DRAW = auto()
    """Take it."""
    PICK = auto()
    """Take another one in its place."""
    BAN = auto()
    """Draw again without a candidate."""
    BACK = auto()
    """Withdraw the token before it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, and the token it names."""

    step: Step
    token: int | None = None


_DRAW = Decision(Step.DRAW)


class StepControl:
    """Given to a generation, and used from any thread while it runs. It may serve several answers, one after another.

    Args:
        stepping: Wait before each token; otherwise run, until `pause` or the breakpoint.
        until: Where the run stops by itself.
    """

    def __init__(self, *, stepping: bool = True, until: Breakpoint | None = None) -> None:
        self._changed = threading.Condition()
        self._stepping, self._until = stepping, until
        self._offered = False
        self._woken = False
        self._decision: Decision | None = None

    @property
    def stepping(self) -> bool:
        """Whether it waits before each token."""
        return self._stepping

    @property
    def breakpoint(self) -> Breakpoint | None:
        """Where a run stops by itself."""
        return self._until

    # For people. Each tells whether there was a token on offer that nobody had decided on.

    def draw(self) -> bool:
        """Take the token on offer, and wait before the next."""
        return self._decide(_DRAW)

    def pick(self, token: int) -> bool:
        """Take this token instead."""
        return self._decide(Decision(Step.PICK, token))

    def ban(self, token: int) -> bool:
        """Draw again at this place without this token; at later places it may come again."""
        return self._decide(Decision(Step.BAN, token))

    def back(self) -> bool:
        """Withdraw the last token that this generation wrote, and wait there."""
        return self._decide(Decision(Step.BACK))

    def run(self, until: Breakpoint | None = None) -> bool:
        """Take the token on offer and go on, to the end or to the next token that a breakpoint holds for."""
        with self._changed:
            self._stepping, self._until = False, until
            return self._decide(_DRAW)

    def pause(self) -> None:
        """Wait before the next token."""
        with self._changed:
            self._stepping = True

    def stop_at(self, until: Breakpoint | None) -> None:
        """Let a run stop by itself at another breakpoint, or at none; what is on offer stays so."""
        with self._changed:
            self._until = until

    # For the generation.

    def stops_at(self, trace: TokenTrace) -> bool:
        """Whether to wait before this token; a breakpoint that holds brings stepping back."""
        with self._changed:
            if not self._stepping and self._until is not None and self._until.hit(trace):
                self._stepping = True
            return self._stepping

    def offer(self) -> None:
        """A token can be decided on from now on: call it before the token is shown."""
        with self._changed:
            self._offered, self._decision = True, None

    def wait(self) -> Decision | None:
        """Sleep until there is a decision; None when it was woken by a stop or by other settings."""
        with self._changed:
            self._changed.wait_for(lambda: self._decision is not None or self._woken)
            decision, self._decision = self._decision, None
            self._offered = self._woken = False
            return decision

    def wake(self) -> None:
        """Let the generation look at the settings and at whether it was stopped."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def listen(self, cancel: CancelFlag, live: LiveParams) -> None:
        """Be woken by a stop and by other settings of this generation."""
        cancel.on_change = live.on_change = self.wake

    def _decide(self, decision: Decision) -> bool:
        with self._changed:
            if not self._offered or self._decision is not None:
                return False
            self._decision = decision
            self._changed.notify_all()
            return True
