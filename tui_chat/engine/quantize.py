"""Smaller weights through llama.cpp: a GGUF file in floats becomes one in the mixed types people share models in."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from tui_chat.engine.gguf import GgufHeader, read_header, validate
from tui_chat.engine.llama import lc, log_from_now
from tui_chat.errors import ModelError, ModelFileError, UsageError

log = logging.getLogger(__name__)

FILE_TYPES: Mapping[str, int] = MappingProxyType(
    {
        "Q4_K_M": lc.LLAMA_FTYPE_MOSTLY_Q4_K_M,
        "Q5_K_M": lc.LLAMA_FTYPE_MOSTLY_Q5_K_M,
        "Q6_K": lc.LLAMA_FTYPE_MOSTLY_Q6_K,
    }
)
"""What can be asked for, with llama.cpp's number (`llama_ftype`), which is also `general.file_type` in the result."""

_SUPER_BLOCK = 256
"""Elements that share their scales in a K-type (`QK_K`)."""

_FLOATS = {"F32", "F16", "BF16"}


def quantize(source: Path, target: Path, file_type: str, *, on_message: Callable[[str], None] = log.warning) -> None:
    """Write `source` with smaller weights; `target` is replaced only when the new file is whole.

    K-types store 256 elements of a row together. A matrix whose rows are not a multiple of that is no error to
    llama.cpp (`tensor_type_fallback`): with rows of a multiple of 32, such as 192, Q4_K becomes Q5_0, Q5_K becomes
    Q5_1 and Q6_K becomes Q8_0; other rows become F16. The file says `file_type` of itself all the same and is somewhat
    larger. Vectors stay F32.

    Args:
        source: A GGUF model in F32, F16 or BF16.
        target: Where; its folder is made.
        file_type: One of `FILE_TYPES`, in capitals or not.
        on_message: Called with a line for people when matrices got another type.

    Raises:
        UsageError: The type is unknown, or `source` and `target` are one file.
        ModelNotFoundError: Nothing is at `source`.
        ModelFileError: It is not a whole model.
        ModelError: Its weights are quantised already, llama.cpp refused them, or `target` cannot be written; holds
            llama.cpp's own words.
    """
    name = file_type.upper()
    if name not in FILE_TYPES:
        raise UsageError(f"there is no quantised type {file_type!r} here: use one of {', '.join(FILE_TYPES)}")
    if _same_file(source, target):
        raise UsageError(f"{target}: the model would replace itself; give another file to write to")
    header = validate(source)
    if header.quantization not in _FLOATS:
        raise ModelError(f"{source}: its weights are {header.quantization} already; export it as F32 or F16 first")
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        _run(source, partial, name)
        made = _whole(partial)
        partial.replace(target)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        # Where the folder could not be made, there is nothing to remove and no folder to look in.
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
    if message := fallback_message(made, name):
        on_message(f"{target.name}: {message}")


def fallback_message(header: GgufHeader, file_type: str) -> str | None:
    """What to tell people about a quantised file in which the width does not fit the type; None where it fits.

    Args:
        header: Of the quantised file.
        file_type: What was asked for.
    """
    matrices = [tensor for tensor in header.tensors if len(tensor.shape) > 1]
    odd = [tensor for tensor in matrices if tensor.shape[0] % _SUPER_BLOCK]
    if not odd:
        return None
    types = Counter(tensor.type.name for tensor in odd)
    stored = ", ".join(f"{count} as {name}" for name, count in types.most_common())
    bits = 8 * sum(tensor.size_bytes for tensor in header.tensors) / header.n_params
    return (
        f"{len(odd)} of {len(matrices)} matrices have rows that are not a multiple of {_SUPER_BLOCK} elements and are "
        f"stored in other types than {file_type} has ({stored}); it comes to {bits:.1f} bits a weight"
    )


def _run(source: Path, target: Path, name: str) -> None:
    params = lc.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[name]
    lines = log_from_now()
    # Ctrl+C would be raised, and lost, inside the log callback if llama.cpp ran on the main thread.
    with ThreadPoolExecutor(1) as executor:
        status = executor.submit(
            lc.llama_model_quantize, os.fsencode(source), os.fsencode(target), ctypes.byref(params)
        ).result()
    if status == 0:
        return
    reason = next((line for line in reversed(lines) if "failed to quantize: " in line), "no reason given")
    reason = reason.rpartition("failed to quantize: ")[2]
    if "iostream" in reason:
        free = shutil.disk_usage(target.parent).free / 1e6
        reason += f": the file could not be written; {free:.1f} MB are free in {target.parent}"
    raise ModelError(f"{source}: llama.cpp cannot quantise it to {name}: {reason}")


def _whole(partial: Path) -> GgufHeader:
    """The header of the finished file, with all of it on the disk."""
    try:
        header = read_header(partial)
    except ModelFileError as error:
        raise ModelError(f"llama.cpp wrote a file that is not whole; is the disk full? ({error})") from error
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    return header


def _same_file(source: Path, target: Path) -> bool:
    return source.resolve() == target.resolve() or (source.exists() and target.exists() and source.samefile(target))
