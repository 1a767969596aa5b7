"""How long the app takes from process start to its first frame and to a ready model.

The app is started as a child on a pseudo-terminal of its own, with a directory of its own, and is left by Ctrl+Q.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tui_chat import paths, startup
from tui_chat.errors import TuiChatError, UsageError

COLUMNS, LINES = 120, 40
"""Size of the pseudo-terminal."""

COMMAND = (sys.executable, "-m", "tui_chat", "--model", "builtin")

CTRL_Q = b"\x11"

FIRST_FRAME = "first_frame"
MODEL_READY = "model_ready"


@dataclass(frozen=True, slots=True)
class StartupTiming:
    """Seconds of one start."""

    first_frame_s: float
    """From process start to the first frame on the terminal."""
    model_ready_s: float
    """From process start to the built-in model being loaded."""
    quit_s: float
    """From Ctrl+Q to the end of the process."""


def measure_startup(runs: int, timeout_s: float = 60.0) -> list[StartupTiming]:
    """Start the app on the built-in model and leave it again, `runs` times.

    Raises:
        UsageError: This system has no pseudo-terminals.
        TuiChatError: The app did not start, or did not stop.
    """
    if sys.platform == "win32":
        raise UsageError("--startup needs a pseudo-terminal, which this system does not have")
    return [_measure_once(timeout_s) for _ in range(runs)]


def summarise(timings: list[StartupTiming]) -> StartupTiming:
    """The median of each figure."""
    return StartupTiming(
        first_frame_s=median(timing.first_frame_s for timing in timings),
        model_ready_s=median(timing.model_ready_s for timing in timings),
        quit_s=median(timing.quit_s for timing in timings),
    )


def _measure_once(timeout_s: float) -> StartupTiming:
    with tempfile.TemporaryDirectory(prefix="tui-chat-startup-") as directory:
        marks = Path(directory) / "marks.jsonl"
        master, slave = _open_terminal()
        try:
            child = _start(directory, marks, slave)
        finally:
            os.close(slave)
        try:
            return _watch(child, master, marks, timeout_s)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            os.close(master)


def _open_terminal() -> tuple[int, int]:
    # Not at the top: these modules exist on POSIX systems only.
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    return master, slave


def _start(directory: str, marks: Path, terminal: int) -> subprocess.Popen[bytes]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith("TUI_CHAT_") or name in ("COLUMNS", "LINES", "NO_COLOR"))
    }
    environment |= {
        paths.HOME_VARIABLE: directory,
        startup.MARKS_VARIABLE: str(marks),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    environment[startup.T0_VARIABLE] = repr(time.time())
    return subprocess.Popen(
        COMMAND, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )


def _watch(child: subprocess.Popen[bytes], terminal: int, marks: Path, timeout_s: float) -> StartupTiming:
    deadline = time.monotonic() + timeout_s
    shown = b""
    seen: dict[str, float] = {}
    while not {FIRST_FRAME, MODEL_READY} <= seen.keys():
        shown = (shown + _drain(terminal))[-4000:]
        seen = _read_marks(marks)
        if child.poll() is not None:
            raise TuiChatError(f"the app ended by itself with status {child.returncode}: {_last_line(shown)}")
        if time.monotonic() > deadline:
            missing = FIRST_FRAME if FIRST_FRAME not in seen else MODEL_READY
            raise TuiChatError(f"the app did not report {missing} within {timeout_s:g} s")
    quit_at = time.monotonic()
    os.write(terminal, CTRL_Q)
    while child.poll() is None:
        _drain(terminal, wait_s=0.005)
        if time.monotonic() > deadline + timeout_s:
            child.send_signal(signal.SIGTERM)
            raise TuiChatError("the app did not end on Ctrl+Q")
    return StartupTiming(seen[FIRST_FRAME], seen[MODEL_READY], time.monotonic() - quit_at)


def _drain(terminal: int, wait_s: float = 0.02) -> bytes:
    """Take what the app has drawn, so that it never waits for its terminal."""
    ready, _, _ = select.select([terminal], [], [], wait_s)
    if not ready:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux reports the end of the other side of a pseudo-terminal as an input/output error.
        time.sleep(wait_s)
        return b""


def _read_marks(path: Path) -> dict[str, float]:
    """Mark to seconds; a line that is still being written is left for the next look."""
    if not path.exists():
        return {}
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            entry = json.loads(line)
            found.setdefault(entry["mark"], float(entry["t"]))
    return {name: seconds for name, seconds in found.items() if math.isfinite(seconds)}


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("tui-chat: error: ") if lines else "it printed nothing"
