"""Set up the virtual environment of this checkout, showing that it moves; nothing to do if it is set up already.

Used by the Makefile: `python .ci/setup_venv.py [EXTRA …]`. Standard library only. What pip says goes into
`.venv/setup.log`; the terminal gets one line that keeps changing, or, where the output is not a terminal, a line now
and then. Compiling llama.cpp takes minutes the first time; pip keeps the result for the next environment.

`CMAKE_ARGS` chooses how llama.cpp is built (`-DGGML_CUDA=on`, …). pip does not see a difference between two builds of
the same version, so other arguments than last time mean building it again, past pip's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
STAMP = VENV / "setup.json"

DEFAULT_CMAKE_ARGS = "-DLLAVA_BUILD=OFF"
"""Without the multimodal library, which this program does not use: a quarter less to compile."""

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
QUIET_INTERVAL_S = 20.0
"""Seconds between lines where the output is not a terminal."""


@dataclass(frozen=True)
class Wanted:
    """What the environment has to be made of."""

    key: str
    """Changes with everything that decides what is installed, except the extras and CMAKE_ARGS."""
    extras: frozenset[str]
    cmake_args: str | None
    """As the user gave them; None leaves an existing build of llama.cpp alone."""


class SetupError(Exception):
    """A step ended badly; its last words are in the log."""


def main(extras: Sequence[str]) -> int:
    """Make the environment, or find it made.

    Returns:
        The exit status.
    """
    wanted = Wanted(_key(), frozenset(extras), os.environ.get("CMAKE_ARGS") or None)
    done = _read_stamp()
    if _is_done(wanted, done):
        return 0
    try:
        _set_up(wanted, done)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetting up was interrupted; the next make goes on from what is done", file=sys.stderr)
        return 130
    return 0


def _set_up(wanted: Wanted, done: dict[str, object]) -> None:
    started = time.monotonic()
    if not _works(PYTHON):
        _create_venv()
    LOG.write_text("", encoding="utf-8")
    known = frozenset(_texts(done.get("extras")))
    extras = sorted(wanted.extras | known)
    target = f".[{','.join(extras)}]" if extras else "."
    print(f"setting up {VENV.name} for {target} (details in {LOG.relative_to(ROOT)})", flush=True)
    built_with = done.get("cmake_args")
    if wanted.cmake_args is not None and wanted.cmake_args != built_with:
        print(f"building llama.cpp with CMAKE_ARGS={wanted.cmake_args}", flush=True)
        _pip("--force-reinstall", "--no-deps", "--no-cache-dir", _requirement("llama-cpp-python"))
        built_with = wanted.cmake_args
    _pip("--editable", target)
    stamp = {"key": wanted.key, "extras": extras, "cmake_args": built_with}
    STAMP.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    print(f"{VENV.name} is ready after {_clock(time.monotonic() - started)}", flush=True)


def _key() -> str:
    # The path is part of it: a moved environment still points to where it was.
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _read_stamp() -> dict[str, object]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _is_done(wanted: Wanted, done: dict[str, object]) -> bool:
    return (
        done.get("key") == wanted.key
        and wanted.extras <= set(_texts(done.get("extras")))
        and wanted.cmake_args in (None, done.get("cmake_args"))
        and os.access(PYTHON, os.X_OK)
    )


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _works(python: Path) -> bool:
    if not os.access(python, os.X_OK):
        return False
    check = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([str(python), "-c", check], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _create_venv() -> None:
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment in {VENV} ({error}): "
            "on Debian and Ubuntu install the package python3-venv, or give another Python: make chat PYTHON=python3.12"
        ) from error


def _requirement(package: str) -> str:
    """The line of pyproject.toml that asks for a package."""
    match = re.search(rf'"({re.escape(package)}[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return match[1] if match else package


def _pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--verbose", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--constraint", "constraints.txt", *arguments]
    environment = {**os.environ, "CMAKE_ARGS": os.environ.get("CMAKE_ARGS") or DEFAULT_CMAKE_ARGS}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    display = Display()
    try:
        for line in _lines(process):
            if line is not None:
                display.read(line)
            display.show()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        display.close()
    if process.wait() != 0:
        raise SetupError(_last_words(display))


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """Lines as they come, with None in between so that the display can go on counting; all of them go to the log."""
    assert process.stdout is not None
    pipe = process.stdout
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with LOG.open("a", encoding="utf-8") as log:
            for line in pipe:
                log.write(line)
                log.flush()
                arrived.put(line.rstrip())
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=0.2)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


class Display:
    """What is going on, as one line that keeps changing; or, without a terminal, as a line now and then."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=12)
        self.errors: list[str] = []
        self._terminal = sys.stdout.isatty()
        self._started = time.monotonic()
        self._phase = "looking for packages"
        self._steps = ""
        self._told = ""
        self._told_at = self._started
        self._turn = 0

    def read(self, line: str) -> None:
        """Learn from a line of pip's."""
        if line.strip():
            self.tail.append(line)
        if re.search(r"\berror\b:|CMake Error|FAILED:|No space left", line) and len(self.errors) < 5:
            self.errors.append(line)
        step = re.search(r"\[(\d+)/(\d+)\]", line)
        if step:
            if self._phase.startswith("compiling"):
                self._steps = f" step {step[1]} of {step[2]}"
            return
        phase = _phase_of(line)
        if phase and phase != self._phase:
            self._phase, self._steps = phase, ""
            if phase == "compiling llama.cpp":
                self._say("llama.cpp is compiled for this machine; the first time this takes a few minutes")

    def show(self) -> None:
        """Draw the line, or print one if enough has changed."""
        now = time.monotonic()
        status = f"{self._phase}{self._steps} · {_clock(now - self._started)}"
        if self._terminal:
            self._turn += 1
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{f'{SPINNER[self._turn % len(SPINNER)]} {status}'[:width]}", end="", flush=True)
        elif now - self._told_at >= (5.0 if self._phase != self._told else QUIET_INTERVAL_S):
            print(f"  {status}", flush=True)
            self._told, self._told_at = self._phase, now

    def close(self) -> None:
        """Leave an empty line behind for whoever prints next."""
        if self._terminal:
            print("\r\033[K", end="", flush=True)

    def _say(self, text: str) -> None:
        self.close()
        print(text, flush=True)


def _phase_of(line: str) -> str | None:
    text = line.strip()
    if text.startswith("Building wheel for llama"):
        return "compiling llama.cpp"
    if text.startswith(("Collecting ", "Processing ")):
        return f"looking for {_package(text)}"
    if text.startswith("Downloading "):
        return f"fetching {_package(text)}"
    if text.startswith("Installing build dependencies"):
        return "preparing to build"
    if text.startswith("Installing collected packages"):
        return f"installing {text.count(',') + 1} packages"
    return None


def _package(text: str) -> str:
    """The file or requirement that a line of pip's is about, short enough for a line of ours."""
    return text.split()[1].rpartition("/")[2].partition("#")[0][:50]


def _last_words(display: Display) -> str:
    lines = ["setting up failed; the last lines were:", *(f"    {line}" for line in display.tail)]
    earlier = [line for line in display.errors if line not in display.tail]
    if earlier:
        lines += ["and before that:", *(f"    {line}" for line in earlier)]
    lines.append("")
    if not (os.environ.get("CXX") or any(shutil.which(name) for name in ("c++", "g++", "clang++"))):
        lines.append("no C++ compiler was found, and llama.cpp needs one: install g++ or clang and try again")
    lines.append(f"the whole log is {LOG}")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
