"""The weights of a checkpoint as arrays, without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from tui_chat.checkpoints.facts import WEIGHTS
from tui_chat.errors import ModelFileError, ModelNotFoundError

Weights = dict[str, npt.NDArray[np.float32]]
"""Parameter name to values."""

_REMEDY = "the file is damaged or was cut short, use another checkpoint of the training"


def read_weights(checkpoint: Path) -> Weights:
    """The weights of the checkpoint in a folder, by the names the training gives them.

    Args:
        checkpoint: The folder.

    Returns:
        Each parameter as float32 in its own shape; those stored as float16 or bfloat16 are widened, which is exact.

    Raises:
        ModelNotFoundError: There are no weights in the folder.
        ModelFileError: They cannot be read.
    """
    path = checkpoint / WEIGHTS
    parse: Any = safetensors.deserialize  # its stub names no types
    try:
        entries = parse(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelNotFoundError(
            f"{checkpoint} holds no {WEIGHTS}: a training may have replaced it by a newer checkpoint, look again"
        ) from error
    except OSError as error:
        raise ModelFileError(f"the weights cannot be read ({error.strerror or error})", path=path) from error
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"the weights cannot be read ({error}); {_REMEDY}", path=path) from error
    if not entries:
        raise ModelFileError(f"there are no weights in it; {_REMEDY}", path=path)
    return {name: _values(name, entry, path) for name, entry in entries}


def _values(name: str, entry: dict[str, Any], path: Path) -> npt.NDArray[np.float32]:
    data, shape = entry["data"], entry["shape"]
    match entry["dtype"]:
        case "F32":
            return np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(shape)
        case "F16":
            return np.frombuffer(data, "<f2").astype(np.float32).reshape(shape)
        case "BF16":
            # The upper half of a float32; NumPy has no such type.
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        case other:
            raise ModelFileError(f"{name} is stored as {other}; F32, F16 or BF16 is needed", path=path)
