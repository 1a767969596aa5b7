"""What the session needs around it, as far as it uses it: an engine thread, downloads, an archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from tui_chat.chat.conversation import Conversation, Message
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import GeneratedToken, GenerationRequest, LoadOptions, SamplingParams

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tui_chat.engine.engine import Engine
    from tui_chat.engine.stepping import StepControl
    from tui_chat.models.resolve import ModelSpec

T = TypeVar("T")


class Worker(Protocol):
    """The engine thread, as far as the session uses it (`engine.worker.EngineWorker`)."""

    def start(self) -> None: ...
    def load(self, path: Path, options: LoadOptions) -> int: ...
    def generate(self, build: Callable[[Engine], GenerationRequest], steps: StepControl | None = None) -> int: ...
    def set_params(self, params: SamplingParams) -> None: ...
    def set_steps(self, steps: StepControl) -> None: ...
    def cancel(self, request_id: int | None = None) -> None: ...
    def run(self, job: Callable[[Engine], T]) -> Future[T]: ...
    def lend(self) -> AbstractContextManager[Engine | None]: ...
    def close(self, timeout_s: float = 0.3) -> bool: ...


class Downloads(Protocol):
    """Fetches model files beside the screen (`ui.downloads.Downloader`)."""

    def fetch(self, spec: ModelSpec) -> int: ...
    def cancel(self) -> None: ...


class Archive(Protocol):
    """Keeps conversations (`ui.archive.StoreArchive`); no call waits for the disk."""

    def save(
        self, conversation: Conversation, message: Message | None = None, tokens: Sequence[GeneratedToken] = ()
    ) -> None: ...
    def remove(self, conversation: Conversation, message_ids: Sequence[str]) -> None: ...
    def close(self) -> None: ...


class Ask(Protocol):
    """Asks the engine something, on its thread, in its turn (`EngineWorker.run`)."""

    def __call__(self, job: Callable[[Engine], T], /) -> Future[T]: ...


BuildRequest = Callable[["Engine", Sequence[Message], SamplingParams, InferenceSettings, str], GenerationRequest]
"""Renders the messages with the model's template and makes the request; runs on the engine thread.

The text at the end is what the answer is to begin with.
"""
