"""What the model is given: a conversation rendered by a chat template, as token ids that fit into the context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.splice import Piece, PromptVocabulary, encode, encode_text, is_risky, locate, neutralize, own_ids
from tui_chat.chat.template import ChatTemplate
from tui_chat.errors import PromptTooLongError, TemplateError
from tui_chat.language import N_


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, ready for the engine."""

    text: str
    """The template as rendered, and behind it the text the answer is to begin with."""
    ids: tuple[int, ...]
    """The tokens; BOS is among them where the model wants it."""
    messages: tuple[Message, ...] = ()
    """What was rendered: answers that came to nothing left out, names of control tokens taken apart."""
    prefill: str = ""
    """The text the answer is to begin with."""
    n_prefilled: int = 0
    """How many of the last of `ids` belong to the answer already."""
    dropped: int = 0
    """Messages at the beginning of the conversation that were left out because they do not fit."""
    reused_answers: int = 0
    """Answers that went in as the very tokens the model had generated."""
    notes: tuple[str, ...] = ()
    """What the user should know: the system text moved, control tokens taken apart, no template in the model. English,
    translated where it is shown."""


def build_prompt(
    messages: Sequence[Message],
    vocab: PromptVocabulary,
    template: ChatTemplate,
    *,
    add_generation_prompt: bool = True,
    enable_thinking: bool | None = None,
    prefill: str = "",
) -> Prompt:
    """Render the messages and turn the text into ids.

    Args:
        messages: The path, up to the message that is to be answered. Empty answers are left out, and the messages
            of the user that meet there become one.
        vocab: Of the loaded model.
        template: What to render with.
        add_generation_prompt: End with the opening of the assistant's turn.
        enable_thinking: For templates that can switch reasoning; None leaves it to the template.
        prefill: Text the answer is to begin with; names of control tokens in it are only text.

    Raises:
        TemplateError: The template refuses the messages or fails.
    """
    return PromptBuilder(vocab, template, add_generation_prompt, enable_thinking, prefill).build(messages)


def fit_prompt(
    messages: Sequence[Message],
    vocab: PromptVocabulary,
    template: ChatTemplate,
    *,
    n_ctx: int,
    reserve: int,
    at_least: int = 0,
    enable_thinking: bool | None = None,
    prefill: str = "",
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
        prefill: As for `build_prompt`.

    Raises:
        PromptTooLongError: The last message alone does not fit.
        TemplateError: The template refuses the messages or fails.
    """
    messages = _said(messages, template)
    builder = PromptBuilder(vocab, template, True, enable_thinking, prefill)
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


def without_oldest(messages: Sequence[Message], template: ChatTemplate, dropped: int) -> Sequence[Message]:
    """The messages that are left when so many are left out, as `Prompt.dropped` counts them."""
    return _tail(_said(messages, template), dropped)


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


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Renders conversations with one template and turns them into ids of one vocabulary."""

    vocab: PromptVocabulary
    """Of the loaded model."""
    template: ChatTemplate
    """What to render with."""
    add_generation_prompt: bool = True
    """End with the opening of the assistant's turn."""
    enable_thinking: bool | None = None
    """For templates that can switch reasoning; None leaves it to the template."""
    prefill: str = ""
    """Text the answer is to begin with; names of control tokens in it are only text."""
    bos_token: str | None = None
    """What the template is told of the token a prompt begins with; None takes the vocabulary's."""
    eos_token: str | None = None
    """What the template is told of the token an answer ends with; None takes the vocabulary's."""

    def build(self, messages: Sequence[Message]) -> Prompt:
        """As `build_prompt`."""
        messages = _said(messages, self.template)
        notes: list[str] = []
        if self.template.origin.kind == "fallback":
            notes.append(N_("the model has no chat template: ChatML is used"))
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
            return self._with_contents(messages, marked)

        pieces, found = locate(contents, places, render, text, self.vocab)
        lost = [index for index, place in places.items() if place.literal and index not in found]
        if lost:
            notes.append(N_("the chat template alters a message that names control tokens: the names were taken apart"))
            for index in lost:
                contents[index] = neutralize(contents[index], self.vocab)
                del places[index]
            text = render(contents)
            pieces, found = locate(contents, places, render, text, self.vocab)
        encoded = encode(pieces, self.vocab)
        begun = encode_text(Piece(self.prefill, literal=True), self.vocab, first=not encoded)
        return Prompt(
            text=text + self.prefill,
            ids=(*encoded, *begun),
            messages=tuple(replace(m, text=content) for m, content in zip(messages, contents, strict=True)),
            prefill=self.prefill,
            n_prefilled=len(begun),
            reused_answers=sum(piece.ids is not None for piece in pieces),
            notes=tuple(notes),
        )

    def places(self, prompt: Prompt) -> tuple[tuple[int, int] | None, ...]:
        """Where the text of each of `prompt.messages` stands in `prompt.text`: (start, end) in characters.

        None where the template alters the text or leaves it out.
        """
        rendered = prompt.text.removesuffix(prompt.prefill)
        contents = [message.text for message in prompt.messages]

        def place(index: int) -> tuple[int, int] | None:
            pieces, _ = locate(
                contents,
                {index: Piece(contents[index], literal=True)},
                lambda marked: self._with_contents(prompt.messages, marked),
                rendered,
                self.vocab,
            )
            start = 0
            for piece in pieces:
                if piece.literal:
                    return start, start + len(piece.text)
                start += len(piece.text)
            return None

        return tuple(place(index) for index in range(len(contents)))

    def _with_contents(self, messages: Sequence[Message], contents: Sequence[str]) -> str:
        return self._render([replace(m, text=content) for m, content in zip(messages, contents, strict=True)])

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
        notes.append(N_("the chat template takes no system message: its text stands before the first message instead"))
        return folded, folded_text

    def _render(self, messages: Sequence[Message]) -> str:
        return self.template.render(
            [{"role": message.role.value, "content": message.text} for message in messages],
            bos_token=self._name(self.vocab.bos_id) if self.bos_token is None else self.bos_token,
            eos_token=self._name(self.vocab.eos_id) if self.eos_token is None else self.eos_token,
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
