"""A model behind a command: found, downloaded if need be, loaded on the engine thread, stopped by Ctrl+C at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import click

from tui_chat.cli.progress_line import ProgressLine
from tui_chat.engine.types import (
    EngineEvent,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    ModelFailed,
    ModelInfo,
    ModelLoaded,
)
from tui_chat.engine.worker import EngineWorker
from tui_chat.errors import CancelledError
from tui_chat.interrupts import on_interrupt
from tui_chat.models.resolve import ModelSpec, file_of, parse_spec, spec_from_settings

if TYPE_CHECKING:
    from tui_chat.config import LoadedSettings, Settings
    from tui_chat.engine.engine import Engine

T = TypeVar("T")
_POLL_S = 3600.0
"""A wait without a limit cannot be interrupted on every platform."""


class LoadedModel:
    """A model on an engine thread, for the length of a `with` block. The calling thread stays free for Ctrl+C.

    Args:
        path: The GGUF file.
        settings: How to load it.

    Raises:
        ModelError: On entering, when it cannot be loaded.
        CancelledError: On entering, when Ctrl+C came first.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._options = path, settings.llm.load_options(settings.tokenizer.eos_token)
        self._events: queue.SimpleQueue[EngineEvent] = queue.SimpleQueue()
        self._worker = EngineWorker(self._events.put)
        self.info: ModelInfo

    def __enter__(self) -> Self:
        self._worker.start()
        self._worker.load(self._path, self._options)
        try:
            while True:
                event = self._events.get(timeout=_POLL_S)
                if isinstance(event, ModelFailed):
                    raise event.error
                if isinstance(event, ModelLoaded):
                    self.info = event.info
                    return self
        except BaseException:
            self._worker.close(5)
            raise

    def __exit__(self, *_: object) -> None:
        self._worker.close(5)

    def run(self, job: Callable[[Engine], T]) -> T:
        """Ask the engine something on its thread and wait for the answer; Ctrl+C stops what honours the abort flag."""
        return self._worker.run(job).result()

    def generate(self, build: Callable[[Engine], GenerationRequest]) -> Iterator[EngineEvent]:
        """The events of one answer.

        Ctrl+C ends it as cancelled, with what was written until then; a second Ctrl+C is a KeyboardInterrupt.

        Raises:
            TuiChatError: It could not be made.
        """
        request_id = self._worker.generate(build)
        with on_interrupt(lambda: self._worker.cancel(request_id)):
            while True:
                event = self._events.get(timeout=_POLL_S)
                if isinstance(event, GenerationFailed):
                    raise event.error
                yield event
                if isinstance(event, GenerationFinished):
                    return


def find_model(loaded: LoadedSettings, model: str | None, *, offline: bool = False) -> Path:
    """The file of the model a command was asked for: downloaded if it is on the Hub, made if it is a checkpoint.

    Progress and notes go to stderr.

    Args:
        loaded: Name the model where `model` is None.
        model: What `--model` says.
        offline: Take it from the cache only.

    Raises:
        ModelNotFoundError: There is nothing of that name.
        DownloadError: The Hub did not give it.
        TuiChatError: It is a checkpoint that cannot be read, or whose file cannot be written.
    """
    llm = loaded.settings.llm
    spec = (
        parse_spec(model)
        if model is not None
        else spec_from_settings(path=llm.path, repo=llm.repo, file=llm.file, branch=llm.branch)
    )
    return _download(spec, offline=offline) if spec.kind == "hub" else file_of(spec)


def _download(spec: ModelSpec, *, offline: bool) -> Path:
    from tui_chat.models.hub import DownloadProgress, Fetched, fetch

    repo, file = spec.repo, spec.file
    assert repo is not None and file is not None
    cancel = threading.Event()
    line = _DownloadLine()

    def show(progress: DownloadProgress) -> None:
        line.update(f"downloading {spec.label}: {progress}")

    result: list[Fetched | BaseException] = []

    def work() -> None:
        try:
            result.append(fetch(repo, file, spec.branch, on_progress=show, cancel=cancel, offline=offline))
        except BaseException as error:
            result.append(error)

    # On a thread of its own, so that Ctrl+C is seen at once.
    thread = threading.Thread(target=work, name="tui-chat-download", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        cancel.set()
        thread.join(2)
        raise CancelledError(f"the download of {spec.label} was stopped: the next one begins anew") from None
    finally:
        line.clear()
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    line.end(f"downloaded {spec.label}")
    if outcome.note and not offline:
        click.echo(f"tui-chat: {outcome.note}", err=True)
    return outcome.path


class _DownloadLine(ProgressLine):
    """Where stderr is no terminal, one line at the start and one at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._began = False

    def update(self, text: str) -> None:
        super().update(text)
        if not self._active and not self._began:
            click.echo(text, err=True)
        self._began = True

    def end(self, text: str) -> None:
        """Say that what was begun is done."""
        if self._began and not self._active:
            click.echo(text, err=True)
