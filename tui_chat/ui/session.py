"""The session behind the screen: the conversation, the model, the answer under way. No widgets, so no screen is needed.

All methods are for the one thread that owns the session (the screen's); other threads reach it through events only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from tui_chat.chat.conversation import CHANGED, Conversation, Message, Role
from tui_chat.config import Settings
from tui_chat.engine.types import (
    SAMPLING_FIELDS,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    GenerationStarted,
    ModelInfo,
    SamplingParams,
)
from tui_chat.errors import EngineError, UsageError
from tui_chat.language import _
from tui_chat.ui.current_model import CurrentModel, ModelEvent
from tui_chat.ui.news import News
from tui_chat.ui.ports import Archive, Ask, BuildRequest, Downloads, Worker
from tui_chat.ui.progress import Answer, AnswerEvent, Loading

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tui_chat.engine.control import CancelFlag
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import EngineEvent
    from tui_chat.models.resolve import ModelSpec

T = TypeVar("T")

LIVE_FIELDS = tuple(name for name in SAMPLING_FIELDS if name not in ("seed", "logit_bias"))
"""The settings that reach an answer under way."""

SAVE_INTERVAL_S = 1.0
"""Longest time that streamed text is in memory only."""


class Session:
    """What the screen shows and does, without the screen.

    Args:
        settings: The effective settings.
        worker: The engine thread.
        build_request: Makes a request of messages.
        archive: Where the conversation is kept.
        downloads: Fetches models from the Hub.
        report: Brings news from any thread back to `handle`.
        conversation: One to go on with.
        tokens_of: The tokens of its answers, as far as they are known.
        left_out: How many messages of a conversation the last request left out; for the engine thread.
        check_tokenizer: Told of every model that was loaded, with a way to ask the engine.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        *,
        build_request: BuildRequest,
        archive: Archive,
        downloads: Downloads,
        report: Callable[[News], None],
        conversation: Conversation | None = None,
        tokens_of: Mapping[str, Sequence[GeneratedToken]] | None = None,
        left_out: Callable[[Sequence[Message]], int] = lambda _messages: 0,
        check_tokenizer: Callable[[Ask], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.inference = settings.inference
        self.conversation = conversation or Conversation()
        self.answer: Answer | None = None
        self.prefill = ""
        """What the next answer is to begin with."""
        self.tokens_of = {key: list(tokens) for key, tokens in (tokens_of or {}).items()}
        """Tokens of the answers of this run, and of those that came with the conversation, by message."""
        self.lessons: set[CancelFlag] = set()
        """What stops the demonstrations under way."""
        self.left_out = left_out
        self._worker = worker
        self._model = CurrentModel(settings, worker, downloads, report, check_tokenizer)
        self._build_request = build_request
        self._archive = archive
        self._downloads = downloads
        self._clock = clock
        self._saved_at = 0.0
        if conversation is None and settings.inference.system:
            self.conversation.set_system(settings.inference.system)

    # What is going on

    @property
    def model(self) -> ModelInfo | None:
        """The model that answers."""
        return self._model.info

    @property
    def loading(self) -> Loading | None:
        """The model on its way."""
        return self._model.loading

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of the model's tokens, as far as they are known."""
        return self._model.pieces

    @property
    def answering(self) -> bool:
        """Whether an answer is under way."""
        return self.answer is not None and self.answer.running

    @property
    def context(self) -> tuple[int, int] | None:
        """Tokens in the context and how many it holds; None without a model."""
        if self.model is None:
            return None
        answer = self.answer
        if answer is None:
            return 0, self.model.n_ctx
        prompt = answer.prefill[0] if answer.prefill and answer.running and not answer.tokens else answer.n_prompt
        return min(prompt + len(answer.tokens), self.model.n_ctx), self.model.n_ctx

    def piece_of(self, token: int) -> bytes | None:
        """Gives a token's bytes, or None while they are not known."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else None

    # The model

    def start(self, model: str | None) -> None:
        """Starts the engine thread and begins to load a model.

        Args:
            model: As the user names it; None takes what the settings say.

        Raises:
            ModelNotFoundError: Nothing is there under that name.
        """
        self._worker.start()
        self._model.start(model)

    def switch_model(self, spec: ModelSpec) -> None:
        """Begins to fetch and load a model; the present one answers until the new one is there."""
        self._model.switch(spec)

    def ask(self, job: Callable[[Engine], T]) -> Future[T]:
        """Asks the engine something, on its thread, in its turn."""
        return self._worker.run(job)

    # Turns

    def send(self, text: str) -> Message:
        """Says something and asks for the answer.

        Raises:
            UsageError: An answer is still under way.
            EngineError: No model is there to answer.
        """
        self._require_ready()
        message = self.conversation.append(Role.USER, text)
        self._save(message)
        self._ask()
        return message

    def retry(self) -> Answer:
        """Asks for another answer beside the last one.

        Raises:
            UsageError: Nothing was said yet, or an answer is under way.
            EngineError: No model is there to answer.
        """
        self._require_ready()
        last = self.conversation.last(Role.USER)
        if last is None:
            raise UsageError(_("nothing to answer again yet: send a message first"))
        before = self.conversation.tip
        self.conversation.select(last.id, descend=False)
        return self._ask(retry_of=before.id if before is not None else None)

    def undo_answer(self) -> str | None:
        """Takes back the last answer, which came to nothing, and the message it was asked for; gives that one's text.

        What it was to begin with is kept for the next one.
        None if it was another try: what was there before is there again.
        """
        answer = self.answer
        if answer is None or answer.message_id not in self.conversation:
            return None
        self.answer = None
        self.prefill = self.prefill or answer.begun_with
        asked = self.conversation[answer.message_id].parent_id
        gone = [answer.message_id]
        text: str | None = None
        if answer.retry_of is None and asked is not None:
            gone.append(asked)
            text = self.conversation[asked].text
        for message_id in gone:
            self.conversation.remove(message_id)
            self.tokens_of.pop(message_id, None)
        if answer.retry_of is not None:
            self.conversation.select(answer.retry_of, descend=False)
        if not any(message.role is Role.USER for message in self.conversation):
            # A system text alone is no conversation to keep; it is stored with the next message.
            gone += [message.id for message in self.conversation]
        self._archive.remove(self.conversation, gone)
        return text

    def stop(self) -> bool:
        """Stops the answer, load, download or demonstrations under way; False if there is nothing to stop."""
        busy = self.answering or self.loading is not None or bool(self.lessons)
        if busy:
            self._stop_lessons()
            self._downloads.cancel()
            self._worker.cancel()
        return busy

    def step_sibling(self, offset: int) -> bool:
        """Switches the last answer to one of its siblings; False if there is none in that direction."""
        if self.answering:
            return False
        last = self.conversation.last(Role.ASSISTANT)
        if last is None or self.conversation.step(last.id, offset).id == last.id:
            return False
        self._archive.save(self.conversation)
        return True

    def new_conversation(self) -> None:
        """Begins an empty conversation with the same system text; demonstrations end with the old one."""
        self._stop_lessons()
        answer = self.answer
        if answer is not None and answer.running:
            self._worker.cancel(answer.request_id)
            answer.reason = FinishReason.CANCELLED
            self._keep_answer()
        system = self.conversation.system
        self.conversation = Conversation()
        self.answer = None
        if system:
            self.conversation.set_system(system)

    def set_system(self, text: str | None) -> None:
        """Gives the conversation another system text, or none."""
        self.conversation.set_system(text)
        self._archive.save(self.conversation)

    # Settings

    def set_value(self, name: str, value: object) -> None:
        """Changes a setting of `inference` (`max_tokens` for `max_length`), for an answer under way too.

        Raises:
            UsageError: The value does not hold. Whether texts to ban are tokens is known once all of `pieces` are.
        """
        if name in SAMPLING_FIELDS and value is not None:
            SamplingParams(**{name: value})  # type: ignore[arg-type]
        key = "max_length" if name == "max_tokens" else name
        inference = self.inference.model_copy(update={key: value})
        if name == "ban" and self.model is not None and len(self.pieces) == self.model.n_vocab:
            inference.sampling_params(0, self._find)
        self.inference = inference
        self._set_live()

    def value(self, name: str) -> object:
        """Gives the present value of a setting, by the names of `set_value`."""
        return getattr(self.inference, "max_length" if name == "max_tokens" else name)

    def setting_default(self, name: str) -> object:
        """Gives the value a setting has when nothing else was chosen: that of the settings the app was started with."""
        return getattr(self.settings.inference, "max_length" if name == "max_tokens" else name)

    # Events

    def handle(self, event: EngineEvent | News) -> bool:
        """Takes in what another thread reports; False if it is stale and to be ignored."""
        if isinstance(event, ModelEvent):
            return self._model.take(event)
        if isinstance(event, AnswerEvent):
            return self._answer_event(event)
        return True

    def tick(self) -> None:
        """Keeps streamed text in the store at least once a second; call it a few times a second."""
        if self.answering and self._clock() - self._saved_at >= SAVE_INTERVAL_S:
            self._keep_answer()

    def close(self, timeout_s: float = 0.3) -> bool:
        """Ends everything; False if the engine thread did not end in time."""
        self._stop_lessons()
        self._downloads.cancel()
        if self.answering:
            self._keep_answer()
        ended = self._worker.close(timeout_s)
        self._archive.close()
        return ended

    def _answer_event(self, event: AnswerEvent) -> bool:
        answer = self.answer
        if answer is None or answer.request_id != event.request_id:
            return False
        answer.take(event, self._clock())
        if isinstance(event, GenerationStarted):
            self._set_live()
        elif not answer.running:
            self._keep_answer()
        return True

    # Inside

    def _stop_lessons(self) -> None:
        for flag in self.lessons:
            flag.set()

    def _find(self, text: str) -> int | None:
        """As `Vocabulary.find`."""
        piece = text.encode()
        return self.pieces.index(piece) if piece in self.pieces else None

    def _require_ready(self) -> None:
        if self.answering:
            raise UsageError(_("still answering: Esc stops it"))
        if self.model is None:
            if self.loading is not None:
                raise EngineError(_("the model is still on its way: send again once it is ready"))
            raise EngineError(_("no model is loaded: choose one with /model"))

    def _ask(self, *, retry_of: str | None = None) -> Answer:
        messages = self.conversation.path
        inference = self.inference
        seed = inference.seed if inference.seed is not None else secrets.randbits(32)
        prefill, self.prefill = self.prefill, ""
        settings = {**inference.model_dump(mode="json"), "seed": seed, "prefill": prefill or None}
        message = self.conversation.begin_answer(
            model=self.model.name if self.model else None,
            settings={name: value for name, value in settings.items() if value is not None},
        )

        def build(engine: Engine) -> GenerationRequest:
            # Here, because only the engine thread may ask the vocabulary which tokens the texts to ban are.
            params = inference.sampling_params(seed, engine.vocab.find)
            return self._build_request(engine, messages, params, inference, prefill)

        request_id = self._worker.generate(build)
        self.answer = Answer(request_id, message.id, seed, self._clock(), retry_of, prefill)
        self.tokens_of[message.id] = self.answer.tokens
        self._save(message)
        return self.answer

    def _set_live(self) -> None:
        """Gives the answer under way the present settings; what it was begun with keeps its seed and its bans."""
        answer = self.answer
        if answer is None or not answer.running or answer.params is None:
            return
        params = replace(answer.params, **{name: getattr(self.inference, name) for name in LIVE_FIELDS})
        if params != answer.params:
            self._note_changes(answer, params)
            answer.params = params
            self._worker.set_params(params)

    def _note_changes(self, answer: Answer, params: SamplingParams) -> None:
        """Keeps with the message which settings did not stay as it was begun with, and from which token on."""
        message = self.conversation[answer.message_id]
        changed = {
            name: len(answer.tokens) for name in LIVE_FIELDS if getattr(params, name) != getattr(answer.params, name)
        }
        known = cast("Mapping[str, int]", message.settings.get(CHANGED, {}))
        self.conversation.update(replace(message, settings={**message.settings, CHANGED: {**changed, **known}}))

    def _keep_answer(self) -> None:
        answer = self.answer
        if answer is None or answer.message_id not in self.conversation:
            return
        message = self.conversation.update(
            replace(
                self.conversation[answer.message_id],
                text=answer.text,
                ids=tuple(token.id for token in answer.tokens),
                finished=not answer.running,
                finish_reason=answer.reason,
                usage=answer.usage,
                timings=answer.timings,
            )
        )
        self._save(message)

    def _save(self, message: Message) -> None:
        self._saved_at = self._clock()
        self._archive.save(self.conversation, message, self.tokens_of.get(message.id, ()))
