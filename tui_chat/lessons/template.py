"""`template`: the exact prompt the model sees, where each message stands in it, and what the template adds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.prompt import Prompt, PromptBuilder
from tui_chat.display.text import literal
from tui_chat.language import _, n_
from tui_chat.lessons.report import Cell, Column, Facts, Report, Span, Table, Tone, Verbatim, Words
from tui_chat.lessons.scene import Scene, warning

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.vocabulary import Vocabulary

Stretch = tuple[int, int]
"""Where something begins, and where it ends."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who a prompt is for. The weights of a model are not needed for that."""

    name: str
    vocab: Vocabulary
    n_ctx: int | None
    """Tokens there is room for, where that is known."""


def template(
    reader: Reader | None, builder: PromptBuilder, scene: Scene, *, fitted_for: Engine | None = None
) -> Report:
    """The prompt of a conversation.

    Args:
        reader: The model the prompt is for; without one (and with `NoVocabulary`) there is the text alone.
        builder: Makes the prompt; with `fitted_for` that of the scene.
        scene: The messages; an example where there are none.
        fitted_for: Leave the oldest exchanges out where a chat with it would, because its context does not hold all.

    Raises:
        TemplateError: The template refuses the messages or fails.
        PromptTooLongError: With `fitted_for`, the last message alone is too long.
    """
    shown = scene if scene.messages else replace(scene, messages=example())
    prompt = shown.fitted(fitted_for) if fitted_for is not None else builder.build(shown.messages)
    laid = Laid(prompt, builder.places(prompt), reader.vocab if reader is not None else None)
    switches = switches_thinking(builder, prompt.messages)
    closed = replace(builder, add_generation_prompt=False, prefill="").build(prompt.messages).text
    opening = prompt.text.removesuffix(prompt.prefill).removeprefix(closed)
    notes = list(_notes(prompt, reader))
    return Report(
        title=_("template"),
        blocks=[
            Words(_introduction(builder, prompt, is_example=not scene.messages)),
            Verbatim(tuple(laid.spans())),
            _table(prompt, laid),
            Facts(tuple(_facts(reader, builder, prompt, laid, opening, switches))),
            # The first note of a fallback says what the introduction has said.
            *(Words(note, Tone.WARN) for note in notes[_is_fallback(builder) :]),
        ],
        document={
            "model": reader.name if reader is not None else None,
            "template": {"kind": builder.template.origin.kind, "name": builder.template.origin.name},
            "example": not scene.messages,
            "text": prompt.text,
            **({"ids": list(prompt.ids)} if reader is not None else {}),
            "messages": [
                {"role": message.role.value, "characters": characters, "tokens": tokens}
                for message, characters, tokens in zip(prompt.messages, laid.characters, laid.tokens, strict=True)
            ],
            "generation_prompt": opening,
            "prefill": prompt.prefill,
            "enable_thinking": builder.enable_thinking,
            "switches_thinking": switches,
            "dropped": prompt.dropped,
            "notes": notes,
        },
    )


def example() -> tuple[Message, ...]:
    """A short conversation to show a template on."""
    conversation = Conversation()
    conversation.append(Role.SYSTEM, _("Answer in one sentence."))
    conversation.append(Role.USER, _("What is a token?"))
    conversation.append(Role.ASSISTANT, _("A token is a small piece of text."))
    conversation.append(Role.USER, _("Give me an example."))
    return conversation.path


def switches_thinking(builder: PromptBuilder, messages: Sequence[Message]) -> bool:
    """Whether the template makes different prompts with thinking on and off."""
    return len({replace(builder, enable_thinking=on).build(messages).text for on in (True, False)}) > 1


class NoVocabulary:
    """Stands in where no model is loaded: no text has tokens, and none of it names a control token."""

    n_vocab = 0
    bos_id = None
    eos_id = None
    add_bos = False

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Gives no tokens."""
        return []

    def piece(self, token: int) -> bytes:
        """There is none."""
        raise IndexError(token)

    def is_control(self, token: int) -> bool:
        """No token is."""
        return False


class Laid:
    """What each part of a prompt is, and where its messages stand.

    Args:
        prompt: The prompt.
        characters: Where each message stands in its text; None where it does not.
        vocab: Of the prompt's ids; None where there are none.
    """

    def __init__(self, prompt: Prompt, characters: Sequence[Stretch | None], vocab: Vocabulary | None) -> None:
        self.characters = characters
        self.tokens: Sequence[Stretch | None] = [None] * len(characters)
        """The tokens of each message: the first, and the one behind the last."""
        self.n_control = 0
        """Control tokens, and others that the model's makers added whole."""
        self.begins_with_bos = False
        """The vocabulary has put BOS before what the template made."""
        self._prompt = prompt
        self._parts: list[tuple[Tone, bytes]] = []
        if vocab is not None:
            self._lay(vocab)

    def _lay(self, vocab: Vocabulary) -> None:
        ids, text = self._prompt.ids, self._prompt.text
        pieces = [vocab.piece(token) for token in ids]
        # What may stand before the text is BOS, or the space of a sentence-piece vocabulary.
        before = b"".join(pieces).find(_bytes(text))
        if before < 0:
            return
        starts = list(accumulate(map(len, pieces), initial=-before))

        def tokens(stretch: Stretch) -> Stretch:
            start, end = (len(_bytes(text[:index])) for index in stretch)
            first = bisect_right(starts, start) - 1
            return first, bisect_left(starts, end) if end > start else first

        self.tokens = [tokens(stretch) if stretch is not None else None for stretch in self.characters]
        said = {token for stretch in self.tokens if stretch is not None for token in range(*stretch)}
        control = {index for index, token in enumerate(ids) if vocab.is_special(token)}
        self.n_control = len(control)
        self.begins_with_bos = bool(ids) and ids[0] == vocab.bos_id and starts[1] <= 0
        for index, piece in enumerate(pieces):
            if index in control:
                tone = Tone.CONTROL
            elif index >= len(ids) - self._prompt.n_prefilled:
                tone = Tone.ACCENT
            else:
                tone = Tone.PLAIN if index in said else Tone.DIM
            self._parts.append((tone, piece))

    def spans(self) -> Iterator[Span]:
        """The prompt, with what was said told from what the template put there."""
        for tone, parts in groupby(self._parts, key=lambda part: part[0]):
            yield Span(b"".join(piece for _tone, piece in parts).decode("utf-8", "replace"), tone)
        if self._parts:
            return
        text, prefill, done = self._prompt.text, self._prompt.prefill, 0
        for start, end in sorted(stretch for stretch in self.characters if stretch is not None):
            yield Span(text[done:start], Tone.CONTROL)
            yield Span(text[start:end])
            done = end
        yield Span(text[done:].removesuffix(prefill), Tone.CONTROL)
        yield Span(prefill, Tone.ACCENT)


