"""How soon does it stop, and how soon is it gone? Stop in decode and in prefill; quit at any moment.

    python -m tests.benchmarks.latency [GEOMETRY] [--rounds N]

Stop is the time from `EngineWorker.cancel()` to the event that ends the request. Quit is the time from Ctrl+Q, typed
into the app on a pseudo-terminal, to the end of the process.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import queue
import random
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from tui_chat import paths
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    EngineEvent,
    GenerationFinished,
    GenerationRequest,
    Limits,
    LoadOptions,
    ModelLoaded,
    PrefillProgressed,
    TokensGenerated,
)
from tui_chat.engine.worker import EngineWorker
from tui_chat.models.geometry import GEOMETRIES, ensure_model, vocabulary_of
from tui_chat.models.resolve import builtin_path


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("geometry", nargs="?", default="qwen3-0.6b", choices=GEOMETRIES)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    path = ensure_model(GEOMETRIES[options.geometry], vocabulary_of(builtin_path()), paths.cache_dir() / "geometry")
    rows = {
        "stop in decode": stop_times(path, options.rounds, prefill=False),
        "stop in prefill": stop_times(path, options.rounds, prefill=True),
    }
    for label, after_s in (("quit while loading", (0.2, 0.6)), ("quit while it answers", (2.5, 4.0))):
        rows[label] = [quit_time(path, random.uniform(*after_s)) for _ in range(options.rounds)]
    for label, seconds in rows.items():
        worst, middle = max(seconds) * 1e3, sorted(seconds)[len(seconds) // 2] * 1e3
        print(f"{label:<22} median {middle:7.1f} ms   worst {worst:7.1f} ms   of {len(seconds)}")


def stop_times(path: Path, rounds: int, *, prefill: bool) -> list[float]:
    """Seconds from `cancel()` to the end of the request, `rounds` times."""
    events: queue.Queue[EngineEvent] = queue.Queue()
    worker = EngineWorker(events.put)
    worker.start()
    worker.load(path, LoadOptions())
    _wait(events, ModelLoaded)
    seconds = []
    for number in range(rounds):
        worker.generate(_request(number, 1500 if prefill else 20))
        _wait(events, PrefillProgressed if prefill else TokensGenerated)
        _pause(random.uniform(0.05, 0.3))
        start = time.perf_counter()
        worker.cancel()
        _wait(events, GenerationFinished)
        seconds.append(time.perf_counter() - start)
    worker.close(5)
    return seconds


def quit_time(path: Path, after_s: float) -> float:
    """Seconds from Ctrl+Q to the end of the app, typed `after_s` seconds after its first frame."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "tui_chat", "--model", str(path)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    _drain_until(terminal, b"glass-box")
    _drain(terminal, after_s * 0.6)
    os.write(terminal, b"tell me a long story\r")
    _drain(terminal, after_s * 0.4)
    start = time.perf_counter()
    os.write(terminal, b"\x11")
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        _drain(terminal, 0.002)
        if time.perf_counter() - start > 30:
            raise SystemExit(f"the app did not quit within 30 s (process {pid})")
    elapsed = time.perf_counter() - start
    os.close(terminal)
    return elapsed


def _request(number: int, n: int) -> Callable[[Engine], GenerationRequest]:
    def build(engine: Engine) -> GenerationRequest:
        engine.context.rewind(0)
        ids = tuple(random.Random(number).randrange(0, 256) for _ in range(n))
        return GenerationRequest(prompt_ids=ids, limits=Limits(max_tokens=2000, ignore_eos=True))

    return build


def _wait(events: queue.Queue[EngineEvent], kind: type) -> None:
    while not isinstance(events.get(timeout=120), kind):
        pass


def _pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def _drain_until(terminal: int, text: bytes) -> None:
    """Read what the app draws until `text` is in it: before its first frame the terminal keeps Ctrl+Q to itself."""
    seen = b""
    deadline = time.perf_counter() + 30
    while text not in seen:
        if time.perf_counter() > deadline:
            raise SystemExit("the app did not draw its first frame within 30 s")
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 1 << 16)


def _drain(terminal: int, seconds: float) -> None:
    """Read what the app draws, for so long: a full pipe would stop it."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                os.read(terminal, 1 << 16)
            except OSError:
                return


if __name__ == "__main__":
    main()
