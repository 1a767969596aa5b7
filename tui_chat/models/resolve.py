"""What a user may write to name a model, and what it means.

A specification is `builtin`, a path, a training or one of its checkpoints (`latest`, `best`, `NAME`, `NAME/best`,
`NAME/step-250`, or a folder), or `owner/name:file.gguf` on the Hub (`@branch` may follow the repository).
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.runs import near_runs, run_name, seek_checkpoint
from tui_chat.errors import ModelNotFoundError

BUILTIN = "builtin"
"""The name of the model inside the package."""

_FORMS = "builtin, a path to a .gguf file, the name of a training, or owner/name:file.gguf"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model comes from. Exactly one of the four kinds has its fields filled."""

    kind: Literal["builtin", "path", "checkpoint", "hub"]
    path: Path | None = None
    """The file, or the folder of the checkpoint."""
    checkpoint: CheckpointFacts | None = None
    """What the checkpoint says of itself; `file_of` makes a file of it."""
    repo: str | None = None
    file: str | None = None
    branch: str = "main"

    @property
    def label(self) -> str:
        """What to call the model in a sentence or a status line."""
        if self.kind == "path" and self.path is not None:
            return self.path.stem
        if self.kind == "checkpoint" and self.checkpoint is not None:
            return f"{run_name(self.checkpoint.path)}/step-{self.checkpoint.step}"
        if self.kind == "hub":
            suffix = "" if self.branch == "main" else f" ({self.branch})"
            return f"{self.repo}:{self.file}{suffix}"
        return BUILTIN

    def __str__(self) -> str:
        """The text that `parse_spec` turns back into this."""
        if self.kind in ("path", "checkpoint"):
            return str(self.path)
        if self.kind == "hub":
            branch = "" if self.branch == "main" else f"@{self.branch}"
            return f"{self.repo}{branch}:{self.file}"
        return BUILTIN


def builtin_path() -> Path:
    """The model that ships inside the package."""
    return Path(__file__).resolve().parent.parent / "assets" / "pocket.gguf"


def file_of(spec: ModelSpec) -> Path:
    """The model file of a specification that needs no network; that of a checkpoint is made first, which takes time.

    Raises:
        ModelError: The checkpoint is gone or damaged.
        StorageError: The file of a checkpoint cannot be written.
    """
    if spec.checkpoint is not None:
        from tui_chat.checkpoints.cache import exported

        return exported(spec.checkpoint)
    return spec.path if spec.path is not None else builtin_path()


def parse_spec(text: str) -> ModelSpec:
    """Turn what the user wrote into a specification; a path or a training must exist.

    Raises:
        ModelNotFoundError: The text means nothing, or nothing is there; says what is near.
        UsageError: The checkpoint it names cannot be read.
    """
    text = text.strip()
    if not text:
        raise ModelNotFoundError(f"no model named: write {_FORMS}")
    if text.lower() == BUILTIN:
        return ModelSpec("builtin")
    path = _expand(text)
    try:
        if path.is_file():
            return ModelSpec("path", path=path)
        facts = seek_checkpoint(text)
        if facts is not None:
            return _checkpoint(facts)
        if path.is_dir():
            raise ModelNotFoundError(f"{path} is a directory{_listing(path)}")
    except OSError as error:
        raise ModelNotFoundError(f"{text} cannot be reached: {error.strerror or error}") from error
    hub = _parse_hub(text)
    if hub is not None:
        return hub
    raise ModelNotFoundError(_missing(text, path))


def require_file(path: Path) -> Path:
    """`path` with "~" expanded, if a file is there.

    Raises:
        ModelNotFoundError: Nothing is there; names what is near.
    """
    path = _expand(str(path))
    try:
        if path.is_dir():
            raise ModelNotFoundError(f"{path} is a directory{_listing(path)}")
        if not path.exists():
            raise ModelNotFoundError(_missing(str(path), path))
    except OSError as error:
        raise ModelNotFoundError(f"{path} cannot be reached: {error.strerror or error}") from error
    return path


