"""The folder of a run while its training writes to it: the lock, the record, what is left of a killed save."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tui_chat import paths
from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.record import RECORD
from tui_chat.checkpoints.runs import LOCK, Run, read_run
from tui_chat.errors import UsageError
from tui_chat.training.events import Event

ROWS = ".rows"
"""Folder of the ids a training reads, gone when it ends."""

_ATTEMPTS, _PAUSE_S = 5, 0.05
"""Whoever looks whether a training runs holds the lock for a moment."""


class RunFolder:
    """A run that this process writes to.

    Args:
        path: The folder; it is made where it is missing.
        resume: Whether the training goes on from a checkpoint there.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.began = False
        """Whether there is something to keep, should the training end now."""
        run = read_run(path)
        self.start: CheckpointFacts | None = None
        """The checkpoint to go on from."""
        if resume:
            self.start = _newest(run)
        elif run.checkpoints:
            raise UsageError(
                f"{path} holds a training already, up to step {run.checkpoints[-1].step}: go on with --resume, or give "
                "another place with --out"
            )

    def append(self, event: Event) -> None:
        """Add a line to the record. A full disk is not told of here: the next checkpoint will not fit either."""
        line = json.dumps(event.as_json(), ensure_ascii=False) + "\n"
        with contextlib.suppress(OSError), (self.path / RECORD).open("ab+") as file:
            # A process that was killed may have left half a line.
            if file.tell() and not _ends_a_line(self.path / RECORD):
                line = "\n" + line
            file.write(line.encode())


@contextmanager
def opened(path: Path, *, resume: bool) -> Iterator[RunFolder]:
    """The run's folder, locked against a second training and cleared of half-written things.

    Raises:
        UsageError: Another training writes to it, or there is, or is not, a checkpoint to go on from.
        StorageError: The folder cannot be made or written.
    """
    if resume and not path.is_dir():
        raise UsageError(f"{path}: there is no training to go on with; leave --resume away to begin one")
    paths.ensure_dir(path)
    with (path / LOCK).open("a") as lock:
        _take(lock, path)
        folder = RunFolder(path, resume=resume)
        _clear(path)
        if not resume:
            # Left by a training that ended before its first checkpoint.
            (path / RECORD).unlink(missing_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(path / ROWS, ignore_errors=True)
            if not (folder.began or resume):
                _discard(path)


def _take(lock: IO[str], path: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if attempt == _ATTEMPTS - 1:
                raise UsageError(
                    f"a training runs in {path} already: wait until it ends, or give another place with --out"
                ) from error
            time.sleep(_PAUSE_S)


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
    for left in (*path.glob(".step-*"), path / ROWS):
        shutil.rmtree(left, ignore_errors=True)


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
