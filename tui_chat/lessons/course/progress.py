"""Which lessons of the course are done, and which one is open: kept in a small file over restarts."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tui_chat import paths
from tui_chat.errors import StorageError, UsageError
from tui_chat.language import _

N_LESSONS = 10

FILE_NAME = "course.json"
"""In the data directory."""


class Progress:
    """How far somebody is in the course.

    Args:
        path: A file of JSON; None keeps nothing beyond this run.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._done: set[int] = set()
        self._open: int | None = None
        self._has_read = path is None

    @classmethod
    def at_home(cls) -> Progress:
        """That of the user."""
        return cls(paths.data_dir() / FILE_NAME)

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the lessons whose tasks are done."""
        self._read()
        return frozenset(self._done)

    @property
    def open(self) -> int | None:
        """The lesson whose task is looked for."""
        self._read()
        return self._open

    @property
    def next(self) -> int | None:
        """The first lesson that is not done yet; None at the end."""
        return next((number for number in range(1, N_LESSONS + 1) if number not in self.done), None)

    def begin(self, number: int) -> None:
        """Look for the task of this lesson from now on.

        Raises:
            StorageError: The file cannot be written; it holds for this run all the same.
        """
        self._read()
        self._open = number
        self._write()

    def finish(self, number: int) -> None:
        """Keep that the task of this lesson is done; none is looked for until the next begins.

        Raises:
            StorageError: The file cannot be written; it holds for this run all the same.
        """
        self._read()
        self._open = None
        self._done.add(number)
        self._write()

    def _read(self) -> None:
        """Take in the file; one that is missing or broken counts as nothing done."""
        if self._has_read or self._path is None:
            return
        self._has_read = True
        try:
            value = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(value, dict) and isinstance(value.get("done"), list):
            self._done |= {number for number in value["done"] if _is_number(number)}
            self._open = value["open"] if _is_number(value.get("open")) else None

    def _write(self) -> None:
        if self._path is None:
            return
        paths.ensure_dir(self._path.parent)
        beside = self._path.with_suffix(f".{os.getpid()}.part")
        try:
            beside.write_text(json.dumps({"done": sorted(self._done), "open": self._open}) + "\n", encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            raise StorageError(
                _("{path} cannot be written ({reason}): how far you are is remembered until you quit").format(
                    path=self._path, reason=error.strerror
                )
            ) from error


def lesson_number(text: str) -> int:
    """The number of a lesson as it was written.

    Raises:
        UsageError: It is none.
    """
    if text.isdecimal() and 1 <= int(text) <= N_LESSONS:
        return int(text)
    words = (
        _("there is no lesson {text}: they are 1 to {last}")
        if text.removeprefix("-").isdecimal()
        else _("a lesson is named by its number, 1 to {last}, not {text!r}")
    )
    raise UsageError(words.format(text=text, last=N_LESSONS))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= N_LESSONS