def spec_from_settings(
    *, path: Path | None = None, repo: str | None = None, file: str | None = None, branch: str = "main"
) -> ModelSpec:
    """The model that the settings `llm.path`, or `llm.repo`, `llm.file` and `llm.branch`, name; else the built-in one.

    Raises:
        ModelNotFoundError: The path leads nowhere, or only one of `repo` and `file` is set.
        UsageError: The path is the folder of a checkpoint that cannot be read.
    """
    if path is not None:
        facts = seek_checkpoint(str(path)) if _expand(str(path)).is_dir() else None
        if facts is not None:
            return _checkpoint(facts)
        return ModelSpec("path", path=require_file(path))
    if repo and file:
        if not _REPO.fullmatch(repo):
            raise ModelNotFoundError(f"llm.repo is {repo!r}, which is not of the form owner/name")
        return ModelSpec("hub", repo=repo, file=file, branch=branch)
    if repo:
        raise ModelNotFoundError(f"llm.repo is {repo}, but llm.file is not set: name the .gguf file in it")
    if file:
        raise ModelNotFoundError(f"llm.file is {file}, but llm.repo is not set: name the repository it is in")
    return ModelSpec("builtin")


def _checkpoint(facts: CheckpointFacts) -> ModelSpec:
    return ModelSpec("checkpoint", path=facts.path, checkpoint=facts)


def _expand(text: str) -> Path:
    """`text` as a path with "~" expanded, as far as that is possible."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def _parse_hub(text: str) -> ModelSpec | None:
    """`owner/name[@branch]:file`; None if the text has another form, an error if only the file is missing."""
    repo, colon, file = text.partition(":")
    repo, at, branch = repo.partition("@")
    if not _REPO.fullmatch(repo) or (at and not branch):
        return None
    if colon and file:
        return ModelSpec("hub", repo=repo, file=file, branch=branch or "main")
    if not colon and (repo.lower().endswith(".gguf") or Path(repo).parent.is_dir()):
        return None  # a relative path such as models/x.gguf, most likely
    raise ModelNotFoundError(
        f"{repo} is not on this machine; if it is a repository on the Hub, name the file in it too: {repo}:FILE.gguf"
    )


def _missing(text: str, path: Path) -> str:
    parent = path.parent
    runs = near_runs(text) if not path.suffix else []
    if runs:
        return f"{text}: no such file or training; near it: {', '.join(runs)}"
    if not parent.is_dir():
        home = next((p for p in path.parents if p.is_dir()), Path())
        return f"{text}: no such file, and no directory {parent} either (but {home} exists)"
    near = _near(path.name, parent)
    if near:
        return f"{text}: no such file; near it: {', '.join(near)}"
    where = f" in a directory{_listing(parent)}" if path.suffix == ".gguf" else ""
    return f"{text}: no such file{where}; write {_FORMS}"


def _near(name: str, directory: Path) -> list[str]:
    """Names of files in `directory` that may have been meant, nearest first."""
    try:
        names = [entry.name for entry in os.scandir(directory)]
    except OSError:
        return []
    lower = {candidate.lower(): candidate for candidate in sorted(names)}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)]
    starts = [c for c in sorted(names) if c.lower().startswith(name.lower()) and c.endswith(".gguf")]
    return list(dict.fromkeys(close + starts))[:3]


def _listing(directory: Path) -> str:
    """A tail for a sentence: which models the directory holds."""
    try:
        models = sorted(entry.name for entry in os.scandir(directory) if entry.name.endswith(".gguf"))
    except OSError:
        return ""
    if not models:
        return " with no .gguf file in it"
    more = f" and {len(models) - 5} more" if len(models) > 5 else ""
    return f" that holds {', '.join(models[:5])}{more}: name one of them"
