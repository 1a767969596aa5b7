"""`tokens`: the pieces a model reads a text in, how many there are, and how the vocabulary puts a word together."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain

from tui_chat.display.figures import percent, size
from tui_chat.display.text import hex_bytes, literal, piece_label
from tui_chat.engine.gguf import GgufHeader
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import UsageError
from tui_chat.language import N_, _, n_
from tui_chat.lessons.counting import DocumentSize, count
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.merging import Merges, Step
from tui_chat.lessons.reading import blocks, like_a_path, names_file, opened
from tui_chat.lessons.report import Block, Cell, Column, Facts, Flow, Heading, Report, Span, Table, Tone, Words
from tui_chat.lessons.watch import Watch

LISTED_BYTES = 1 << 20
"""A text up to this size has its tokens in the JSON document; of a longer one they are counted only."""

SHOWN = 64
"""Most tokens shown to people one by one."""

_SEARCHED_CHARACTERS = 4096
"""Beginning of a text that is searched for a word to put together."""

_WORD_CHARACTERS = 20
"""Longest word put together: each merge is a line."""

_WORD = re.compile(r" ?[^\W\d_]+| ?[^\w\s]+|\S")

_NO_MERGES = {
    "llama": N_(
        "This vocabulary is of the SentencePiece kind and has no list of merges: every token has a score, and the two "
        "neighbours join whose union scores best."
    ),
    "bert": N_(
        "This vocabulary is of the WordPiece kind and has no merges: again and again, the longest token the rest of "
        "the word begins with is cut off."
    ),
    "t5": N_(
        "This vocabulary is of the unigram kind and has no merges: every token has a probability, and of all ways to "
        "cut the text the most probable is taken."
    ),
    "rwkv": N_(
        "This vocabulary has no merges: again and again, the longest token the rest of the text begins with is cut off."
    ),
}
"""How text is cut where it is not by merges, by `tokenizer.ggml.model`."""


@dataclass(frozen=True, slots=True)
class _Figures:
    """What is counted of a text."""

    length: DocumentSize
    n_added: int
    """Tokens that the vocabulary adds at the ends of a prompt."""
    context_length: int | None
    """Tokens the model was made for."""
    price_per_million: float | None

    @property
    def price(self) -> float | None:
        """Of the text."""
        return None if self.price_per_million is None else self.length.n_tokens * self.price_per_million / 1e6

    def per_token(self, n: int) -> float:
        """`n` shared out among the tokens of the text itself."""
        return n / max(1, self.length.n_tokens - self.n_added)


@dataclass(frozen=True, slots=True)
class _Built:
    """A word and how it is put together."""

    word: str
    ids: Sequence[int]
    start: tuple[bytes, ...]
    """The pieces it begins as."""
    steps: Sequence[Step]


def tokens_of(
    vocab: Vocabulary,
    header: GgufHeader,
    watch: Watch,
    text: str,
    *,
    special: bool = True,
    price_per_million: float | None = None,
) -> Report:
    """`tokens` of the document that `text` is the path of, or else of `text` itself.

    Raises:
        UsageError: The file cannot be read or is no text; and what `tokens` raises.
    """
    options = partial(tokens, vocab, header, watch, special=special, price_per_million=price_per_million)
    if names_file(text):
        with opened(text) as file:
            return options(blocks(file, text), name=text)
    # What the command line could not decode comes escaped (PEP 383).
    return options(blocks(io.BytesIO(text.encode("utf-8", "surrogateescape")), _("the text")))


def tokens(
    vocab: Vocabulary,
    header: GgufHeader,
    watch: Watch,
    content: Iterable[str],
    *,
    name: str = "",
    special: bool = True,
    price_per_million: float | None = None,
) -> Report:
    """The tokens of a text.

    Args:
        vocab: What cuts it.
        header: Of the file the vocabulary is from.
        watch: Stops it, and hears how much of a long document is counted.
        content: The text, in pieces that follow one another.
        name: Of the document it is from.
        special: Read the texts of control tokens as those tokens, and add those that begin and end a prompt.
        price_per_million: What a million tokens cost.

    Raises:
        UsageError: There is no text, or the price is no price.
        CancelledError: `watch` was told to stop.
    """
    if price_per_million is not None and not (math.isfinite(price_per_million) and price_per_million >= 0):
        raise UsageError(_("the price of a million tokens must be 0 or more, not {x}").format(x=price_per_million))
    n_bytes, begun, rest = 0, list[str](), iter(content)
    for block in rest:
        begun.append(block)
        n_bytes += len(block.encode())
        if n_bytes > LISTED_BYTES:
            break
    if not n_bytes:
        raise UsageError(_("{name} is empty: give some text").format(name=name or _("the text")))
    watch.check()

    def told(n_done: int) -> None:
        watch.check()
        watch.say(_("{done} counted").format(done=size(n_done)))

    text: str | None = None
    ids: list[int] = []
    built = None
    merges = Merges.of(header)
    if n_bytes > LISTED_BYTES:
        length = count(vocab, chain(begun, rest), special=special, on_progress=told)
    else:
        text = "".join(begun)
        ids = vocab.tokenize(text, add_special=special, parse_special=special)
        length = DocumentSize(len(ids), len(text), n_bytes)
        built = _build(vocab, merges, text, ids) if merges else None
    figures = _Figures(
        length,
        n_added=len(vocab.tokenize("", add_special=True)) if special else 0,
        context_length=header.integer(f"{header.architecture}.context_length"),
        price_per_million=price_per_million,
    )
    parts: list[Block] = [Words(_summary(vocab, header, length, name))]
    if text is not None and not name and like_a_path(text):
        words = _("There is no file `{name}`, so the name itself was read as the text: correct it to count a document.")
        parts.insert(0, Words(words.format(name=literal(text)), Tone.WARN))
    parts += [*_listed(vocab, ids), Facts(tuple(_facts(figures)))]
    if text is not None:
        parts += _merging(vocab, header, merges, built)
    return Report(
        title=_("tokens"),
        blocks=parts,
        document={
            "model": header.name,
            "document": name or None,
            "text": text,
            "n_tokens": length.n_tokens,
            "vocab_size": vocab.n_vocab,
            "tokens": [token_document(vocab, token) for token in ids],
            "listed": text is not None,
            "n_added": figures.n_added,
            "n_characters": length.n_characters,
            "n_bytes": length.n_bytes,
            "characters_per_token": figures.per_token(length.n_characters),
            "bytes_per_token": figures.per_token(length.n_bytes),
            "context_length": figures.context_length,
            "price_per_million": price_per_million,
            "price": figures.price,
            "merges": built and _built_document(built),
        },
    )


def _summary(vocab: Vocabulary, header: GgufHeader, length: DocumentSize, name: str) -> str:
    return n_(
        "{model} reads {what} as {n:,} token; its vocabulary has {vocab:,}.",
        "{model} reads {what} as {n:,} tokens; its vocabulary has {vocab:,}.",
        length.n_tokens,
    ).format(model=header.name, what=name or _("this text"), n=length.n_tokens, vocab=vocab.n_vocab)


def _facts(figures: _Figures) -> Iterator[tuple[str, str]]:
    length, n_added = figures.length, figures.n_added
    yield (
        _("length"),
        _("{characters:,} characters, {n_bytes:,} bytes").format(
            characters=length.n_characters, n_bytes=length.n_bytes
        ),
    )
    yield (
        _("per token"),
        _("{characters:.2f} characters, {n_bytes:.2f} bytes").format(
            characters=figures.per_token(length.n_characters), n_bytes=figures.per_token(length.n_bytes)
        ),
    )
    if n_added:
        yield (
            _("added"),
            n_(
                "{n} token, which the vocabulary puts around a prompt",
                "{n} tokens, which the vocabulary puts around a prompt",
                n_added,
            ).format(n=n_added),
        )
    if figures.context_length:
        share = length.n_tokens / figures.context_length
        text = (
            _("{share} of the {n:,} tokens that the model was made for")
            if share <= 1
            else _("{times:,.1f} times the {n:,} tokens that the model was made for")
        )
        yield _("context"), text.format(share=percent(share), times=share, n=figures.context_length)
    if figures.price is not None:
        text = _("{price}, at {rate} for a million tokens")
        yield _("price"), text.format(price=_plain(figures.price), rate=_plain(figures.price_per_million or 0))


def _plain(amount: float) -> str:
    """An amount of money without an exponent, however small."""
    return f"{Decimal(f'{amount:.4g}'):,f}"


def _listed(vocab: Vocabulary, ids: Sequence[int]) -> Iterator[Block]:
    """The first tokens in a row and one by one."""
    if not ids:
        return
    shown = ids[:SHOWN]
    labels = [piece_label(vocab.piece(token)) for token in shown]
    row: list[Span] = []
    for at, (token, label) in enumerate(zip(shown, labels, strict=True)):
        tone = Tone.CONTROL if vocab.is_control(token) else Tone.ODD if at % 2 else Tone.EVEN
        row += [Span("│", Tone.DIM)] if row and not row[-1].text.endswith("⏎") else []
        row.append(Span(label, tone))
    yield Flow(tuple(row))
    kinds = [
        _("control") if vocab.is_control(token) else _("user-defined") if vocab.is_special(token) else ""
        for token in shown
    ]
    columns = [Column("#", "right"), Column("id", "right"), Column(_("token")), Column(_("bytes"), grows=True)]
    rows: list[list[Cell]] = []
    for at, token in enumerate(shown):
        shown_as = Span(labels[at], Tone.CONTROL if vocab.is_control(token) else Tone.STRONG)
        rows.append([str(at + 1), str(token), shown_as, hex_bytes(vocab.piece(token))])
    if any(kinds):
        columns.insert(3, Column(_("kind")))
        for cells, kind in zip(rows, kinds, strict=True):
            cells.insert(3, kind)
    yield Table(tuple(columns), tuple(map(tuple, rows)))
    if len(ids) > SHOWN:
        yield Words(
            _("These are the first {shown} of {n:,} tokens; `--json` has them all.").format(shown=SHOWN, n=len(ids)),
            Tone.DIM,
        )


def _build(vocab: Vocabulary, merges: Merges, text: str, ids: Sequence[int]) -> _Built | None:
    """The longest word of a text that its merges put together as the tokenizer did; None where there is none."""
    found = dict.fromkeys(_WORD.findall(text[:_SEARCHED_CHARACTERS]))
    for word in sorted((word for word in found if len(word) <= _WORD_CHARACTERS), key=len, reverse=True):
        steps = list(merges.steps(word.encode()))
        own = vocab.tokenize(word) if steps else []
        n = len(own)
        if (
            steps
            and steps[-1].pieces == tuple(map(vocab.piece, own))
            and any(list(ids[at : at + n]) == own for at in range(len(ids) - n + 1))
        ):
            return _Built(word, own, merges.start(word.encode()), steps)
    return None


def _merging(vocab: Vocabulary, header: GgufHeader, merges: Merges | None, built: _Built | None) -> Iterator[Block]:
    """How a word is put together, or why that cannot be shown."""
    if merges is None:
        kind = _NO_MERGES.get(header.text("tokenizer.ggml.model") or "")
        yield Heading(_("How its tokens come about"))
        yield Words(
            _(kind) if kind else _("The file has no list of merges, so how its tokens come about cannot be shown.")
        )
        return
    if built is None:
        return
    yield Heading(_("How {word} is put together").format(word=piece_label(built.word.encode())))
    yield Words(
        _(
            "It begins in its smallest pieces. Of all neighbouring pairs, the one that stands first in the list of the "
            "vocabulary's {n:,} merges is joined, again and again, until no pair is in the list."
        ).format(n=merges.n_merges)
    )
    rows: list[tuple[Cell, ...]] = [("", "", "", _pieces_label(built.start))]
    for number, step in enumerate(built.steps, start=1):
        pair = f"{piece_label(step.left)} + {piece_label(step.right)}"
        rows.append((str(number), f"{step.number:,}", pair, _pieces_label(step.pieces)))
    columns = (
        Column(_("step"), "right"),
        Column(_("merge"), "right"),
        Column(_("joins")),
        Column(_("the word"), grows=True),
    )
    yield Table(columns, tuple(rows))
    yield Words(
        n_("What is left is its token: {ids}.", "What is left are its tokens: {ids}.", len(built.ids)).format(
            ids=", ".join(map(str, built.ids))
        )
    )


def _pieces_label(pieces: Sequence[bytes]) -> str:
    return " ".join(map(piece_label, pieces))


def token_document(vocab: Vocabulary, token: int) -> dict[str, object]:
    """A token as the JSON document has it; `special` is a control token or a user-defined one."""
    piece = vocab.piece(token)
    return {"id": token, "text": token_text(piece), "bytes": piece.hex(), "special": vocab.is_special(token)}


def _built_document(built: _Built) -> dict[str, object]:
    return {
        "word": built.word,
        "ids": list(built.ids),
        "start": [piece.hex() for piece in built.start],
        "steps": [
            {
                "merge": step.number,
                "left": step.left.hex(),
                "right": step.right.hex(),
                "pieces": [piece.hex() for piece in step.pieces],
            }
            for step in built.steps
        ],
    }
