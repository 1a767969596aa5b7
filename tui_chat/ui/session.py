"""The session behind the screen: the conversation, the model, the answer under way. No widgets, so no screen is needed.

All methods are for the one thread that owns the session (the screen's); other threads reach it through events only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.config import Settings
from tui_chat.engine.types import (
    SAMPLING_FIELDS,
    FinishReason,
    GeneratedToken,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    ModelFailed,
    ModelInfo,
    ModelLoaded,
    ModelLoading,
    PrefillProgressed,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.errors import EngineError, UsageError
from tui_chat.ui.news import DownloadAdvanced, DownloadEnded, DownloadFailed, News, PiecesRead
from tui_chat.ui.pieces import read_pieces
from tui_chat.ui.ports import Archive, Ask, BuildRequest, Downloads, Worker
from tui_chat.ui.progress import Answer, Loading

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
        check_tokenizer: Callable[[Ask], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.inference = settings.inference
        self.conversation = conversation or Conversation()
        self.model: ModelInfo | None = None
        self.loading: Loading | None = None
        self.answer: Answer | None = None
        self.pieces: list[bytes] = []
        self.tokens_of = {key: list(tokens) for key, tokens in (tokens_of or {}).items()}
        """Tokens of the answers of this run, and of those that came with the conversation, by message."""
        self.lessons: set[CancelFlag] = set()
        """What stops the demonstrations under way."""
        self._check_tokenizer = check_tokenizer
        self._worker = worker
        self._build_request = build_request
        self._archive = archive
        self._downloads = downloads
        self._report = report
        self._clock = clock
        self._saved_at = 0.0
        self._load_id = 0
        if conversation is None and settings.inference.system:
            self.conversation.set_system(settings.inference.system)

    # What is going on

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
        from tui_chat.models.resolve import parse_spec, spec_from_settings

        self._worker.start()
        llm = self.settings.llm
        if model is not None:
            spec = parse_spec(model)
        else:
            spec = spec_from_settings(path=llm.path, repo=llm.repo, file=llm.file, branch=llm.branch)
        self.switch_model(spec)

    def switch_model(self, spec: ModelSpec) -> None:
        """Begins to fetch and load a model; the present one answers until the new one is there."""
        if self.loading is not None:
            self._downloads.cancel()
        if spec.kind in ("hub", "checkpoint"):
            self.loading = Loading(spec.label, download=self._downloads.fetch(spec))
        else:
            from tui_chat.models.resolve import file_of

            self._load(file_of(spec), spec.label)

    def _load(self, path: Path, label: str) -> None:
        options = self.settings.llm.load_options(self.settings.tokenizer.eos_token)
        self.loading = Loading(label, request_id=self._worker.load(path, options), fraction=0.0)

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
            raise UsageError("nothing to answer again yet: send a message first")
        before = self.conversation.tip
        self.conversation.select(last.id, descend=False)
        return self._ask(retry_of=before.id if before is not None else None)

    def undo_answer(self) -> str | None:
        """Takes back the last answer, which came to nothing, and the message it was asked for; gives that one's text.

        None if it was another try: what was there before is there again.
        """
        answer = self.answer
        if answer is None or answer.message_id not in self.conversation:
            return None
        self.answer = None
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
            for flag in self.lessons:
                flag.set()
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
        """Begins an empty conversation with the same system text."""
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
            UsageError: The value does not hold.
        """
        if name in SAMPLING_FIELDS and value is not None:
            SamplingParams(**{name: value})  # type: ignore[arg-type]
        key = "max_length" if name == "max_tokens" else name
        self.inference = self.inference.model_copy(update={key: value})
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
        match event:
            case ModelLoading() | ModelLoaded() | ModelFailed():
                return self._model_event(event)
            case DownloadAdvanced() | DownloadEnded() | DownloadFailed():
                return self._download_event(event)
            case PiecesRead(load_id, first, pieces):
                if load_id != self._load_id or first != len(self.pieces):
                    return False
                self.pieces.extend(pieces)
                self._read_pieces()
                return True
            case (
                GenerationStarted()
                | PrefillProgressed()
                | TokensGenerated()
                | GenerationFinished()
                | GenerationFailed()
            ):
                return self._answer_event(event)
        return True

    def tick(self) -> None:
        """Keeps streamed text in the store at least once a second; call it a few times a second."""
        if self.answering and self._clock() - self._saved_at >= SAVE_INTERVAL_S:
            self._keep_answer()

    def close(self, timeout_s: float = 0.3) -> bool:
        """Ends everything; False if the engine thread did not end in time."""
        self._downloads.cancel()
        if self.answering:
            self._keep_answer()
        ended = self._worker.close(timeout_s)
        self._archive.close()
        return ended

    def _model_event(self, event: ModelLoading | ModelLoaded | ModelFailed) -> bool:
        # What an earlier load did to the model holds as well; only the display is the last one's.
        loading = self.loading
        shown = loading is not None and loading.request_id == event.request_id
        if isinstance(event, ModelLoading):
            if loading is not None and shown:
                loading.fraction = event.fraction
            return shown
        if shown:
            self.loading = None
        if isinstance(event, ModelLoaded):
            self.model = event.info
            self.pieces = []
            self._load_id = event.request_id
            self._read_pieces()
            if self._check_tokenizer is not None:
                self._check_tokenizer(self._worker.run)
        elif not event.kept:
            self.model = None
        return True

    def _download_event(self, event: DownloadAdvanced | DownloadEnded | DownloadFailed) -> bool:
        loading = self.loading
        if loading is None or loading.download != event.number:
            return False
        if isinstance(event, DownloadAdvanced):
            loading.progress = event.progress
            loading.fraction = event.progress.fraction
        elif isinstance(event, DownloadEnded):
            self._load(event.path, loading.label)
        else:
            self.loading = None
        return True

    def _answer_event(
        self, event: GenerationStarted | PrefillProgressed | TokensGenerated | GenerationFinished | GenerationFailed
    ) -> bool:
        answer = self.answer
        if answer is None or answer.request_id != event.request_id:
            return False
        match event:
            case GenerationStarted(request=request):
                answer.n_prompt = len(request.prompt_ids)
                answer.prefill = (0, answer.n_prompt)
                answer.params = request.params
                self._set_live()
            case PrefillProgressed(done=done, total=total):
                answer.prefill = (done, total)
            case TokensGenerated(tokens=tokens, text=text):
                answer.tokens.extend(tokens)
                answer.text += text
                answer.arrived(self._clock())
            case GenerationFinished():
                answer.usage, answer.timings, answer.reason = event.usage, event.timings, event.reason
                self._keep_answer()
            case GenerationFailed(error=error):
                answer.error = error
                self._keep_answer()
        return True

    # Inside

    def _require_ready(self) -> None:
        if self.answering:
            raise UsageError("still answering: Esc stops it")
        if self.model is None:
            if self.loading is not None:
                raise EngineError("the model is still on its way: send again once it is ready")
            raise EngineError("no model is loaded: choose one with /model")

    def _ask(self, *, retry_of: str | None = None) -> Answer:
        messages = self.conversation.path
        inference = self.inference
        seed = inference.seed if inference.seed is not None else secrets.randbits(32)
        settings = {name: value for name, value in inference.model_dump(mode="json").items() if value is not None}
        message = self.conversation.begin_answer(
            model=self.model.name if self.model else None, settings={**settings, "seed": seed}
        )

        def build(engine: Engine) -> GenerationRequest:
            # Here, because only the engine thread may ask the vocabulary which tokens the texts to ban are.
            params = inference.sampling_params(seed, engine.vocab.find)
            return self._build_request(engine, messages, params, inference)

        request_id = self._worker.generate(build)
        self.answer = Answer(request_id, message.id, seed, self._clock(), retry_of)
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
            answer.params = params
            self._worker.set_params(params)

    def _read_pieces(self) -> None:
        if self.model is not None and len(self.pieces) < self.model.n_vocab:
            read_pieces(self._worker.run, self._load_id, len(self.pieces), self.model.n_vocab, self._report)

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
            )
        )
        self._save(message)

    def _save(self, message: Message) -> None:
        self._saved_at = self._clock()
        self._archive.save(self.conversation, message, self.tokens_of.get(message.id, ()))
