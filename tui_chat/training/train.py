"""A training from its corpus to its last checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.errors import CancelledError, TuiChatError
from tui_chat.interrupts import on_interrupt
from tui_chat.training import events
from tui_chat.training.checkpoint import what_is_kept
from tui_chat.training.config import TrainConfig
from tui_chat.training.device import choose_device
from tui_chat.training.distributed import Group, OthersEndedError, companions, joined, launched, leader_lives
from tui_chat.training.estimate import is_out_of_memory
from tui_chat.training.planning import Job, plan_training
from tui_chat.training.run_folder import opened
from tui_chat.training.texts import read_corpus

Tell = Callable[[events.Event], None]


class OutOfMemoryError(TuiChatError):
    """Memory ran out; the text says what would fit."""


def train(config: TrainConfig, on_event: Tell = lambda _: None) -> CheckpointFacts:
    """Train a model.

    Ctrl+C and SIGTERM end the training after the step that is being done, with a checkpoint; a second one ends it at
    once.

    Args:
        config: How.
        on_event: Called in this process with everything there is to tell; the record in the run's folder gets the
            same. Under `torchrun` it is called in the process of rank 0 alone.

    Returns:
        The last checkpoint.

    Raises:
        UsageError: The corpus, the settings or the checkpoint to go on from do not hold.
        CancelledError: The user stopped it; a checkpoint was saved.
        StorageError: A checkpoint could not be written.
        TuiChatError: The loss became NaN or memory ran out; the last good checkpoint is kept.
    """
    group = launched()
    if group is None:
        return _lead(config, on_event, None)
    with joined(group, choose_device(config.device, group.local_rank)) as group:
        # Each process read its own command line; a name made of the time of day would not be the same in all.
        config = group.from_first(config)
        if group.rank == 0:
            return _lead(config, on_event, group)
        try:
            job: Job = group.from_first(None)
            if not _follow(job, group):
                raise CancelledError("the training ended before its last step")
            last: CheckpointFacts = group.from_first(None)
            return last
        except (OutOfMemoryError, OthersEndedError) as error:
            raise TuiChatError(f"{error}; {what_is_kept(config.out)}") from error.__cause__


def _lead(config: TrainConfig, on_event: Tell, group: Group | None) -> CheckpointFacts:
    """The whole training as its first process."""
    on_event(events.StageBegan(events.CORPUS, f"reading {config.corpus}"))
    corpus = read_corpus(config.corpus)
    with opened(config.out, resume=config.resume) as folder:

        def tell(event: events.Event) -> None:
            folder.append(event)
            on_event(event)

        figures = {"kind": corpus.kind.value, "name": corpus.name, "sha256": corpus.sha256}
        tell(events.StageBegan(events.CORPUS, f"{corpus.name}: {corpus.summary}", figures))
        job, watch, prepared = plan_training(config, corpus, folder, group, tell)
        folder.begin()
        loop = None
        try:
            with (
                _memory_watched(job),
                _stop_signals() as stop_asked,
                _together(job, group, stop_asked) as all_of_them,
            ):
                loop = job.loop(all_of_them, stop_asked, prepared.training)
                last = loop.lead(watch)
                return all_of_them.from_first(last) if group else last
        except CancelledError:
            raise
        except TuiChatError as error:
            told = error
            if isinstance(error, (OutOfMemoryError, OthersEndedError)):
                told = TuiChatError(f"{error}; {what_is_kept(folder.path)}")
            tell(events.Failed(0 if loop is None else loop.step, str(told)))
            raise told from error.__cause__


def _follow(job: Job, group: Group) -> bool:
    """The training as one of the other processes; whether it came to its last step."""
    with _memory_watched(job), _stop_signals() as stop_asked:
        return job.loop(group, stop_asked).follow()


@contextmanager
def _memory_watched(job: Job) -> Iterator[None]:
    """Say it in our words if memory runs out, wherever that is."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(job.out_of_memory()) from error
        raise


@contextmanager
def _together(job: Job, group: Group | None, stop_asked: Callable[[], bool]) -> Iterator[Group]:
    """All processes of the training: those `torchrun` started, or those this one starts now."""
    if group is not None:
        group.from_first(job)
        yield group
    elif job.n_processes == 1:
        yield Group()
    else:
        with TemporaryDirectory(prefix="tui-chat-") as scratch:
            meeting = Path(scratch) / "meeting"
            first = Group(0, job.n_processes, 0)
            with companions(job.n_processes, _companion, (job, meeting)) as companions_live:

                def look() -> None:
                    if stop_asked():
                        raise CancelledError("stopped before the first step")
                    companions_live()

                with joined(first, job.plan.device, meeting, look) as all_of_them:
                    yield all_of_them


def _companion(rank: int, job: Job, meeting: Path) -> None:
    group = Group(rank, job.n_processes, rank)
    with (
        _memory_watched(job),
        joined(group, choose_device(job.config.device, rank), meeting, leader_lives) as all_of_them,
    ):
        job.loop(all_of_them, lambda: False).follow()


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Take Ctrl+C and SIGTERM as a wish to stop at the end of a step; gives what tells whether one came."""
    asked = threading.Event()
    with on_interrupt(asked.set, signal.SIGINT, signal.SIGTERM):
        yield asked.is_set
