"""A worker that plays prepared events with fixed figures, and an app around it: the same picture every time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import events
from textual.pilot import Pilot

from tui_chat.chat.conversation import Conversation, Message
from tui_chat.config import InferenceSettings, LoadedSettings, Settings
from tui_chat.engine.stepping import StepControl
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GeneratedToken,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    LoadOptions,
    ModelFailed,
    ModelInfo,
    ModelLoaded,
    ModelLoading,
    PrefillProgressed,
    SamplingParams,
    StageTrace,
    Timings,
    TokensGenerated,
    TokenTrace,
    Usage,
)
from tui_chat.errors import SamplingError, TuiChatError
from tui_chat.models.resolve import ModelSpec
from tui_chat.themes import load_themes
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.history import InputHistory
from tui_chat.ui.session import Session
from tui_chat.ui.widgets.composer import MessageInput

PATIENCE_S = 60.0
"""For how long a condition is waited for."""

INFO = ModelInfo(
    path=Path("pocket.gguf"),
    name="pocket",
    architecture="qwen3",
    description="qwen3 3M Q8_0",
    n_params=3_148_000,
    size_bytes=3_400_000,
    n_vocab=64,
    n_ctx_train=2048,
    n_embd=192,
    n_layer=6,
    n_head=6,
    n_head_kv=2,
    n_ctx=2048,
    n_batch=512,
    n_ubatch=63,
    n_threads=1,
    n_gpu_layers=0,
    devices=("CPU",),
    flash_attn="auto",
    type_k="f16",
    type_v="f16",
    bos_id=None,
    eos_id=1,
    bos_token="",
    eos_token="<|im_end|>",
    eog_ids=frozenset({1}),
    chat_template=None,
    metadata={},
    load_s=0.2,
)

WORDS = (
    b"\n", b"<|im_end|>", b"\xe2\x96", b"A", b" token", b" is", b" a", b" small", b" piece", b" of", b" text", b".",
    b" part", b" bit", b" word", b" chunk", b" the", b" model", b" reads", b" one", b" at", b" time", b" and", b" so",
)  # fmt: skip
PIECES: tuple[bytes, ...] = WORDS + tuple(f" w{n}".encode() for n in range(64 - len(WORDS)))


def make_token(index: int, piece: bytes, p: float = 0.6) -> GeneratedToken:
    """A token with figures that follow from its place and its probability alone."""
    chosen = PIECES.index(piece) if piece in PIECES else 40 + index % 20
    others = [(chosen + step) % 64 for step in range(1, 14)]
    rest = [(1 - p) * 0.5**step for step in range(1, 14)]
    ranked = sorted([(chosen, p), *zip(others, rest, strict=True)], key=lambda pair: -pair[1])
    kept = [pair for pair in ranked if pair[0] == chosen or pair[1] > 0.02]
    total = sum(share for _, share in kept)
    trace = TokenTrace(
        position=20 + index,
        id=chosen,
        piece=piece,
        logit=math.log(p),
        logsumexp=0.0,
        rank=[token for token, _ in ranked].index(chosen) + 1,
        entropy=1.83,
        top=tuple((token, math.log(share)) for token, share in ranked),
        stages=(
            StageTrace("top_k", 40),
            StageTrace("top_p", 12),
            StageTrace("min_p", len(kept)),
            StageTrace("temperature", len(kept)),
        ),
        final=tuple((token, share / total) for token, share in kept),
        u=0.4132,
        seconds=0.31 + index * 0.01,
    )
    return GeneratedToken(chosen, piece, trace)


def cut_into_tokens(text: str) -> list[GeneratedToken]:
    """The text as tokens: a word with the space before it is one."""
    pieces: list[bytes] = []
    for character in text.encode().split(b" "):
        pieces.append((b" " if pieces else b"") + character)
    shares = (0.97, 0.62, 0.31, 0.93, 0.07, 0.74)
    return [make_token(index, piece, shares[index % len(shares)]) for index, piece in enumerate(pieces) if piece]


class FakeEngine:
    """What jobs on the engine thread may ask here."""

    @staticmethod
    def read(
        ids: Sequence[int],
        start: int = 0,
        stop: int | None = None,
        *,
        top_n: int = 20,
        keep: bool = False,
        cancel: object = None,
    ) -> Iterator[tuple[TokenTrace, ...]]:
        """Each token in a part of its own, like one that was written, without what chose it."""
        for position in range(max(1, start), len(ids) if stop is None else stop):
            trace = make_token(0, PIECES[ids[position] % 64], (0.97, 0.3, 0.005)[position % 3]).trace
            assert trace is not None
            yield (replace(trace, position=position, id=ids[position], stages=(), final=(), u=None),)

    class vocab:  # noqa: N801 - an attribute of the engine
        @staticmethod
        def piece(token: int) -> bytes:
            return PIECES[token]

        @staticmethod
        def find(text: str) -> int | None:
            return PIECES.index(text.encode()) if text.encode() in PIECES else None

        @staticmethod
        def resolve(text: str, *, ban: bool = False) -> tuple[int, ...]:
            if (found := FakeEngine.vocab.find(text)) is None:
                raise SamplingError(f"{text!r} is no token")
            return (found,)

        @staticmethod
        def tokenize(text: str) -> list[int]:
            return [len(word) for word in text.split()]


class ScriptedWorker:
    """Stands in for the engine thread. What it is asked is kept; what it reports the test decides."""

    def __init__(self, *, loads: bool = True, closes: bool = True) -> None:
        self.report: Callable[[EngineEvent], None] = lambda event: None
        self.steps: StepControl | None = None
        self.requests: list[int] = []
        self.builds: list[Callable[[Any], GenerationRequest]] = []
        self.cancelled_ids: list[int | None] = []
        self.params: list[SamplingParams] = []
        self.loaded: list[Path] = []
        self.cancelled = 0
        self.closed = False
        self.loads = loads
        self._closes = closes
        self._last_id = 0

    def start(self) -> None: ...

    def load(self, path: Path, options: LoadOptions) -> int:
        self._last_id += 1
        self.loaded.append(path)
        self.report(ModelLoading(self._last_id, path, 0.5))
        if self.loads:
            self.report(ModelLoaded(self._last_id, INFO))
        return self._last_id

    def fail_load(self, error: TuiChatError, *, kept: bool) -> None:
        self.report(ModelFailed(self._last_id, error, kept))

    def generate(self, build: Callable[[Any], GenerationRequest], steps: StepControl | None = None) -> int:
        self.steps = steps
        self._last_id += 1
        self.requests.append(self._last_id)
        self.builds.append(build)
        return self._last_id

    def set_params(self, params: SamplingParams) -> None:
        self.params.append(params)

    def set_steps(self, steps: StepControl) -> None:
        self.steps = steps

    def cancel(self, request_id: int | None = None) -> None:
        self.cancelled += 1
        self.cancelled_ids.append(request_id)

    def run(self, job: Callable[[Any], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(job(FakeEngine))
        return future

    def lend(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def close(self, timeout_s: float = 0.3) -> bool:
        self.closed = True
        return self._closes

    # What the test plays

    def begin(self, n_prompt: int = 24) -> None:
        try:
            request = replace(self.builds[-1](FakeEngine), prompt_ids=tuple(range(n_prompt)))
        except TuiChatError as error:
            self.fail(error)
            return
        self.report(GenerationStarted(self.requests[-1], request))
        self.report(PrefillProgressed(self.requests[-1], n_prompt, n_prompt, 0))

    def say(self, text: str, tokens: Sequence[GeneratedToken] | None = None) -> None:
        tokens = cut_into_tokens(text) if tokens is None else tokens
        self.report(TokensGenerated(self.requests[-1], tuple(tokens), text))

    def finish(self, reason: FinishReason = FinishReason.EOS, generated: int = 12) -> None:
        timings = Timings(prefill_s=0.01, ttft_s=0.02, decode_s=0.5, tokens_per_s=212.0)
        self.report(GenerationFinished(self.requests[-1], reason, Usage(24, 0, generated), timings))

    def fail(self, error: TuiChatError) -> None:
        self.report(GenerationFailed(self.requests[-1], error))

    def answer(self, text: str, reason: FinishReason = FinishReason.EOS) -> None:
        self.begin()
        self.say(text)
        self.finish(reason)


class KeptNothing:
    """An archive that only counts."""

    def __init__(self) -> None:
        self.saved: list[Message] = []
        self.closed = False

    def save(
        self, conversation: Conversation, message: Message | None = None, tokens: Sequence[GeneratedToken] = ()
    ) -> None:
        if message is not None:
            self.saved.append(message)

    def remove(self, conversation: Conversation, message_ids: Sequence[str]) -> None:
        self.saved = [message for message in self.saved if message.id not in message_ids]

    def close(self) -> None:
        self.closed = True


class NoDownloads:
    """Downloads that never come on their own."""

    def __init__(self) -> None:
        self.wanted: list[ModelSpec] = []
        self.cancelled = 0

    def fetch(self, spec: ModelSpec) -> int:
        self.wanted.append(spec)
        return len(self.wanted)

    def cancel(self) -> None:
        self.cancelled += 1


def plain_request(
    engine: object, messages: object, params: SamplingParams, inference: object, prefill: str
) -> GenerationRequest:
    return GenerationRequest(prompt_ids=(0,), params=params)


def make_app(
    worker: ScriptedWorker | None = None,
    *,
    theme: str = "tui-chat-dark",
    keys: dict[str, str] | None = None,
    inference: InferenceSettings | None = None,
    history: InputHistory | None = None,
    conversation: Conversation | None = None,
    user_themes: Path | None = None,
    find_models: Callable[[], tuple[tuple[str, str], ...]] | None = None,
    note: str | None = None,
) -> TuiChatApp:
    """An app that talks to a scripted worker."""
    scripted = worker or ScriptedWorker()
    settings = Settings.model_validate(
        {"ui": {"theme": theme, "keys": keys or {}}, "inference": (inference or InferenceSettings(seed=7)).model_dump()}
    )

    def make_session(report: Callable[[Any], None]) -> Session:
        scripted.report = report
        return Session(
            settings,
            scripted,
            build_request=plain_request,
            archive=KeptNothing(),
            downloads=NoDownloads(),
            report=report,
            conversation=conversation,
            clock=lambda: 100.0,
        )

    app = TuiChatApp(
        LoadedSettings(settings, {}, None),
        themes=load_themes(user_themes),
        make_session=make_session,
        model="builtin",
        history=history,
        find_models=find_models,
        note=note,
    )
    app.animation_level = "none"
    return app


def at_once(app: TuiChatApp, *keys: str) -> None:
    """Keys that come faster than the screen is drawn."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else {"slash": "/"}.get(key)))


async def settle(pilot: Pilot[Any], done: Callable[[], object], what: str = "the screen") -> None:
    """Waits until `done()` holds, however busy the machine is.

    Raises:
        AssertionError: it does not come to hold.
    """
    end_s = time.monotonic() + PATIENCE_S
    await pilot.pause(0)
    while not done():
        if time.monotonic() > end_s:
            raise AssertionError(f"waited in vain for {what}")
        await pilot.pause(0.02)


async def ready(pilot: Pilot[Any]) -> None:
    """Waits until the model answers and the picture stands still."""
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    await settle(pilot, lambda: app.session.model is not None and app.session.pieces, "the model")
    app.chat.query_one(MessageInput).cursor_blink = False
    await pilot.pause()


async def type_in(pilot: Pilot[Any], text: str) -> None:
    """Types a line and sends it."""
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    app.chat.query_one(MessageInput).put(text)
    await pilot.pause()
    await pilot.press("enter")
    await pilot.pause()
