"""Where the program's log goes: a file in the log directory, made with the first record; one older file is kept."""

from __future__ import annotations

import io
import logging
from pathlib import Path

from tui_chat import paths
from tui_chat.errors import StorageError

LOG_NAME = "tui-chat.log"

_MOST_BYTES = 1 << 20


class LogFile(logging.FileHandler):
    """Writes records to a file; a file that cannot be written is done without, silently.

    Args:
        path: The file. When the program begins to write and it is larger than a mebibyte, it becomes `NAME.old`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)-7s %(name)s: %(message)s"))
        self._usable = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if not self._usable:
            return
        try:
            super().emit(record)
        except (OSError, StorageError):
            self._usable = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """A record that cannot be written must not be printed over the screen."""
        self._usable = False

    def _open(self) -> io.TextIOWrapper:
        path = Path(self.baseFilename)
        paths.ensure_dir(path.parent)
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            path.replace(path.with_suffix(".old"))
        return super()._open()


def start_logging() -> None:
    """Send what the program and llama.cpp log, from `info` on, to the file."""
    logger = logging.getLogger("tui_chat")
    logger.addHandler(LogFile(paths.log_dir() / LOG_NAME))
    logger.setLevel(logging.INFO)
