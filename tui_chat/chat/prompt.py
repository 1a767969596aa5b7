"""What the model is given: a conversation rendered by a chat template, as token ids that fit into the context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.splice import Piece, PromptVocabulary, encode, is_risky, locate, neutralize, own_ids
from tui_chat.chat.template import ChatTemplate
from tui_chat.errors import PromptTooLongError, TemplateError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, ready for the engine."""

    text: str
    """The template as rendered."""
    ids: tuple[int, ...]
    """The tokens; BOS is among them where the model wants it."""
    dropped: int = 0
    """Messages at the beginning of the conversation that were left out because they do not fit."""
    reused_answers: int = 0
    """Answers that went in as the very tokens the model had generated."""
    notes: tuple[str, ...] = ()
    """What the user should know: the system text moved, control tokens taken apart, no template in the model."""


def build_prompt(
    messages: Sequence[Message],
    vocab: PromptVocabulary,
    template: ChatTemplate,
    *,
    add_generation_prompt: bool = True,
    enable_thinking: bool | None = None,
) -> Prompt:
    """Render the messages and turn the text into ids.

    Args:
        messages: The path, up to the message that is to be answered. Empty answers are left out, and the messages
            of the user that meet there become one.
        vocab: Of the loaded model.
        template: What to render with.
        add_generation_prompt: End with the opening of the assistant's turn.
        enable_thinking: For templates that can switch reasoning; None leaves it to the template.

    Raises:
        TemplateError: The template refuses the messages or fails.
    """
    return _Builder(vocab, template, add_generation_prompt, enable_thinking).build(_said(messages, template))


