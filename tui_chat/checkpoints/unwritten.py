"""Why a file could not be written, in words, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def why_unwritten(folder: Path, error: BaseException) -> tuple[str, str]:
    """What came in the way, and its remedy; the latter is empty where none is known.

    Args:
        folder: The file was to be in.
        error: What writing it raised.
    """
    if _is_disk_full(folder, error):
        return "the disk is full", "free some space"
    return (str(getattr(error, "strerror", None) or error) or type(error).__name__).splitlines()[0], ""


def _is_disk_full(folder: Path, error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    # PyTorch, safetensors and numpy pass on only words; two of them only that some bytes were not written.
    with contextlib.suppress(OSError):
        return "No space left" in str(error) or shutil.disk_usage(folder).free < 1 << 20
    return False
