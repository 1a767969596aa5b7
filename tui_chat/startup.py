"""Marks on the way from process start to the first answer, for `tui-chat doctor --startup`.

A parent process that wants to measure sets `TUI_CHAT_STARTUP_MARKS` to a file and `TUI_CHAT_T0` to the time, in seconds
since the epoch, at which it starts this one. Without them a mark costs one look into the environment.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

MARKS_VARIABLE = "TUI_CHAT_STARTUP_MARKS"
"""Environment variable naming the file that the marks are appended to."""

T0_VARIABLE = "TUI_CHAT_T0"
"""Environment variable holding the time the process was started, in seconds since the epoch."""


def mark(name: str) -> None:
    """Append `{"mark": name, "t": seconds since process start}` to the file of marks, if one is asked for."""
    target = os.environ.get(MARKS_VARIABLE)
    if not target:
        return
    now = time.time()
    # A measurement that cannot be written must not disturb what it measures.
    with suppress(OSError, ValueError), open(target, "a", encoding="utf-8") as file:
        elapsed_s = now - float(os.environ.get(T0_VARIABLE, "nan"))
        file.write(json.dumps({"mark": name, "t": round(elapsed_s, 4)}) + "\n")
