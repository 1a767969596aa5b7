"""The engine thread: one queue in, events out.

It owns the engine from load to close; nobody else touches the model. Callers never wait: they get a request id, and
every event about it carries that id.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    LoadOptions,
    ModelFailed,
    ModelLoaded,
    ModelLoading,
    SamplingParams,
    Timings,
    Usage,
)
from tui_chat.errors import CancelledError, EngineError, ModelMemoryError, TuiChatError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.recent import RecentLogits
    from tui_chat.engine.stepping import StepControl

log = logging.getLogger(__name__)

T = TypeVar("T")
_PROGRESS_INTERVAL_S = 1 / 30


@dataclass(frozen=True, slots=True)
class _Load:
    request_id: int
    path: Path
    options: LoadOptions
    cancel: CancelFlag = field(default_factory=CancelFlag)


@dataclass(frozen=True, slots=True)
class _Generate:
    request_id: int
    build: Callable[[Engine], GenerationRequest]
    steps: StepControl | None = None
    cancel: CancelFlag = field(default_factory=CancelFlag)
    live: LiveParams = field(default_factory=LiveParams)


@dataclass(frozen=True, slots=True)
class _Run:
    job: Callable[[Engine], Any]
    future: Future[Any]


class EngineWorker:
    """Runs an engine on a thread of its own.

    Args:
        on_event: Called on the engine thread with every event; it must return quickly and not raise.
    """

    def __init__(self, on_event: Callable[[EngineEvent], None]) -> None:
        self._on_event = on_event
        self._queue: queue.SimpleQueue[_Load | _Generate | _Run | None] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._open: dict[int, _Load | _Generate] = {}
        self._closing = threading.Event()
        self._engine: Engine | None = None
        self._lent = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="tui-chat-engine", daemon=True)

    def start(self) -> None:
        """Start the thread. Imports of numpy and llama.cpp happen on it."""
        self._thread.start()

    def load(self, path: Path, options: LoadOptions) -> int:
        """Load a model in place of the present one.

        Returns:
            The request id of the `ModelLoading` events and the `ModelLoaded` or `ModelFailed` that follow.
        """
        return self._submit(_Load(next(self._ids), path, options))

    def generate(self, build: Callable[[Engine], GenerationRequest], steps: StepControl | None = None) -> int:
        """Generate an answer.

        Args:
            build: Makes the request on the engine thread, where templates are rendered and text becomes tokens. What it
                raises becomes a `GenerationFailed`.
            steps: Waits before tokens for what a person decides.

        Returns:
            The request id that the events carry.
        """
        return self._submit(_Generate(next(self._ids), build, steps))

    def set_params(self, params: SamplingParams) -> None:
        """Use these settings from the next token on, in every answer asked for so far, under way or waiting."""
        with self._lock:
            for command in self._open.values():
                if isinstance(command, _Generate):
                    command.live.params = params

    def set_steps(self, steps: StepControl) -> None:
        """Have the answers asked for so far, under way or waiting, wait before tokens, where none has them wait yet."""
        with self._lock:
            for command in self._open.values():
                if isinstance(command, _Generate):
                    command.live.steps = steps

    def cancel(self, request_id: int | None = None) -> None:
        """Stop a load or answer, under way or waiting; None stops every one asked for so far."""
        with self._lock:
            for command in self._open.values():
                if request_id in (None, command.request_id):
                    command.cancel.set()

    def run(self, job: Callable[[Engine], T]) -> Future[T]:
        """Ask the engine something, in its turn, on its thread.

        The future fails with `EngineError` when no model is loaded or the worker closes.
        """
        future: Future[T] = Future()
        if self._closing.is_set():
            future.set_exception(EngineError("the engine is closed"))
        else:
            self._queue.put(_Run(job, future))
        return future

    @property
    def recent(self) -> RecentLogits | None:
        """The newest distributions of the model in use, to be read from any thread; None without a model."""
        engine = self._engine
        return None if engine is None else engine.recent

    @contextmanager
    def lend(self) -> Iterator[Engine | None]:
        """The engine for another thread, which may use its `info`, `vocab` and `recent`; None without a model.

        It is not unloaded meanwhile, so be short, and one at a time.
        """
        with self._lent:
            yield None if self._closing.is_set() else self._engine

    def close(self, timeout_s: float = 0.3) -> bool:
        """Stop everything, unload the model and end the thread.

        Returns:
            False if the thread did not end in time; it is a daemon, so the process may end all the same.
        """
        self._closing.set()
        self.cancel()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _submit(self, command: _Load | _Generate) -> int:
        with self._lock:
            self._open[command.request_id] = command
        self._queue.put(command)
        return command.request_id

    def _work(self) -> None:
        from tui_chat.engine import engine as _  # noqa: F401  # numpy and llama.cpp load here, not on the UI's thread

        while not self._closing.is_set() and (command := self._queue.get()) is not None:
            match command:
                case _Load():
                    self._do_load(command)
                case _Generate():
                    self._do_generate(command)
                case _Run():
                    self._do_run(command)
            if not isinstance(command, _Run):
                with self._lock:
                    self._open.pop(command.request_id, None)
        self._unload()
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        while True:
            try:
                command = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(command, _Run):
                command.future.set_exception(EngineError("the engine is closed"))

    def _emit(self, event: EngineEvent) -> None:
        if self._closing.is_set():
            return
        try:
            self._on_event(event)
        except Exception:
            log.exception("an event could not be delivered")

    def _do_load(self, command: _Load) -> None:
        from tui_chat.engine.engine import Engine

        reported = 0.0

        def progress(fraction: float) -> bool:
            nonlocal reported
            if time.monotonic() - reported >= _PROGRESS_INTERVAL_S or fraction >= 1:
                reported = time.monotonic()
                self._emit(ModelLoading(command.request_id, command.path, fraction))
            return not command.cancel.is_set()

        try:
            if command.cancel.is_set():
                raise CancelledError(f"loading {command.path.name} was stopped")
            self._emit(ModelLoading(command.request_id, command.path, 0.0))
            try:
                fresh = Engine.load(command.path, command.options, on_progress=progress)
            except ModelMemoryError:
                if self._engine is None:
                    raise
                # Two models at once are more than the memory holds: the old one makes room, and we try again.
                self._unload()
                fresh = Engine.load(command.path, command.options, on_progress=progress)
        except Exception as error:
            self._emit(ModelFailed(command.request_id, _known(error), kept=self._engine is not None))
            return
        self._unload()
        self._engine = fresh
        self._emit(ModelLoaded(command.request_id, fresh.info))

    def _unload(self) -> None:
        with self._lent:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _do_generate(self, command: _Generate) -> None:
        try:
            if command.cancel.is_set():
                self._emit(_never_begun(command.request_id))
                return
            if self._engine is None:
                raise EngineError("no model is loaded: choose one with /model")
            request = command.build(self._engine)
            for event in self._engine.generate(
                request, request_id=command.request_id, live=command.live, cancel=command.cancel, steps=command.steps
            ):
                self._emit(event)
        except Exception as error:
            self._emit(GenerationFailed(command.request_id, _known(error)))

    def _do_run(self, command: _Run) -> None:
        if not command.future.set_running_or_notify_cancel():
            return
        try:
            if self._closing.is_set():
                raise EngineError("the engine is closed")
            if self._engine is None:
                raise EngineError("no model is loaded: choose one with /model")
            command.future.set_result(command.job(self._engine))
        except Exception as error:
            command.future.set_exception(error)


def _known(error: Exception) -> TuiChatError:
    """The error as one meant for people; what was not foreseen is logged with its traceback."""
    if isinstance(error, TuiChatError):
        return error
    log.error("unexpected error on the engine thread", exc_info=error)
    return EngineError(
        f"something unforeseen went wrong in the engine ({type(error).__name__}: {error}); the log has the details"
    )


def _never_begun(request_id: int) -> GenerationFinished:
    nothing = Timings(prefill_s=0.0, ttft_s=0.0, decode_s=0.0, tokens_per_s=0.0)
    return GenerationFinished(request_id, FinishReason.CANCELLED, Usage(0, 0, 0), nothing)