def _is_fallback(builder: PromptBuilder) -> bool:
    return builder.template.origin.kind == "fallback"


def _introduction(builder: PromptBuilder, prompt: Prompt, *, is_example: bool) -> str:
    n = len(prompt.messages)
    said = n_("{n} message", "{n} messages", n).format(n=n)
    if is_example:
        said = _("an example of {messages}").format(messages=said)
    if _is_fallback(builder):
        made = _("This model has no chat template, so ChatML, the most common one, makes it of {messages}")
    else:
        made = _("The chat template of {origin} makes it of {messages}")
    made = made.format(origin=builder.template.origin.name, messages=said)
    return _(
        "A model sees one text. {made}; what the template and the vocabulary add is coloured or dim where there are "
        "colours, and the table says where each message stands."
    ).format(made=made)


def _table(prompt: Prompt, laid: Laid) -> Table:
    stretches = laid.tokens if any(laid.tokens) else laid.characters
    rows: list[tuple[Cell, ...]] = []
    for message, stretch in zip(prompt.messages, stretches, strict=True):
        role = Span(message.role.value, Tone.STRONG)
        if stretch is None:
            rows.append((role, "–", "–", Span(_("the template changes this text, or leaves it out"), Tone.DIM)))
        else:
            rows.append((role, f"{stretch[0] + 1:,}", f"{stretch[1] - stretch[0]:,}", message.text))
    of_tokens = any(laid.tokens)
    columns = (
        Column(_("message")),
        Column(_("from token") if of_tokens else _("from character"), "right"),
        Column(_("tokens") if of_tokens else _("characters"), "right"),
        Column(_("its text"), grows=True),
    )
    return Table(columns, tuple(rows))


def _facts(
    reader: Reader | None, builder: PromptBuilder, prompt: Prompt, laid: Laid, opening: str, switches: bool
) -> Iterator[tuple[str, str]]:
    yield (
        _("template"),
        _("of {origin}, {n:,} characters of Jinja").format(
            origin=builder.template.origin.name, n=len(builder.template.source)
        ),
    )
    if reader is None:
        yield _("prompt"), _("{n:,} characters; its tokens are known with a model").format(n=len(prompt.text))
    else:
        size = n_(
            "{n:,} token, {control:,} of them control tokens",
            "{n:,} tokens, {control:,} of them control tokens",
            len(prompt.ids),
        ).format(n=len(prompt.ids), control=laid.n_control)
        room = "" if reader.n_ctx is None else _("; there is room for {n_ctx:,}").format(n_ctx=reader.n_ctx)
        yield _("prompt"), size + room
        if not reader.vocab.eog_ids:
            yield _("end token"), _("this model has none: an answer ends at a stop string or at the limit of tokens")
    if laid.begins_with_bos:
        yield _("beginning"), _("the vocabulary puts its BOS token before what the template makes")
    if opening:
        yield (
            _("generation prompt"),
            _("`{text}` and then the answer").format(text=literal(opening)),
        )
    if prompt.prefill:
        yield _("prefill"), _("`{text}` begins the answer").format(text=literal(prompt.prefill))
    state = {None: _("auto"), True: _("on"), False: _("off")}[builder.enable_thinking]
    yield (
        _("thinking"),
        (
            _("{state}; this template switches it: on and off make different prompts")
            if switches
            else _("{state}; this template does not switch it: on and off make the same prompt")
        ).format(state=state),
    )


def _notes(prompt: Prompt, reader: Reader | None) -> Iterator[str]:
    yield from map(_, prompt.notes)
    yield from (words.text for words in warning(prompt.dropped))
    if reader is not None and reader.n_ctx is not None and len(prompt.ids) >= reader.n_ctx:
        yield _(
            "{n:,} tokens do not fit into the context of {n_ctx:,}: a chat leaves the oldest exchanges out; this is "
            "all of it."
        ).format(n=len(prompt.ids), n_ctx=reader.n_ctx)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
