"""Trainings on this machine: the folders they write, their checkpoints, and the names a user calls them by."""

from __future__ import annotations

import difflib
import fcntl
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_chat import paths
from tui_chat.checkpoints.facts import FACTS, CheckpointFacts, read_facts
from tui_chat.checkpoints.record import RECORD, read_record
from tui_chat.checkpoints.record import RunProgress as RunProgress
from tui_chat.checkpoints.record import Sample as Sample
from tui_chat.errors import ModelNotFoundError, UsageError

LOCK = "run.lock"
"""File in a run's folder that is locked (`flock`) while its training runs."""

LATEST, BEST = "latest", "best"

_STEP = re.compile(r"step-(\d+)")
_WISH = re.compile(r"(?:step-)?(\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """A training: what its folder holds now."""

    name: str
    path: Path
    checkpoints: tuple[CheckpointFacts, ...]
    """Oldest first; those that cannot be read are left out."""
    problem: str = ""
    """What could not be read and why; empty where all is well."""

    @property
    def latest(self) -> CheckpointFacts | None:
        """The checkpoint of the highest step."""
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def best(self) -> CheckpointFacts | None:
        """The checkpoint of the lowest loss: validation loss, where it was measured for any."""
        return best_of(self.checkpoints)


def trainings_dir() -> Path:
    """Directory of the runs that were given no other place."""
    return paths.data_dir() / "trainings"


def another_place(run: Path) -> str:
    """What to give for a training that is not to be in the folder of this run."""
    return "another --name" if run.parent == trainings_dir() else "another --out"


def means_a_checkpoint(name: str) -> bool:
    """Whether a user who writes `name` means a checkpoint, so that no run can be called so: latest, best, step-250."""
    return name.lower() in (LATEST, BEST) or bool(_STEP.fullmatch(name.lower()))


def run_name(checkpoint: Path) -> str:
    """The name of the run that the folder of a checkpoint belongs to; its own where it stands alone."""
    checkpoint = checkpoint.resolve()
    return checkpoint.parent.name if _STEP.fullmatch(checkpoint.name) else checkpoint.name


def best_of(checkpoints: Sequence[CheckpointFacts]) -> CheckpointFacts | None:
    """The checkpoint of the lowest loss, the oldest of equals.

    Those without a validation loss count only where none has one: a training loss is no match for it. A loss that is
    no number is the worst.
    """
    finite = [facts for facts in checkpoints if math.isfinite(facts.loss)]
    measured = [facts for facts in finite if facts.progress.validation_loss is not None]
    return min(measured or finite or checkpoints[:1], key=lambda facts: facts.loss, default=None)


def list_runs(directory: Path | None = None) -> tuple[Run, ...]:
    """The runs in a directory, the one that wrote last at the end.

    Args:
        directory: Where to look; `trainings_dir()` by default. It need not exist.

    Returns:
        Every folder a training has written to, also where no checkpoint is there yet or none can be read.
    """
    runs = [read_run(path) for path in _folders(directory or trainings_dir()) if is_run(path)]
    return tuple(sorted(runs, key=lambda run: (_written(run), run.name)))


def is_run(path: Path) -> bool:
    """Whether a training has written to the folder."""
    return (path / RECORD).is_file() or (path / LOCK).is_file() or bool(_steps(path))


def read_run(path: Path) -> Run:
    """The run in a folder, whatever can be read of it."""
    checkpoints, problems = [], []
    for folder in _steps(path):
        try:
            checkpoints.append(read_facts(folder))
        except UsageError as error:
            # A training removes old checkpoints while they are read.
            if folder.exists():
                problems.append(str(error))
    checkpoints.sort(key=lambda facts: facts.step)
    return Run(path.resolve().name, path, tuple(checkpoints), "; ".join(problems))


def is_running(run_path: Path) -> bool:
    """Whether a training writes to the run's folder right now: another process holds its lock."""
    try:
        with (run_path / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_progress(run_path: Path) -> RunProgress:
    """What the run's record tells, and whether the training runs still."""
    return read_record(run_path, running=is_running(run_path))


def find_checkpoint(text: str, directory: Path | None = None) -> CheckpointFacts:
    """The checkpoint a user means.

    Args:
        text: "latest" or "best" of all runs, the name of a run or "NAME/latest" (its newest), "NAME/best",
            "NAME/step-250" or "NAME/250", or a path to a run or a checkpoint.
        directory: Where runs are looked for by name; `trainings_dir()` by default.

    Raises:
        ModelNotFoundError: Nothing is there under that name; says what is near.
        UsageError: It is there, but its facts cannot be read.
    """
    found = seek_checkpoint(text, directory)
    if found is not None:
        return found
    runs = list_runs(directory)
    if not runs:
        raise ModelNotFoundError(f"{text}: {_no_runs(directory)}")
    near = near_runs(text, directory)
    names = near or [run.name for run in runs[::-1]][:5]
    raise ModelNotFoundError(
        f"{text}: no such training; {'near it' if near else 'there are'}: {', '.join(names)}. "
        "Write latest, best, a name, NAME/best, NAME/step-N, or the path of a checkpoint"
    )


def seek_checkpoint(text: str, directory: Path | None = None) -> CheckpointFacts | None:
    """As `find_checkpoint`, but None where the text names neither a run nor a checkpoint and may mean something else.

    Raises:
        ModelNotFoundError: It names a run that has no such checkpoint, or "latest" or "best" where there is no run.
        UsageError: The checkpoint it names cannot be read.
    """
    text = text.strip()
    if not text or "\0" in text:
        return None
    directory = directory or trainings_dir()
    if text.lower() in (LATEST, BEST):
        return _of_all(text.lower(), directory)
    return _at(_expanded(text)) or _at(directory / text)


def near_runs(text: str, directory: Path | None = None) -> list[str]:
    """Names of runs that may have been meant, nearest first, at most three."""
    name = text.strip().partition("/")[0].lower()
    names = {run.name.lower(): run.name for run in list_runs(directory)}
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    starts = [known for known in names if name and known.startswith(name)]
    return [names[key] for key in dict.fromkeys(close + starts)][:3]


def _of_all(wish: str, directory: Path) -> CheckpointFacts:
    runs = list_runs(directory)
    checkpoints = [facts for run in runs for facts in run.checkpoints]
    # A run that began a moment ago has no checkpoint yet; the newest is that of the run before it.
    found = best_of(checkpoints) if wish == BEST else max(checkpoints, key=saved, default=None)
    if found is not None:
        return found
    if not runs:
        raise ModelNotFoundError(f"{wish}: {_no_runs(directory)}")
    raise ModelNotFoundError(f"{wish}: {_no_checkpoint(runs[-1])}")


def _at(path: Path) -> CheckpointFacts | None:
    """The checkpoint that a path means: its folder, a run's folder, or a wish written behind a run's folder."""
    try:
        if (path / FACTS).is_file():
            return read_facts(path)
        if path.is_dir():
            return _of_run(path, LATEST) if is_run(path) else None
        if ":" not in path.name and is_run(path.parent):
            return _of_run(path.parent, path.name)
    except OSError:
        return None
    return None


def _of_run(path: Path, wish: str) -> CheckpointFacts:
    run = read_run(path)
    found: CheckpointFacts | None = None
    if wish.lower() in (LATEST, BEST):
        found = run.best if wish.lower() == BEST else run.latest
    elif match := _WISH.fullmatch(wish):
        found = next((facts for facts in run.checkpoints if facts.step == int(match[1])), None)
        folder = path / f"step-{int(match[1]):06d}"
        if found is None and folder.is_dir():
            return read_facts(folder)
    if found is not None:
        return found
    if not run.checkpoints:
        raise ModelNotFoundError(_no_checkpoint(run))
    steps = ", ".join(str(facts.step) for facts in run.checkpoints)
    raise ModelNotFoundError(
        f"{run.name} has no checkpoint {wish}; it has those of step {steps}: "
        f"write {run.name}, {run.name}/best or {run.name}/{run.checkpoints[-1].step}"
    )


def _no_runs(directory: Path | None) -> str:
    return (
        f"there is no training in {directory or trainings_dir()} yet: "
        "begin one with tui-chat train, or give the path of a checkpoint"
    )


def _no_checkpoint(run: Run) -> str:
    if run.problem:
        return f"{run.name} has no checkpoint that can be read ({run.problem})"
    remedy = "wait until it saves one" if is_running(run.path) else "train it again"
    return f"{run.name} has no checkpoint yet: {remedy}"


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def _steps(path: Path) -> list[Path]:
    """Folders of whole checkpoints; one that is being written has another name."""
    return [folder for folder in _folders(path) if _STEP.fullmatch(folder.name)]


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError:
        return []


def saved(facts: CheckpointFacts) -> tuple[int, int]:
    """When a checkpoint was saved, to compare it by; the smallest where it is gone meanwhile."""
    return _time(facts.path / FACTS), facts.step


def _written(run: Run) -> int:
    """Time of the last sign of the run, in nanoseconds."""
    times = [_time(facts.path / FACTS) for facts in run.checkpoints]
    return max([_time(run.path / RECORD), *times]) or _time(run.path)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
