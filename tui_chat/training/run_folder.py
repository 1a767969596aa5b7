"""The folder of a run while its training writes to it: the lock, the record, what is left of a killed save."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tui_chat import paths
from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.record import RECORD
from tui_chat.checkpoints.runs import LOCK, Run, another_place, read_run
from tui_chat.errors import StorageError, UsageError
from tui_chat.training.events import Event

ROWS = ".rows"
"""Folder of the ids a training reads, gone when it ends."""

_ATTEMPTS, _PAUSE_S = 21, 0.05
"""Whoever looks whether a training runs holds the lock for a moment."""

_STEP, _LEFT = re.compile(r"step-\d+"), re.compile(r"\.step-\d{6,}\.(partial|replaced)")
"""Names of checkpoints, and of what a save that was killed leaves."""


class RunFolder:
    """A run that this process writes to.

    Args:
        path: The folder.
        lock: The file in it that this process holds locked.
        resume: Whether the training goes on from a checkpoint there.
    """

    def __init__(self, path: Path, lock: IO[str], *, resume: bool) -> None:
        self.path = path
        self._lock = lock
        self.began = False
        """Whether there is something to keep, should the training end now."""
        self._waiting: list[str] | None = [] if resume else None
        """Lines of the record that are written when the training goes on: one that is refused leaves it as it was."""
        run = read_run(path)
        self.start: CheckpointFacts | None = None
        """The checkpoint to go on from."""
        if resume:
            self.start = _newest(run)
        elif run.checkpoints:
            raise UsageError(
                f"{path} holds a training already, up to step {run.checkpoints[-1].step}: go on with --resume, or give "
                f"{another_place(path)}"
            )
        elif run.problem:
            raise UsageError(f"{path} holds a training that cannot be read ({run.problem}): give {another_place(path)}")

    @property
    def is_held(self) -> bool:
        """Whether the folder is still the one this process locked: somebody may have moved or deleted it."""
        return _is_at(self._lock, self.path / LOCK)

    def check(self) -> None:
        """See that the folder may be written to.

        Raises:
            StorageError: It was taken away.
        """
        if not self.is_held:
            raise StorageError(
                f"{self.path} was moved or deleted while its training ran, so nothing more is saved: begin anew, or "
                "put it back and go on with --resume"
            )

    def append(self, event: Event) -> None:
        """Add a line to the record. A full disk is not told of here: the next checkpoint will not fit either."""
        line = json.dumps(event.as_json(), ensure_ascii=False) + "\n"
        if self._waiting is None:
            self._write(line)
        else:
            self._waiting.append(line)

    def begin(self) -> None:
        """Nothing was refused: from now on there is something to keep."""
        self.began = True
        if self._waiting:
            self._write("".join(self._waiting))
        self._waiting = None

    def _write(self, line: str) -> None:
        if not self.is_held:
            return
        with contextlib.suppress(OSError), (self.path / RECORD).open("ab+") as file:
            # A process that was killed may have left half a line.
            if file.tell() and not _ends_a_line(self.path / RECORD):
                line = "\n" + line
            file.write(line.encode())


@contextmanager
def opened(path: Path, *, resume: bool) -> Iterator[RunFolder]:
    """The run's folder, locked against a second training and cleared of half-written things.

    Raises:
        UsageError: Another training writes to it, there is, or is not, a checkpoint to go on from, or the folder holds
            other things than a training.
        StorageError: The folder cannot be made or written.
    """
    if resume and not path.is_dir():
        raise UsageError(f"{path}: there is no training to go on with; leave --resume away to begin one")
    _refuse_others_files(path, resume=resume)
    with _locked(path) as lock:
        folder = RunFolder(path, lock, resume=resume)
        _clear(path)
        if not resume:
            # Left by a training that ended before its first checkpoint.
            (path / RECORD).unlink(missing_ok=True)
        try:
            yield folder
        finally:
            if folder.is_held:
                shutil.rmtree(path / ROWS, ignore_errors=True)
                if not (folder.began or resume):
                    _discard(path)


def _refuse_others_files(path: Path, *, resume: bool) -> None:
    """See, before anything is written, that a folder that is there is empty or a training's."""
    names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    if LOCK in names or any(_STEP.fullmatch(name) for name in names):
        return
    if resume:
        _newest(read_run(path))
    elif names:
        raise UsageError(f"{path} holds files that are not a training's: give {another_place(path)}")


def _locked(path: Path) -> IO[str]:
    """The lock of a run, taken; whoever closes the file lets go of it."""
    for _ in range(_ATTEMPTS):
        paths.ensure_dir(path)
        # The folder or the lock may go at any moment: a training that is refused leaves nothing behind.
        with contextlib.suppress(FileNotFoundError):
            lock = (path / LOCK).open("a")
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(lock, path / LOCK):
                    return lock
            lock.close()
        time.sleep(_PAUSE_S)
    raise UsageError(f"a training runs in {path} already: wait until it ends, or give {another_place(path)}")


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _newest(run: Run) -> CheckpointFacts:
    if run.latest is None:
        why = f" that can be read ({run.problem})" if run.problem else ""
        raise UsageError(f"{run.path}: there is no checkpoint{why} to go on from; leave --resume away to begin anew")
    return run.latest


def _discard(path: Path) -> None:
    """Leave nothing of a run that never began."""
    for name in (RECORD, LOCK):
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()


def _clear(path: Path) -> None:
    for left in path.iterdir():
        if left.name == ROWS or _LEFT.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
