"""The session behind the screen: the conversation, the model, the answer under way. No widgets, so no screen is needed.

All methods are for the one thread that owns the session (the screen's); other threads reach it through events only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tui_chat.chat.conversation import Conversation, Message
from tui_chat.config import Settings
from tui_chat.engine.bias import first_pieces
from tui_chat.engine.types import Bias, GeneratedToken, GenerationStarted
from tui_chat.ui.conversing import Conversing
from tui_chat.ui.current_model import CurrentModel, ModelEvent
from tui_chat.ui.news import BiasesResolved, BiasSpec, News, PiecesRead
from tui_chat.ui.ports import Archive, Ask, BuildRequest, Downloads, Worker
from tui_chat.ui.progress import AnswerEvent
from tui_chat.ui.tuning import bias_spec, field_of, live_params, resolve_beside

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tui_chat.engine.control import CancelFlag
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import EngineEvent
    from tui_chat.models.resolve import ModelSpec

T = TypeVar("T")

SAVE_INTERVAL_S = 1.0
"""Longest time that streamed text is in memory only."""


class Session(Conversing):
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
        model = CurrentModel(settings, worker, downloads, report, check_tokenizer)
        super().__init__(
            settings.inference,
            worker,
            model,
            build_request=build_request,
            archive=archive,
            conversation=conversation,
            tokens_of=tokens_of,
            clock=clock,
        )
        self.settings = settings
        self.lessons: set[CancelFlag] = set()
        """What stops the demonstrations under way."""
        self.left_out = left_out
        self._downloads = downloads
        self._report = report
        self._biases: dict[BiasSpec, tuple[Bias, ...]] = {}
        """The tokens of the biases and bans that were in force during the answer."""

    # What is going on

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

    def lend(self) -> AbstractContextManager[Engine | None]:
        """Lends the engine to another thread, see `EngineWorker.lend`."""
        return self._worker.lend()

    def ask(self, job: Callable[[Engine], T]) -> Future[T]:
        """Asks the engine something, on its thread, in its turn."""
        return self._worker.run(job)

    # The conversation

    def stop(self) -> bool:
        """Stops the answer, load, download or demonstrations under way; False if there is nothing to stop."""
        busy = self.answering or self.loading is not None or bool(self.lessons)
        if busy:
            self._stop_lessons()
            self._downloads.cancel()
            self._worker.cancel()
        return busy

    def new_conversation(self) -> None:
        """Begins an empty conversation with the same system text; demonstrations end with the old one."""
        self._stop_lessons()
        self._interrupt()
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
        self.set_values({name: value})

    def set_values(self, values: Mapping[str, object]) -> None:
        """Changes settings together, by the names of `set_value`; raises what that raises."""
        known = self.model is not None and len(self.pieces) == self.model.n_vocab
        resolve = partial(first_pieces, self.pieces) if known else None
        n_vocab = None if self.model is None else self.model.n_vocab
        self.tuning.change({field_of(name): value for name, value in values.items()}, resolve, n_vocab)
        self._set_live()

    def step_settings(self, direction: int) -> tuple[str, ...]:
        """Takes the last change of settings back (-1), or brings it again (1); gives the names of the settings."""
        names = self.tuning.undo() if direction < 0 else self.tuning.redo()
        self._set_live()
        return names

    def value(self, name: str) -> object:
        """Gives the present value of a setting, by the names of `set_value`."""
        return getattr(self.inference, field_of(name))

    def setting_default(self, name: str) -> object:
        """Gives the value a setting has when nothing else was chosen: that of the settings the app was started with."""
        return getattr(self.settings.inference, field_of(name))

    # Events

    def handle(self, event: EngineEvent | News) -> bool:
        """Takes in what another thread reports; False if it is stale and to be ignored."""
        if isinstance(event, ModelEvent):
            taken = self._model.take(event)
            if isinstance(event, PiecesRead) and self.model is not None and len(self.pieces) == self.model.n_vocab:
                self._spell_tokens(self.model.name)
            return taken
        if isinstance(event, AnswerEvent):
            return self._answer_event(event)
        if isinstance(event, BiasesResolved):
            self._biases[event.spec] = event.biases
            self._set_live()
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
            self._biases = {self._asked_biases: event.request.params.logit_bias}
            self._set_live()
        elif not answer.running:
            self._keep_answer()
        return True

    # Inside

    def _stop_lessons(self) -> None:
        for flag in self.lessons:
            flag.set()

    def _spell_tokens(self, model: str) -> None:
        """Gives the stored tokens of a model their bytes, where no figures were kept that have them."""
        for key, tokens in self.tokens_of.items():
            if key in self.conversation and self.conversation[key].model == model:
                for index, token in enumerate(tokens):
                    if not token.piece and (piece := self.piece_of(token.id)):
                        tokens[index] = replace(token, piece=piece)

    def _set_live(self) -> None:
        """Gives the answer under way the present settings; its seed and its grammar stay."""
        answer = self.answer
        if answer is None or not answer.running or answer.params is None:
            return
        spec = bias_spec(self.inference)
        if spec not in self._biases:
            self._biases[spec] = answer.params.logit_bias  # until it is known better
            resolve_beside(self.inference, self.lend, self._report)
        params = live_params(answer.params, self.inference, self._biases[spec])
        if params != answer.params:
            answer.params = params
            self._worker.set_params(params)
