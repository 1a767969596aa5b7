"""Exported checkpoints, kept: a model file made once for each checkpoint that is talked to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path

from tui_chat import paths
from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS, CheckpointFacts
from tui_chat.checkpoints.file_type import FileType
from tui_chat.checkpoints.runs import run_name
from tui_chat.errors import ModelNotFoundError

MAX_FILES = 8
"""Exported models that are kept; those used longest ago go first."""

_FORMAT = 1
"""Raised whenever `export` writes something else for the same checkpoint."""

_LEFT_BEHIND_S = 3600.0
"""Age of an unfinished file after which nobody can be writing it any more."""


def cache_dir() -> Path:
    """Directory of the exported models."""
    return paths.cache_dir() / "checkpoints"


def exported(facts: CheckpointFacts, file_type: FileType = FileType.F16) -> Path:
    """A model file with the checkpoint's weights, made if there is none yet; the model is called as its run is.

    Takes a second or so for each 100 MB to write: not for the thread of a screen.

    Raises:
        ModelError: The checkpoint is gone or damaged.
        StorageError: The file cannot be written.
    """
    directory = paths.ensure_dir(cache_dir())
    name = run_name(facts.path)
    readable = re.sub(r"[^\w.-]+", "_", name).strip("._")[:60] or "run"
    path = directory / f"{readable}-{facts.step}-{_key(facts, file_type)}-{file_type}.gguf"
    if path.is_file():
        os.utime(path)
    else:
        from tui_chat.checkpoints.export import export

        export(facts, path, file_type, name=name)
    _tidy(directory, keep=path)
    return path


def _key(facts: CheckpointFacts, file_type: FileType) -> str:
    """Another one whenever the file would be another one."""
    stamps = []
    for name in (WEIGHTS, TOKENIZER):
        try:
            status = (facts.path / name).stat()
        except OSError as error:
            raise ModelNotFoundError(
                f"{facts.path / name} is not there ({error.strerror}): a training may have replaced the checkpoint by "
                "a newer one, look again"
            ) from error
        stamps.append((status.st_size, status.st_mtime_ns))
    content = [_FORMAT, str(facts.path.resolve()), stamps, facts.to_json(), file_type.value]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _tidy(directory: Path, *, keep: Path) -> None:
    files = sorted(((_time(path), path) for path in directory.glob("*.gguf") if path != keep), reverse=True)
    # A program that has one of them open keeps what it has.
    for _, path in files[MAX_FILES - 1 :]:
        _remove(path)
    for path in directory.glob(".*.partial"):
        if time.time() - _time(path) > _LEFT_BEHIND_S:
            _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