def fit_prompt(
    messages: Sequence[Message],
    vocab: PromptVocabulary,
    template: ChatTemplate,
    *,
    n_ctx: int,
    reserve: int,
    at_least: int = 0,
    enable_thinking: bool | None = None,
) -> Prompt:
    """The prompt of as much of the conversation as leaves room for the answer.

    Whole exchanges are left out, oldest first, never the system message nor the last user message. When more must go
    than last time, an eighth of the context goes with it, so that the beginning of the prompt, and with it the cache,
    stays the same for some turns.

    Args:
        messages: The path, up to the message that is to be answered.
        vocab: Of the loaded model.
        template: What to render with.
        n_ctx: Tokens the context holds.
        reserve: Tokens to keep free for the answer; at most half the context is.
        at_least: `dropped` of the turn before, to leave out the same messages again if any must be.
        enable_thinking: As for `build_prompt`.

    Raises:
        PromptTooLongError: The last message alone does not fit.
        TemplateError: The template refuses the messages or fails.
    """
    messages = _said(messages, template)
    builder = _Builder(vocab, template, True, enable_thinking)
    room = n_ctx - min(max(reserve, 1), n_ctx // 2)
    cuts = _cuts(messages)
    first = 0
    prompt = builder.build(messages)
    if len(prompt.ids) > room and at_least:
        first = max(cut for cut in range(len(cuts)) if cuts[cut] <= at_least)
        prompt = builder.build(_tail(messages, cuts[first]))
    if len(prompt.ids) > room:
        cut = len(cuts)
        for limit in (room - n_ctx // 8, room):
            cut = bisect_left(
                range(len(cuts)),
                True,
                lo=first + 1,
                key=lambda n: len(builder.build(_tail(messages, cuts[n])).ids) <= limit,
            )
            if cut < len(cuts):
                break
        first = min(cut, len(cuts) - 1)
        prompt = builder.build(_tail(messages, cuts[first]))
    if len(prompt.ids) + 1 > n_ctx:
        raise PromptTooLongError(len(prompt.ids), n_ctx)
    return replace(prompt, dropped=cuts[first])


def _said(messages: Sequence[Message], template: ChatTemplate) -> tuple[Message, ...]:
    """The messages without answers that came to nothing.

    What the user said before and after such an answer becomes one message: many templates refuse two in a row, and
    models are trained on turns that alternate.
    """
    said: list[Message] = []
    for message in messages:
        if message.role is Role.ASSISTANT and not message.text:
            continue
        in_a_row = message.role is Role.USER and bool(said) and said[-1].role is Role.USER
        if in_a_row and not template.single_message:
            said[-1] = replace(message, text=f"{said[-1].text}\n\n{message.text}")
        else:
            said.append(message)
    return tuple(said)


def _cuts(messages: Sequence[Message]) -> list[int]:
    """How many messages after the system message may be left out: 0, the first exchange, the first two, ..."""
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    starts = [index for index, message in enumerate(rest) if message.role is Role.USER]
    return sorted({0, *starts})


def _tail(messages: Sequence[Message], dropped: int) -> list[Message]:
    system = [message for message in messages if message.role is Role.SYSTEM]
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    return system + rest[dropped:]


class _Builder:
    """Renders and encodes with one vocabulary and one template."""

    def __init__(
        self, vocab: PromptVocabulary, template: ChatTemplate, add_generation_prompt: bool, enable_thinking: bool | None
    ) -> None:
        self.vocab = vocab
        self.template = template
        self.add_generation_prompt = add_generation_prompt
        self.enable_thinking = enable_thinking
        self.bos_token = self._name(vocab.bos_id)
        self.eos_token = self._name(vocab.eos_id)

    def build(self, messages: Sequence[Message]) -> Prompt:
        notes: list[str] = []
        if self.template.origin.kind == "fallback":
            notes.append("the model has no chat template: ChatML is used")
        messages, text = self._render_or_fold(list(messages), notes)
        contents = [message.text for message in messages]
        places: dict[int, Piece] = {}
        for index, message in enumerate(messages):
            ids = None if not message.ids else own_ids(message.ids, message.text, self.vocab)
            if ids is not None:
                places[index] = Piece(message.text, ids=ids)
            elif is_risky(message.text, self.vocab):
                places[index] = Piece(message.text, literal=True)

        def render(marked: Sequence[str]) -> str:
            return self._render([replace(m, text=content) for m, content in zip(messages, marked, strict=True)])

        pieces, found = locate(contents, places, render, text, self.vocab)
        lost = [index for index, place in places.items() if place.literal and index not in found]
        if lost:
            notes.append("the chat template alters a message that names control tokens: the names were taken apart")
            for index in lost:
                contents[index] = neutralize(contents[index], self.vocab)
                del places[index]
            text = render(contents)
            pieces, found = locate(contents, places, render, text, self.vocab)
        reused = sum(piece.ids is not None for piece in pieces)
        return Prompt(text=text, ids=tuple(encode(pieces, self.vocab)), reused_answers=reused, notes=tuple(notes))

    def _render_or_fold(self, messages: list[Message], notes: list[str]) -> tuple[list[Message], str]:
        """Render; where the template takes no system message, put its text before the first user message."""
        system = next((message for message in messages if message.role is Role.SYSTEM), None)
        if system is None or self.template.single_message:
            return messages, self._render(messages)
        text = ""
        refusal: TemplateError | None = None
        try:
            text = self._render(messages)
            if system.text.strip() in text:
                return messages, text
        except TemplateError as error:
            refusal = error
        folded = _fold_system(messages)
        try:
            folded_text = self._render(folded)
        except TemplateError:
            if refusal is not None:
                raise refusal from None
            return messages, text
        notes.append("the chat template takes no system message: its text stands before the first message instead")
        return folded, folded_text

    def _render(self, messages: Sequence[Message]) -> str:
        return self.template.render(
            [{"role": message.role.value, "content": message.text} for message in messages],
            bos_token=self.bos_token,
            eos_token=self.eos_token,
            add_generation_prompt=self.add_generation_prompt,
            enable_thinking=self.enable_thinking,
        )

    def _name(self, token: int | None) -> str:
        return "" if token is None else self.vocab.piece(token).decode("utf-8", "replace")


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    system = "\n\n".join(message.text for message in messages if message.role is Role.SYSTEM)
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    for index, message in enumerate(rest):
        if message.role is Role.USER:
            rest[index] = replace(message, text=f"{system}\n\n{message.text}")
            break
    return rest
