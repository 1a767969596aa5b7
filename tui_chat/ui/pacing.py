"""How often the screen is drawn while tokens stream: as often as its share of a core allows."""

from __future__ import annotations

import time

FRAME_INTERVAL_S = 1 / 24
"""Least time between two frames while tokens stream; they show the answer and the inspector in turns."""

MAX_FRAME_INTERVAL_S = 0.2
"""Longest time between two of them."""

SCREEN_SHARE = 0.08
"""Part of one core that the screen may take while tokens stream: where a frame costs more, there are fewer."""


class FramePacer:
    """Plans frames by what the last ones cost this thread, in seconds of its processor time."""

    def __init__(self) -> None:
        self._cost_s = 0.0
        self._cpu_s = time.thread_time()

    def next_interval_s(self) -> float:
        """Gives the time until the next frame; call it once a frame."""
        cpu_s = time.thread_time()
        self._cost_s += 0.3 * (cpu_s - self._cpu_s - self._cost_s)
        self._cpu_s = cpu_s
        return min(MAX_FRAME_INTERVAL_S, max(FRAME_INTERVAL_S, self._cost_s / SCREEN_SHARE))
