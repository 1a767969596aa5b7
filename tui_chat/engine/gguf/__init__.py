"""What a GGUF file says of itself, and whether llama.cpp may see it.

llama.cpp meets a malformed file in places with `GGML_ASSERT`, which ends the process. So every file is read here first.
`read_header` answers for the container: header, tensor table, all data there. `validate` answers also for what
llama.cpp takes for granted in it.
"""

from __future__ import annotations

from pathlib import Path

from tui_chat.engine.gguf.checks import check_model, split_paths
from tui_chat.engine.gguf.fingerprint import fingerprint
from tui_chat.engine.gguf.header import GgufArray, GgufHeader, GgufValue, TensorInfo
from tui_chat.engine.gguf.reader import read_header, read_strings

__all__ = [
    "GgufArray",
    "GgufHeader",
    "GgufValue",
    "TensorInfo",
    "fingerprint",
    "read_header",
    "read_strings",
    "split_paths",
    "validate",
]


def validate(path: Path) -> GgufHeader:
    """Everything that must hold before llama.cpp may see the file.

    Raises:
        ModelNotFoundError: Nothing is at `path`.
        ModelFileError: It is not a whole, usable language model.
    """
    header = read_header(path)
    check_model(header)
    return header
