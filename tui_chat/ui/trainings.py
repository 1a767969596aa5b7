"""The trainings on this machine as the app reads them: looked at anew only where a file changed. No widgets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tui_chat.checkpoints.facts import CheckpointFacts, Progress
from tui_chat.checkpoints.record import RECORD, RunProgress
from tui_chat.checkpoints.runs import Run, is_run, is_running, list_runs, read_progress, read_run, trainings_dir
from tui_chat.commands.fuzzy import did_you_mean, nearest
from tui_chat.errors import ModelNotFoundError, TuiChatError, UsageError
from tui_chat.language import _

_Stamp = tuple[object, ...]

Curve = list[tuple[float, float]]
"""Steps, and losses in nats a token."""


@dataclass(frozen=True)
class SeenTraining:
    """A run and what it has told so far."""

    run: Run
    told: RunProgress

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.run.path

    @cached_property
    def last(self) -> Progress | None:
        """How far it is; None before the first report."""
        if self.told.progress:
            return self.told.progress[-1]
        return self.run.latest.progress if self.run.latest is not None else None

    @cached_property
    def measured(self) -> Progress | None:
        """The last report with a validation loss; None where it was never measured."""
        reports = (progress for progress in reversed(self.told.progress) if progress.validation_loss is not None)
        return next(reports, None)

    @property
    def loss(self) -> float:
        """The last validation loss, else the last training loss; not a number before the first report."""
        if self.measured is not None and self.measured.validation_loss is not None:
            return self.measured.validation_loss
        return self.last.train_loss if self.last is not None else math.nan

    @property
    def perplexity(self) -> float:
        """That of `loss`."""
        return math.exp(min(self.loss, 700.0))

    @property
    def n_parameters(self) -> int | None:
        """Learnt numbers of the model; None while no checkpoint tells."""
        return self.run.latest.shape.n_parameters if self.run.latest is not None else None

    def losses(self) -> tuple[Curve, Curve]:
        """Gives the curves of training and of validation."""
        reports = self.told.progress
        training = [(float(progress.step), progress.train_loss) for progress in reports]
        validation = [
            (float(progress.step), progress.validation_loss)
            for progress in reports
            if progress.validation_loss is not None
        ]
        return training, validation


class TrainingShelf:
    """Reads the runs, newest first. Everything here may wait for the disk, so call it beside the screen.

    Args:
        directory: Where the runs lie; None takes the usual place.
        outside: One more run, from anywhere.
    """

    def __init__(self, directory: Path | None = None, outside: Path | None = None) -> None:
        self._directory = directory or trainings_dir()
        self._outside = outside
        self._stamps: dict[Path, _Stamp] | None = None
        self._told: dict[Path, tuple[_Stamp, RunProgress]] = {}

    def look(self) -> tuple[SeenTraining, ...] | None:
        """Gives all runs as they are now; None where nothing changed since the last look."""
        folders = _run_folders(self._directory)
        if self._outside is not None:
            folders.append(self._outside)
        stamps = {path: _stamp(path) for path in folders}
        if stamps == self._stamps:
            return None
        runs = list(reversed(list_runs(self._directory)))
        if self._outside is not None:
            runs.insert(0, read_run(self._outside))
        seen = tuple(SeenTraining(run, self._told_by(run.path, stamps.get(run.path))) for run in runs)
        self._stamps = stamps
        return seen

    def _told_by(self, path: Path, stamp: _Stamp | None) -> RunProgress:
        kept = self._told.get(path)
        if stamp is not None and kept is not None and kept[0] == stamp:
            return kept[1]
        told = read_progress(path)
        if stamp is not None:
            self._told[path] = (stamp, told)
        return told


def training_names(directory: Path | None = None) -> list[str]:
    """Gives the names of the runs, by the alphabet, without reading them."""
    return [path.name for path in _run_folders(directory or trainings_dir())]


def find_training(text: str, directory: Path | None = None) -> tuple[Path, bool]:
    """Gives the folder of the run that `text` means, and whether it lies elsewhere than usual.

    Args:
        text: A name, in any case, or a path.
        directory: Where runs lie by name; None takes the usual place.

    Raises:
        UsageError: There is none; says what is near.
    """
    directory = directory or trainings_dir()
    names = training_names(directory)
    name = text if text in names else {name.casefold(): name for name in names}.get(text.casefold())
    if name is not None:
        return directory / name, False
    try:
        path = Path(text).expanduser().resolve()
        if path.parent == directory.resolve() and path.name in names:
            return directory / path.name, False
        if is_run(path):
            return path, True
    except (OSError, RuntimeError, ValueError):
        pass  # no path, then
    near = nearest(text, names)
    hint = did_you_mean(near) if near else _("/train alone shows those there are")
    raise UsageError(_("there is no training {name}: {hint}").format(name=text, hint=hint))


def export_checkpoint(run: Run, *, best: bool) -> tuple[CheckpointFacts, Path]:
    """Gives the newest or the best checkpoint of a run, and a GGUF file of it.

    Raises:
        TuiChatError: There is none, or it cannot be exported.
    """
    from tui_chat.checkpoints.cache import exported

    # The run goes on meanwhile and may have replaced what was on show, or replace it while it is being read.
    chosen = _choose(read_run(run.path), best)
    try:
        return chosen, exported(chosen)
    except (TuiChatError, OSError):
        newer = _choose(read_run(run.path), best)
        if newer.path == chosen.path:
            raise
        return newer, exported(newer)


def _choose(run: Run, best: bool) -> CheckpointFacts:
    found = run.best if best else run.latest
    if found is None:
        reason = run.problem or "wait until the training saves one"
        raise ModelNotFoundError(f"{run.name} has no checkpoint to talk to: {reason}")
    return found


def _run_folders(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and is_run(path))
    except OSError:
        return []


def _stamp(path: Path) -> _Stamp:
    """What is different after a run told something, saved something, began or ended."""
    parts: list[object] = [is_running(path)]
    for place in (path / RECORD, path):
        try:
            status = place.stat()
            parts.append((status.st_size, status.st_mtime_ns))
        except OSError:
            parts.append(None)
    return tuple(parts)
