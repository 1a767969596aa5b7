"""Ids on disk that are read as if they were in memory: a corpus may be larger than that.

The files are ordinary `.npy` arrays, so any tool with numpy can look into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tui_chat.errors import StorageError

Ids = npt.NDArray[np.uint16 | np.uint32]
"""Token ids as they are stored."""


def id_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smaller whole number that holds every id below `vocab_size`."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def write_ids(path: Path, pieces: Iterable[Sequence[int]], vocab_size: int) -> Ids:
    """Write the ids of all `pieces`, one after the other; `path` is replaced only when the new file is whole.

    Args:
        path: Of the file; its folder is made.
        pieces: Ids below `vocab_size`. Only one piece is held in memory.
        vocab_size: Decides how wide an id is.

    Returns:
        (n_ids,), memory-mapped, read-only.

    Raises:
        StorageError: The file cannot be written.
    """
    return write_array(path, (np.asarray(piece, dtype=id_type(vocab_size)) for piece in pieces), id_type(vocab_size))


def write_array(path: Path, pieces: Iterable[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Write one-dimensional `pieces` of `dtype` one after the other, and map the whole.

    Raises:
        StorageError: The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            _write_header(file, 0, np.dtype(dtype))
            begin = file.tell()
            count = 0
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).tobytes())
                count += len(piece)
            file.seek(0)
            _write_header(file, count, np.dtype(dtype))
            # numpy leaves room in the header for the length to grow.
            if file.tell() != begin:
                raise StorageError(f"{path}: the header has not the room it should have; try another numpy")
        partial.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}): free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return open_array(path)


def open_array(path: Path) -> npt.NDArray[Any]:
    """The array in the file, memory-mapped and read-only.

    Raises:
        StorageError: There is no such file, or it is not a whole array.
    """
    try:
        # An array without elements cannot be mapped.
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if 0 in shape:
            return np.empty(shape, dtype)
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: the stored ids cannot be read ({error}): remove the file and begin again"
        ) from error
    return array


def _write_header(file: BinaryIO, count: int, dtype: np.dtype[Any]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, description)
