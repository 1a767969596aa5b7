"""The engine thread: events carry ids, failures become events, stopping works at every moment."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    Limits,
    LoadOptions,
    ModelFailed,
    ModelLoaded,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.engine.worker import EngineWorker
from tui_chat.errors import EngineError, ModelNotFoundError, PromptTooLongError

E = TypeVar("E")
OPTIONS = LoadOptions(n_ctx=256, n_batch=32)


class Desk:
    """A worker and the events it sent, to be waited for."""

    def __init__(self) -> None:
        self.events: queue.Queue[EngineEvent] = queue.Queue()
        self.worker = EngineWorker(self.events.put)
        self.worker.start()

    def wait(self, kind: type[E], where: Callable[[E], bool] = lambda _: True) -> E:
        while True:
            event = self.events.get(timeout=30)
            if isinstance(event, kind) and where(event):
                return event


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    assert desk.worker.close(10)


def ask(n: int = 5, prompt: range = range(40)) -> Callable[[Engine], GenerationRequest]:
    limits = Limits(max_tokens=n, ignore_eos=True)
    return lambda _: GenerationRequest(prompt_ids=tuple(prompt), limits=limits)


def test_loads_and_answers_with_the_ids_it_gave(desk: Desk, noise_path: Path) -> None:
    load = desk.worker.load(noise_path, OPTIONS)
    assert desk.wait(ModelLoaded).request_id == load
    first, second = desk.worker.generate(ask()), desk.worker.generate(ask())
    assert first != second
    assert desk.wait(GenerationFinished).request_id == first
    done = desk.wait(GenerationFinished)
    assert (done.request_id, done.usage.reused) == (second, 39)


def test_a_failure_is_an_event_and_the_next_request_works(desk: Desk, noise_path: Path) -> None:
    early = desk.worker.generate(ask())
    assert desk.wait(GenerationFailed).request_id == early
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    desk.worker.generate(ask(prompt=range(300)))
    assert isinstance(desk.wait(GenerationFailed).error, PromptTooLongError)

    def broken(_: Engine) -> GenerationRequest:
        raise RuntimeError("boom")

    desk.worker.generate(broken)
    assert "RuntimeError: boom" in str(desk.wait(GenerationFailed).error)
    desk.worker.generate(ask())
    assert desk.wait(GenerationFinished).reason is FinishReason.LENGTH


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(desk: Desk, noise_path: Path, tmp_path: Path) -> None:
    desk.worker.load(tmp_path / "none.gguf", OPTIONS)
    failed = desk.wait(ModelFailed)
    assert isinstance(failed.error, ModelNotFoundError) and not failed.kept
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    desk.worker.load(tmp_path / "none.gguf", OPTIONS)
    assert desk.wait(ModelFailed).kept
    desk.worker.generate(ask())
    desk.wait(GenerationFinished)


def test_cancel_of_one_request_leaves_the_others(desk: Desk, noise_path: Path) -> None:
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    answer = desk.worker.generate(ask(200))
    load = desk.worker.load(noise_path, OPTIONS)
    desk.worker.cancel(answer)
    assert desk.wait(GenerationFinished).reason is FinishReason.CANCELLED
    assert desk.wait(ModelLoaded).request_id == load


def test_cancel_stops_what_runs_and_what_waits_and_nothing_later(desk: Desk, noise_path: Path) -> None:
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    running, waiting = desk.worker.generate(ask(200)), desk.worker.generate(ask(200))
    desk.wait(TokensGenerated)
    desk.worker.cancel()
    for expected in (running, waiting):
        done = desk.wait(GenerationFinished)
        assert (done.request_id, done.reason) == (expected, FinishReason.CANCELLED)
    desk.worker.generate(ask())
    assert desk.wait(GenerationFinished).reason is FinishReason.LENGTH


def test_a_load_can_be_stopped(desk: Desk, noise_path: Path) -> None:
    desk.worker.load(noise_path, OPTIONS)
    desk.worker.cancel()
    # It may have been read before the flag was seen: a file this small is.
    assert desk.wait(object, lambda event: isinstance(event, ModelFailed | ModelLoaded))


def test_settings_can_change_while_it_writes(desk: Desk, noise_path: Path) -> None:
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    desk.worker.generate(ask(200))
    desk.wait(TokensGenerated)
    desk.worker.set_params(SamplingParams(temperature=0))
    greedy = desk.wait(TokensGenerated, lambda e: any(t.trace and t.trace.u is None for t in e.tokens))
    assert greedy.tokens[-1].trace is not None and greedy.tokens[-1].trace.rank == 1


def test_questions_are_answered_on_the_engine_thread(desk: Desk, noise_path: Path) -> None:
    with pytest.raises(EngineError, match="no model"):
        desk.worker.run(lambda engine: engine.info).result(10)
    desk.worker.load(noise_path, OPTIONS)
    assert desk.worker.run(lambda engine: engine.vocab.n_vocab).result(10) == 600
    with pytest.raises(ZeroDivisionError):
        desk.worker.run(lambda _: 1 // 0).result(10)


def test_closing_in_the_middle_of_an_answer_is_quiet(noise_path: Path) -> None:
    desk = Desk()
    desk.worker.load(noise_path, OPTIONS)
    desk.worker.generate(ask(200))
    desk.wait(TokensGenerated)
    late = desk.worker.run(lambda engine: engine.info)
    assert desk.worker.close(10)
    with pytest.raises(EngineError):
        late.result(1)
    with pytest.raises(EngineError):
        desk.worker.run(lambda engine: engine.info).result(1)


def test_a_refused_model_leaves_the_old_one(desk: Desk, noise_path: Path) -> None:
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    desk.worker.load(noise_path, LoadOptions(n_ctx=256, eos_token="</none>"))
    assert desk.wait(ModelFailed).kept
    desk.worker.generate(ask())
    assert desk.wait(GenerationFinished).usage.generated == 5


def test_settings_changed_while_a_request_waits_hold_for_it(desk: Desk, noise_path: Path) -> None:
    desk.worker.load(noise_path, OPTIONS)
    desk.wait(ModelLoaded)
    gate = threading.Event()
    desk.worker.run(lambda _: gate.wait(30))
    desk.worker.generate(ask(20))
    desk.worker.set_params(SamplingParams(temperature=0))
    gate.set()
    batch = desk.wait(TokensGenerated)
    assert all(token.trace is not None and token.trace.u is None for token in batch.tokens)


def test_a_listener_that_fails_does_not_end_the_thread(noise_path: Path) -> None:
    def listen(_: EngineEvent) -> None:
        raise RuntimeError("the screen is gone")

    worker = EngineWorker(listen)
    worker.start()
    worker.load(noise_path, OPTIONS)
    assert worker.run(lambda engine: engine.vocab.n_vocab).result(30) == 600
    assert worker.close(10)
