"""From a rendered template to token ids, with the model's own ids kept as they are.

Token ids are the truth: what the model generated goes back into the prompt as those very ids, because encoding its text
again may give others and would throw the cache away. And what people type is text: the name of a control token in it
must not become that token. Both need to know where in the rendered text a message's content stands. The template is
rendered once with the real contents and once with markers in their place; where putting the contents back for the
markers gives the real rendering, the places are exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tui_chat.errors import TemplateError


class PromptVocabulary(Protocol):
    """What a prompt needs to know of a vocabulary."""

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""

    @property
    def bos_id(self) -> int | None:
        """The token a prompt begins with."""

    @property
    def eos_id(self) -> int | None:
        """The token an answer ends with."""

    @property
    def add_bos(self) -> bool:
        """Whether the model wants `bos_id` in front."""

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Ids of `text`; with `parse_special`, names of control tokens become those tokens."""

    def piece(self, token: int) -> bytes:
        """The token's own bytes; a control token gives its name."""

    def is_control(self, token: int) -> bool:
        """Whether the token steers the model and is not text for people."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the prompt."""

    text: str
    ids: tuple[int, ...] | None = None
    """The model's own tokens for it, used as they are."""
    literal: bool = False
    """Text in which the names of control tokens are only text."""


def own_ids(ids: Sequence[int], text: str, vocab: PromptVocabulary) -> tuple[int, ...] | None:
    """The beginning of `ids` that spells `text` exactly; None if no beginning does.

    Ids of another vocabulary, or of an answer cut in the middle of a token, do not. Control tokens inside take no text;
    those after the last character are left out, because the template writes its own.
    """
    wanted = text.encode("utf-8", "surrogatepass")
    done = 0
    for count, token in enumerate(ids):
        if done == len(wanted):
            return tuple(ids[:count])
        if not 0 <= token < vocab.n_vocab:
            return None
        piece = vocab.piece(token)
        if wanted.startswith(piece, done):
            done += len(piece)
        elif not vocab.is_control(token):
            return None
    return tuple(ids) if done == len(wanted) else None


def is_risky(text: str, vocab: PromptVocabulary) -> bool:
    """Whether `text` names a control token, so that parsing it would give more than text."""
    return vocab.tokenize(text, parse_special=True) != vocab.tokenize(text, parse_special=False)


def neutralize(text: str, vocab: PromptVocabulary) -> str:
    """`text` with the names of control tokens broken up by a zero-width space."""
    names = {
        vocab.piece(token).decode("utf-8", "replace")
        for token in vocab.tokenize(text, parse_special=True)
        if vocab.is_control(token)
    }
    for name in sorted((name for name in names if len(name) > 1), key=len, reverse=True):
        text = text.replace(name, f"{name[0]}\u200b{name[1:]}")
    return text


def locate(
    contents: Sequence[str],
    places: Mapping[int, Piece],
    render: Callable[[Sequence[str]], str],
    rendered: str,
    vocab: PromptVocabulary,
) -> tuple[list[Piece], frozenset[int]]:
    """The rendered text in pieces, and which of `places` could be found in it (or are not shown in it at all).

    Args:
        contents: The content of every message.
        places: What to put where the content of a message stands, by the message's index.
        render: Renders the template with these contents.
        rendered: The rendering with the real contents.
        vocab: Spells the ids where the template trimmed a content.
    """
    pieces = _split(contents, places, render, rendered, vocab)
    if pieces is not None:
        return pieces, frozenset(places)
    # The template alters some content (it trims it, or cuts out the reasoning): keep those it leaves alone.
    chosen = {
        index: piece
        for index, piece in places.items()
        if _split(contents, {index: piece}, render, rendered, vocab) is not None
    }
    pieces = _split(contents, chosen, render, rendered, vocab)
    return ([Piece(rendered)], frozenset()) if pieces is None else (pieces, frozenset(chosen))


def encode(pieces: Sequence[Piece], vocab: PromptVocabulary) -> list[int]:
    """The ids of all pieces in a row, with BOS in front where the model wants it and the text has none."""
    ids: list[int] = []
    for piece in pieces:
        if piece.ids is not None:
            ids.extend(piece.ids)
        elif piece.text:
            ids.extend(encode_text(piece, vocab, first=not ids))
    if vocab.add_bos and vocab.bos_id is not None and ids[:1] != [vocab.bos_id]:
        ids.insert(0, vocab.bos_id)
    return ids


def encode_text(piece: Piece, vocab: PromptVocabulary, *, first: bool) -> list[int]:
    """The ids of one piece of text; `first` where nothing stands before it in the prompt."""
    ids = vocab.tokenize(piece.text, parse_special=not piece.literal)
    if first or not ids:
        return ids
    # Some vocabularies put a space before every text, which is wrong in mid-prompt. A control character in front takes
    # the space, and as no token joins it with what follows, the rest is as it should be.
    if b"".join(map(vocab.piece, ids)) == b" " + piece.text.encode("utf-8", "replace"):
        guard = vocab.tokenize("\x02", parse_special=False)
        guarded = vocab.tokenize("\x02" + piece.text, parse_special=not piece.literal)
        if guarded[: len(guard)] == guard:
            return guarded[len(guard) :]
    return ids


def _split(
    contents: Sequence[str],
    places: Mapping[int, Piece],
    render: Callable[[Sequence[str]], str],
    rendered: str,
    vocab: PromptVocabulary,
) -> list[Piece] | None:
    """The rendered text cut at the places; None if a place is not where its marker says."""
    if not places:
        return [Piece(rendered)]
    nonce = 0
    while any(f"\ue0f0{nonce}:" in text for text in (rendered, *contents)):
        nonce += 1
    marks = [f"\ue0f0{nonce}:{index}\ue0f1" if index in places else text for index, text in enumerate(contents)]
    try:
        marked = render(marks)
    except TemplateError:  # it looks into the content
        return None
    parts = re.split(f"\ue0f0{nonce}:([0-9]+)\ue0f1", marked)
    pieces: list[Piece] = []
    position = 0
    for number, part in enumerate(parts):
        if number % 2 == 0:
            if not rendered.startswith(part, position):
                return None
            position += len(part)
            pieces.append(Piece(part))
            continue
        piece = places[int(part)]
        after = parts[number + 1]
        for text in dict.fromkeys((piece.text, piece.text.strip(), piece.text.rstrip(), piece.text.lstrip())):
            end = position + len(text)
            if rendered.startswith(text, position) and rendered.startswith(after, end):
                pieces.append(_fitted(piece, text, vocab))
                position = end
                break
        else:
            return None
    return pieces if position == len(rendered) else None


def _fitted(piece: Piece, text: str, vocab: PromptVocabulary) -> Piece:
    """The piece for `text`, which is its own text or that trimmed."""
    if text == piece.text:
        return piece
    ids = None if piece.ids is None else own_ids(piece.ids, text, vocab)
    return Piece(text, ids=ids, literal=ids is None)
