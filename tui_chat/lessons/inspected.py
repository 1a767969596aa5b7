"""One token of an answer, or of what was given before it, and all that was kept of it: what `/why` explains figures
from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from tui_chat.chat.conversation import Message, Role
from tui_chat.display.text import piece_label
from tui_chat.engine.types import GeneratedToken, ModelInfo, SamplingParams, Timings, TokenTrace, Usage
from tui_chat.language import _
from tui_chat.lessons.allocation import Allocation

_CUTS_FROM_BELOW = frozenset({"top_n_sigma", "top_k", "top_p", "min_p"})
"""Stages that leave the logits as they are and keep the best of them."""

_STAGE_IS_ON: Mapping[str, Callable[[float], bool]] = {
    "temperature": lambda value: value != 1,
    "top_k": lambda value: value > 0,
    "top_p": lambda value: value < 1,
    "min_p": lambda value: value > 0,
}


class Part(StrEnum):
    """What the tokens are that one of is looked at."""

    ANSWER = "answer"
    MESSAGE = "message"
    """What the model was given with a message of the user, in its template."""
    PROMPT = "prompt"
    """All that it was given before an answer."""


class NotKnownError(Exception):
    """A figure cannot be given, or not be explained, because something was not kept; the text says what."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the sampler chain, as one token's trace has it."""

    n_before: int | None
    """Tokens in the running before it; None where that is not known."""
    n_after: int
    temperature: float
    """What the logits were divided by before it."""
    spoiled_by: str | None
    """A stage before it that moved single logits, or cut elsewhere than from below: the trace does not tell which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What is known of one token and of its answer. What is not known is None or empty; nothing is guessed."""

    part: Part = Part.ANSWER
    """What `tokens` are; nothing drew those of a message or a prompt."""
    tokens: Sequence[GeneratedToken] = ()
    """Of the answer, as far as they were kept."""
    index: int | None = None
    """Which of them is looked at."""
    note: str = ""
    """Why that one, where nobody chose it; a sentence."""
    prompt_ids: Sequence[int] | None = None
    """What stood before the answer."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The sampling settings by their names, as this token was drawn."""
    usage: Usage | None = None
    timings: Timings | None = None
    written_by: str | None = None
    """Name of the model that wrote the answer."""
    model: ModelInfo | None = None
    """The model that is loaded."""
    memory: Allocation | None = None
    """What that model's load log says of memory."""
    piece_of: Callable[[int], bytes | None] = field(default=lambda _: None, compare=False)
    """Gives a token's bytes, None where they are not known."""

    @classmethod
    def of(
        cls,
        message: Message,
        tokens: Sequence[GeneratedToken],
        index: int | None,
        *,
        prompt_ids: Sequence[int] | None,
        model: ModelInfo | None,
        piece_of: Callable[[int], bytes | None],
        ran: Sequence[SamplingParams] | None = None,
    ) -> Inspected:
        """A token of a conversation.

        Args:
            message: An answer, or a message of the user.
            tokens: Its tokens.
            index: Which of them; None takes the most surprising one, or the newest where no figures were kept.
            prompt_ids: What stood before it, where that was kept.
            model: The one that is loaded.
            piece_of: Gives a token's bytes.
            ran: The settings each of the tokens was drawn with; None where only those it was begun with are known.
        """
        answer = message.role is Role.ASSISTANT
        place, note = _place(tokens, index)
        return cls(
            part=Part.ANSWER if answer else Part.MESSAGE,
            tokens=tuple(tokens),
            index=place,
            note=note,
            prompt_ids=prompt_ids or None,
            settings=message.settings if ran is None or place is None else {**message.settings, **asdict(ran[place])},
            usage=message.usage,
            timings=message.timings,
            written_by=message.model if answer or model is None else model.name,
            model=model,
            piece_of=piece_of,
        )

    @classmethod
    def of_prompt(
        cls,
        tokens: Sequence[GeneratedToken],
        index: int | None,
        model: ModelInfo | None,
        piece_of: Callable[[int], bytes | None],
    ) -> Inspected:
        """A token of all that was given before an answer.

        Args:
            tokens: From the first one of the context on.
            index: Which of them; as in `of`.
            model: The one that is loaded, which has read them.
            piece_of: Gives a token's bytes.
        """
        place, note = _place(tokens, index)
        return cls(
            part=Part.PROMPT,
            tokens=tuple(tokens),
            index=place,
            note=note,
            prompt_ids=(),
            written_by=None if model is None else model.name,
            model=model,
            piece_of=piece_of,
        )

    @property
    def token(self) -> GeneratedToken | None:
        """The token that is looked at."""
        return None if self.index is None else self.tokens[self.index]

    @property
    def trace(self) -> TokenTrace:
        """Its figures.

        Raises:
            NotKnownError: There is no token, or there are no figures of it.
        """
        if self.token is None:
            raise NotKnownError(_("nothing was answered yet: send a message, then ask again"))
        if self.token.trace is None and self.part is not Part.ANSWER:
            raise NotKnownError(_("the model has not read this token yet, or nothing stands before it"))
        if self.token.trace is None:
            raise NotKnownError(_("no figures were kept of this token, or nothing chose it: the answer began with it"))
        return self.token.trace

    @property
    def writer(self) -> ModelInfo:
        """The model that wrote the answer.

        Raises:
            NotKnownError: It is not loaded.
        """
        if self.model is None or self.written_by != self.model.name:
            raise NotKnownError(_("the model that wrote this answer is not loaded, so its sizes are not at hand"))
        return self.model

    @property
    def n_vocab(self) -> int | None:
        """Tokens the model chose from, where that is known."""
        try:
            return self.writer.n_vocab
        except NotKnownError:
            return None

    @property
    def n_used(self) -> int:
        """Tokens in the context when the answer ended, or as far as it is written.

        Raises:
            NotKnownError: Neither counts nor traces were kept.
        """
        if self.usage is not None:
            return self.usage.prompt + self.usage.generated
        newest = self.tokens[-1].trace if self.tokens else None
        if newest is None:
            raise NotKnownError(_("how long the prompt was is not known"))
        return newest.position + 1

    @property
    def history(self) -> tuple[int, ...]:
        """All tokens before this one, from the beginning of the prompt.

        Raises:
            NotKnownError: They were not kept.
        """
        if self.prompt_ids is None or self.index is None:
            raise NotKnownError(
                _("the tokens of the prompt were not kept, so how often this one occurred is not known")
            )
        before = (*self.prompt_ids, *(token.id for token in self.tokens[: self.index]))
        if len(before) != self.trace.position:
            raise NotKnownError(_("the tokens before this one are not all known"))
        return before

    def setting(self, name: str) -> float:
        """A number among the settings this token was drawn with.

        Raises:
            NotKnownError: It was not kept.
        """
        value = self.settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotKnownError(_("the setting {name} was not kept with this answer").format(name=name))
        return value

    @property
    def order(self) -> Sequence[str]:
        """Names of the stages in the order they ran.

        Raises:
            NotKnownError: As for `setting`.
        """
        order = self.settings.get("order")
        if not isinstance(order, list | tuple):
            raise NotKnownError(_("the setting {name} was not kept with this answer").format(name="order"))
        return order

    def stage(self, name: str) -> Stage | None:
        """A stage of the chain this token went through; None where it was off.

        Raises:
            NotKnownError: The trace and the settings do not agree.
        """
        found, n_before, temperature, spoiled_by = None, self.n_vocab, 1.0, None
        for stage in self.trace.stages:
            if stage.name == name:
                found = Stage(n_before, stage.survivors, temperature, spoiled_by)
                break
            n_before = stage.survivors
            if stage.name == "temperature" and (value := self.setting("temperature")) > 0:
                temperature = value
            elif stage.name not in _CUTS_FROM_BELOW:
                spoiled_by = spoiled_by or stage.name
        if name in _STAGE_IS_ON:
            wanted = name in self.order and _STAGE_IS_ON[name](self.setting(name))
            if wanted != (found is not None):
                raise disagreement()
        return found

    def label(self, token: int) -> str:
        """A token's text as one line, its id where that is not known."""
        piece = self.piece_of(token)
        return f"#{token}" if piece is None else piece_label(piece)


def _place(tokens: Sequence[GeneratedToken], index: int | None) -> tuple[int | None, str]:
    """Which token is looked at, and why that one, where nobody chose it."""
    if not tokens:
        return None, ""
    if index is not None:
        return min(index, len(tokens) - 1), ""
    index = max(range(len(tokens)), key=lambda place: (_surprisal(tokens[place]), place))
    known = tokens[index].trace is not None
    return index, _("No token is selected: this is the most surprising one.") if known else ""


def _surprisal(token: GeneratedToken) -> float:
    """Of a token, in nats; less than that of any other where it is not known."""
    return -1.0 if token.trace is None else token.trace.surprisal


def disagreement() -> NotKnownError:
    """What to say where the settings do not lead to what the trace has."""
    return NotKnownError(_("what was kept of this token does not follow from the settings kept with the answer"))
