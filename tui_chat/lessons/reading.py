"""Documents as they are read for a demonstration: in blocks of text, however large, and never a byte that is none."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tui_chat.errors import UsageError
from tui_chat.language import _

BLOCK_BYTES = 1 << 18
"""Read at once."""

_LIKE_A_PATH = re.compile(r"\S*[/\\]\S*|\S+\.[A-Za-z]\w{0,4}")


def names_file(text: str) -> bool:
    """Whether this is the path of something that can be read, and not a text of its own."""
    try:
        path = _expanded(text)
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # too long for a path, or with a zero in it
        return False


def exists(path: str) -> bool:
    """Whether there is anything at this path, of whatever kind, or it cannot be told."""
    try:
        return _expanded(path).exists()
    except PermissionError:
        return True
    except (OSError, ValueError):  # too long for a path, or with a zero in it
        return False


def like_a_path(text: str) -> bool:
    """Whether a text that names no file looks as if it were meant to."""
    return _LIKE_A_PATH.fullmatch(text) is not None


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file at `path`, for reading.

    Raises:
        UsageError: It cannot be opened or read; says why.
    """
    try:
        with _expanded(path).open("rb") as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(_("{name} cannot be read ({reason})").format(name=path, reason=reason)) from error


def blocks(file: BinaryIO, name: str, size_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """The text of a file, piece by piece; line ends stay as they are.

    Args:
        file: At its beginning.
        name: What to call it in an error.
        size_bytes: Read at once.

    Raises:
        UsageError: A byte of it is no UTF-8 text; says which.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_read = 0
    while True:
        block = file.read(size_bytes)
        text_bytes, zero, _rest = block.partition(b"\0")
        n_held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(text_bytes, final=not block)
        except UnicodeDecodeError as error:
            at, byte = n_read - n_held + error.start, error.object[error.start]
            raise UsageError(
                _("{name} is not UTF-8 text at byte {at:,} (0x{byte:02x}): give a text file, saved as UTF-8").format(
                    name=name, at=at, byte=byte
                )
            ) from error
        if zero:
            raise UsageError(
                _("{name} is no text file: byte {at:,} is zero").format(name=name, at=n_read + len(text_bytes))
            )
        if not block:
            return
        n_read += len(block)
        yield text


def _expanded(text: str) -> Path:
    """`text` as a path, with "~" expanded where that is possible."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)
