"""Python's garbage collection, kept away from the moments in which tokens stream or somebody types.

A full collection walks every object there is. An answer's figures are tens of thousands of them, so it would stop the
screen and the engine for a tenth of a second, again and again while they grow.
"""

from __future__ import annotations

import gc

YOUNG = 5_000
"""New objects that are looked through at once: about a millisecond."""

MIDDLE = 10
"""Times that, what has stayed is looked through again."""

NEVER = 1_000_000_000

QUIET_S = 2.0
"""Nothing must have happened for this long before everything is looked through."""


class GarbageRota:
    """Lets only short collections run by themselves; the long ones wait for a quiet moment."""

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None
        self._seen: object = None
        self._since_s = 0.0
        self._clean = True

    def begin(self) -> None:
        """Takes over. What is there by now stays to the end and is not looked at again."""
        self._before = gc.get_threshold()
        gc.set_threshold(YOUNG, MIDDLE, NEVER)
        gc.freeze()
        gc.enable()

    def end(self) -> None:
        """Gives collection back to Python as it was; what was set aside stays so, or leaving would walk all of it."""
        if self._before is not None:
            gc.set_threshold(*self._before)
            self._before = None

    def look(self, state: object, now_s: float, *, busy: bool) -> bool:
        """Collects if it is time to; call it about once a second.

        Args:
            state: Anything that is different after something has happened.
            now_s: Seconds that only grow.
            busy: Something is going on, whatever the state.

        Returns:
            Whether everything was looked through.
        """
        if busy or state != self._seen:
            self._seen, self._since_s, self._clean = state, now_s, False
            return False
        if self._clean or self._before is None or now_s - self._since_s < QUIET_S:
            return False
        self._clean = True
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return True
