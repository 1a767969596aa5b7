"""What was sent before, to be called back into the composer; kept in a file between runs."""

from __future__ import annotations

import json
from pathlib import Path

from tui_chat.errors import StorageError
from tui_chat.paths import ensure_dir

MAX_ENTRIES = 500
"""Older entries are forgotten when the file is read."""


class InputHistory:
    """Entries from old to new, with a place one stands at.

    Args:
        path: File of JSON strings, one a line; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: list[str] = []
        self._place = 0
        self._draft = ""

    def read(self) -> None:
        """Reads the file; lines that do not hold are skipped, a missing file is an empty history."""
        if self._path is None:
            return
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        entries = []
        for line in lines[-MAX_ENTRIES:]:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, str) and entry:
                entries.append(entry)
        self._entries = entries
        self._place = len(entries)

    def add(self, text: str) -> None:
        """Keeps an entry, unless it repeats the last one.

        Raises:
            StorageError: the file cannot be written; the entry is kept for this run all the same.
        """
        self._draft = ""
        repeated = bool(self._entries) and self._entries[-1] == text
        if text and not repeated:
            self._entries.append(text)
        self._place = len(self._entries)
        if self._path is None or not text or repeated:
            return
        ensure_dir(self._path.parent)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(text, ensure_ascii=False) + "\n")
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: what you send is remembered until you quit") from error

    def earlier(self, present: str) -> str | None:
        """Gives the entry before the present place, or None at the oldest; `present` is kept as the draft."""
        if self._place == 0:
            return None
        if self._place == len(self._entries):
            self._draft = present
        self._place -= 1
        return self._entries[self._place]

    def later(self) -> str | None:
        """Gives the entry after the present place, at the end the draft, or None beyond it."""
        if self._place >= len(self._entries):
            return None
        self._place += 1
        return self._draft if self._place == len(self._entries) else self._entries[self._place]
