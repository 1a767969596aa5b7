"""A mark by which a model file is known again, made in milliseconds whatever its size.

The whole of a file of 10 GB takes half a minute to hash, and its header alone does not tell two trainings of one shape
apart. So this is hashed: the size, everything in front of the weights, and the first 4 KiB of every tensor. Training,
merging or quantising anew changes every tensor from its beginning on; one that was altered further back only goes
unnoticed here, and shows in the logits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tui_chat.engine.gguf.checks import split_paths
from tui_chat.engine.gguf.reader import read_header
from tui_chat.errors import ModelFileError

TENSOR_BYTES = 4096
"""Of each tensor, as many are read."""


def fingerprint(path: Path) -> str:
    """The SHA-256, in hex, of a model file's size, header and first bytes of every tensor; all parts of a split one.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelFileError: It is no whole GGUF file.
    """
    count = read_header(path).integer("split.count") or 1
    digest = hashlib.sha256()
    for part in split_paths(path, count) or [path]:
        header = read_header(part)
        digest.update(header.size_bytes.to_bytes(8, "little"))
        try:
            with part.open("rb") as file:
                digest.update(file.read(header.data_offset))
                for tensor in header.tensors:
                    file.seek(header.data_offset + tensor.offset)
                    digest.update(file.read(min(TENSOR_BYTES, tensor.size_bytes)))
        except OSError as error:
            raise ModelFileError(f"cannot be read: {error.strerror or error}", path=part) from error
    return digest.hexdigest()
