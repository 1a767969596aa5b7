"""Where a training reads and writes: the folder of a new run, the run that is to go on, the corpus by its full path."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tui_chat.checkpoints.runs import list_runs, means_a_checkpoint, near_runs, read_run, trainings_dir
from tui_chat.errors import UsageError
from tui_chat.models.resolve import BUILTIN
from tui_chat.paths import is_writable

if TYPE_CHECKING:
    from tui_chat.checkpoints.facts import CheckpointFacts

_FORBIDDEN = '/\\:"'
_LONGEST = 200
"""Bytes of a name; the files that are made of a training are called by it too, with something behind it."""


def new_run(name: str | None, out: Path | None, default: str) -> Path:
    """The folder of a new training; it is not made here.

    Args:
        name: What `--name` says.
        out: What `--out` says.
        default: What to call it otherwise; a number is added where there is such a run already.

    Raises:
        UsageError: The name cannot be one, or both were given.
    """
    given = _given(name, out)
    if given is not None:
        return given
    default = "".join("-" if char in _FORBIDDEN or not char.isprintable() else char for char in default)
    default = default.encode()[:_LONGEST].decode(errors="ignore").lstrip("-").strip(" .") or "model"
    default = f"{default}-1" if _is_reserved(default) else default
    names = (default if number == 1 else f"{default}-{number}" for number in count(1))
    return next(path for path in (trainings_dir() / called for called in names) if not path.exists())


def run_to_resume(
    name: str | None, out: Path | None, *, preset: str | None = None, corpus: str | None = None
) -> CheckpointFacts:
    """The newest checkpoint of the training that is to go on.

    Args:
        name: What `--name` says.
        out: What `--out` says.
        preset: If neither is given: the newest training that was begun with this preset,
        corpus: and with this corpus.

    Raises:
        UsageError: There is none, or it has no checkpoint.
    """
    given = _given(name, out)
    if given is not None:
        return _newest(given, near=[] if name is None or given.is_dir() else near_runs(name))
    for run in reversed(list_runs()):
        latest = run.latest
        if latest is None:
            continue
        settings = latest.settings
        if preset in (None, settings.get("preset")) and corpus in (None, settings.get("corpus")):
            return latest
    wished = [f"the preset {preset}"] if preset else []
    wished += [f"the corpus {corpus}"] if corpus else []
    of = f" with {' and '.join(wished)}" if wished else ""
    raise UsageError(f"there is no training{of} to go on with in {trainings_dir()}: begin one without --resume")


def corpus_path(corpus: str | None) -> str | None:
    """The corpus by its full path where it is a file or a folder, so that the training can go on from anywhere."""
    if corpus is None:
        return None
    try:
        path = Path(corpus).expanduser()
        return str(path.absolute()) if path.exists() else corpus
    except (OSError, RuntimeError, ValueError):
        return corpus


def spec_of(run: Path) -> str:
    """What to write after `--model`, `--name` or `--out` for a run: its name, or its path where it lies elsewhere."""
    return run.name if run.parent == trainings_dir() else str(run)


def _given(name: str | None, out: Path | None) -> Path | None:
    if name is not None and out is not None:
        raise UsageError("--name and --out both say where the checkpoints go: use one of them")
    if out is not None:
        return _folder(out)
    if name is None:
        return None
    odd = any(char in _FORBIDDEN or not char.isprintable() for char in name)
    if odd or not name or name != name.strip() or name.startswith((".", "-")):
        raise UsageError(
            f"{name!r} cannot be the name of a training: use letters, digits, spaces and - _ ., "
            "with a letter or a digit in front"
        )
    if len(name.encode()) > _LONGEST:
        raise UsageError(
            f"a training's name has {_LONGEST} bytes at most and this one has {len(name.encode())}: "
            "use a shorter --name"
        )
    if _is_reserved(name):
        raise UsageError(f"a training cannot be called {name}, which means something else to --model: use another name")
    return trainings_dir() / name


def _folder(out: Path) -> Path:
    try:
        path = out.expanduser().absolute()
        is_file = path.exists() and not path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a user who is not there
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{out} cannot be a folder ({reason}): give another one with --out") from error
    if is_file:
        raise UsageError(f"{out} is a file: give a folder with --out")
    if not is_writable(path):
        raise UsageError(f"{out} cannot be written: give another folder with --out")
    return path


def _is_reserved(name: str) -> bool:
    return name.lower() == BUILTIN or means_a_checkpoint(name)


def _newest(path: Path, near: list[str]) -> CheckpointFacts:
    run = read_run(path)
    if run.latest is not None:
        return run.latest
    if run.problem:
        raise UsageError(f"{path} has no checkpoint that can be read: {run.problem}")
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UsageError(f"there is no checkpoint in {path} to go on from{hint}: begin without --resume")
