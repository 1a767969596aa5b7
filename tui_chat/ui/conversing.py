"""What is said and answered in a session: messages, answers, forks, and what is kept of them. No widgets.

All methods are for the one thread that owns the session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.fork import Fork
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import FinishReason, GeneratedToken, GenerationStarted, ModelInfo
from tui_chat.errors import EngineError, UsageError
from tui_chat.language import _
from tui_chat.ui.asking import Question, seed_of, take_back
from tui_chat.ui.current_model import CurrentModel
from tui_chat.ui.forking import fork_of, spelled
from tui_chat.ui.news import BiasSpec
from tui_chat.ui.ports import Archive, BuildRequest, Worker
from tui_chat.ui.progress import Answer, AnswerEvent, Loading
from tui_chat.ui.stepping import Stepping
from tui_chat.ui.tuning import Tuning, bias_spec


class Conversing:
    """A conversation and the model that answers in it.

    Args:
        inference: The settings of answers.
        worker: The engine thread.
        model: What is loaded there.
        build_request: Makes a request of messages.
        archive: Where the conversation is kept.
        conversation: One to go on with.
        tokens_of: The tokens of its answers, as far as they are known.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        inference: InferenceSettings,
        worker: Worker,
        model: CurrentModel,
        *,
        build_request: BuildRequest,
        archive: Archive,
        conversation: Conversation | None,
        tokens_of: Mapping[str, Sequence[GeneratedToken]] | None,
        clock: Callable[[], float],
    ) -> None:
        self.tuning = Tuning(inference, clock)
        """The settings, and what they were before."""
        self.conversation = conversation or Conversation()
        self.answer: Answer | None = None
        self.prefill = ""
        """What the next answer is to begin with."""
        self.stepping = Stepping(worker)
        """Whether answers wait before their tokens."""
        self.tokens_of = {key: list(tokens) for key, tokens in (tokens_of or {}).items()}
        """Tokens of the answers of this run, and of those that came with the conversation, by message."""
        self._worker = worker
        self._model = model
        self._build_request = build_request
        self._archive = archive
        self._clock = clock
        self._saved_at = 0.0
        self._asked_biases: BiasSpec = ((), ())
        """Biases and bans of the answer, as they were written when it was asked for."""
        if conversation is None and inference.system:
            self.conversation.set_system(inference.system)

    # What is going on

    @property
    def inference(self) -> InferenceSettings:
        """The settings in force."""
        return self.tuning.present

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

    def piece_of(self, token: int) -> bytes | None:
        """Gives a token's bytes, or None while they are not known."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else None

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

    def fork(self, message_id: str, index: int, forced: Sequence[int] | str = (), *, goes_on: bool = True) -> Answer:
        """Goes on from the middle of an answer, as a sibling of it; an answer under way is stopped with what it has.

        Args:
            message_id: The answer, one under way too.
            index: How many of its tokens stay.
            forced: What is put behind them: tokens, or text that the engine turns into tokens. Nothing draws the next
                token anew, with the present settings.
            goes_on: Let the model go on behind that. A forced end-of-generation token ends the answer all the same.

        Raises:
            UsageError: It is no answer of this conversation, or has not that many tokens.
            EngineError: No model is there to go on.
        """
        self._require_here(message_id)
        self._interrupt()
        model = self._require_ready()
        old = self.conversation[message_id]
        tokens = self.tokens_of.get(message_id, ())
        fork, ends_as = fork_of(old, tokens, model, index, forced, goes_on=goes_on)
        before = self.conversation.tip
        self.conversation.select(message_id, descend=False)
        return self._ask(retry_of=before.id if before is not None else None, forking=(old, fork), ends_as=ends_as)

    def respell(self, message_id: str, ids: Sequence[int], *, answer: bool = True) -> Message:
        """Says a message of the user again with exactly these tokens, as a sibling, and asks for the answer.

        An answer under way is stopped with what it has.

        Raises:
            UsageError: It is no message of the user, or the model has no such token, or they spell no text.
            EngineError: No model is there to answer, or its tokens are not known yet.
        """
        self._require_here(message_id)
        text = spelled(self.conversation[message_id], ids, self._require_model(), self.piece_of)
        self._interrupt()
        message = self.conversation.edit(message_id, text)
        message = self.conversation.update(replace(message, ids=tuple(ids)))
        self._save(message)
        if answer:
            self._ask()
        return message

    def adopt(self, asked_id: str, inference: InferenceSettings, events: Sequence[AnswerEvent]) -> Message:
        """Keeps an answer that was written beside the conversation, as another answer to a message, and goes there.

        Args:
            asked_id: The message of the user.
            inference: The settings it was written with.
            events: What the engine would have reported of it, from `GenerationStarted` on.

        Raises:
            UsageError: An answer is under way, or the message is of another conversation.
            EngineError: The model that wrote it is gone.
        """
        model = self._require_ready()
        self._require_here(asked_id)
        self.conversation.select(asked_id, descend=False)
        (seed,) = (event.request.params.seed for event in events if isinstance(event, GenerationStarted))
        question = Question(self.conversation.path, inference, seed)
        message = self.conversation.begin_answer(model=model.name, settings=question.settings)
        self.answer = Answer(0, message.id, seed, self._clock())
        for event in events:
            self.answer.take(event, self._clock())
        self.tokens_of[message.id] = self.answer.tokens
        self._keep_answer()
        return self.conversation[message.id]

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
        gone, text = take_back(self.conversation, answer)
        for message_id in gone:
            self.tokens_of.pop(message_id, None)
        self._archive.remove(self.conversation, gone)
        return text

    def step_sibling(self, offset: int) -> bool:
        """Switches the last answer to one of its siblings; False if there is none in that direction."""
        if self.answering:
            return False
        last = self.conversation.last(Role.ASSISTANT)
        if last is None or self.conversation.step(last.id, offset).id == last.id:
            return False
        self._archive.save(self.conversation)
        return True

    # Inside

    def _require_ready(self) -> ModelInfo:
        if self.answering:
            raise UsageError(_("still answering: Esc stops it"))
        return self._require_model()

    def _require_here(self, message_id: str) -> None:
        if message_id not in self.conversation:
            raise UsageError(_("this belongs to another conversation"))

    def _require_model(self) -> ModelInfo:
        if self.model is None:
            if self.loading is not None:
                raise EngineError(_("the model is still on its way: send again once it is ready"))
            raise EngineError(_("no model is loaded: choose one with /model"))
        return self.model

    def _interrupt(self) -> None:
        """Stops an answer under way and keeps what there is of it; nothing more of it is taken in."""
        answer = self.answer
        if answer is not None and answer.running:
            self._worker.cancel(answer.request_id)
            answer.reason, answer.pending = FinishReason.CANCELLED, None
            self._keep_answer()

    def _ask(
        self,
        *,
        retry_of: str | None = None,
        forking: tuple[Message, Fork] | None = None,
        ends_as: FinishReason | None = None,
    ) -> Answer:
        """Begins an answer at the tip, or beside the one it forks from."""
        old, fork = forking or (None, None)
        messages = self.conversation.path if old is None else self.conversation.path_to(old.parent_id)
        prefill = ""
        if fork is None:
            prefill, self.prefill = self.prefill, ""
        question = Question(messages, self.inference, seed_of(self.inference, old), prefill, fork)
        model, settings = self.model.name if self.model else None, question.settings
        if old is None or fork is None:
            message = self.conversation.begin_answer(model=model, settings=settings)
        else:
            message = self.conversation.fork(old.id, fork.index, model=model, settings=settings)
        self._asked_biases = bias_spec(question.inference)
        build = partial(question.request, build=self._build_request)
        request_id = self._worker.generate(build, self.stepping.begin())
        self.answer = Answer(request_id, message.id, question.seed, self._clock(), retry_of, prefill, ends_as)
        self.tokens_of[message.id] = self.answer.tokens
        self._save(message)
        return self.answer

    def _keep_answer(self) -> None:
        answer = self.answer
        if answer is None or answer.message_id not in self.conversation:
            return
        message = self.conversation.update(answer.written_into(self.conversation[answer.message_id]))
        self._save(message)

    def _save(self, message: Message) -> None:
        self._saved_at = self._clock()
        self._archive.save(self.conversation, message, self.tokens_of.get(message.id, ()))
