"""How many tokens a document has, however large it is: tokenized in pieces, as if it had been in one.

A tokenizer looks only so far around a place: the two sides of a cut that it makes itself have the same tokens apart as
together. So each cut is tried on the text around it, and where none holds, the text stays whole. (Tokens are what
byte-pair merging gives if every two neighbours are: the argument of the crate `bpe`, github.com/github/rust-gems.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import UsageError
from tui_chat.language import _

WHOLE_CHARACTERS = 1 << 24
"""Most text that is tokenized in one piece: llama.cpp takes some 50 bytes of memory for each of its bytes."""

_PLACES = re.compile(r"(?<=[^\W\d_])(?=\s[^\W\d_])|(?<=\n)(?=\S)")
"""Between two words, before what is between them, and at the beginning of a line."""

_AROUND = 512
"""Characters on each side of a cut that it is tried on."""

_TRIED = 32
"""Places tried at the end of a block."""

_SAME = 4
"""Tokens before a cut that must be the same in the whole piece as in the text it was tried on."""


@dataclass(frozen=True, slots=True)
class DocumentSize:
    """How long a document is."""

    n_tokens: int
    """With those that the vocabulary adds."""
    n_characters: int
    n_bytes: int
    """In UTF-8."""


def count(
    vocab: Vocabulary, blocks: Iterable[str], *, special: bool, on_progress: Callable[[int], None] = lambda _: None
) -> DocumentSize:
    """The size of a document; as many tokens as it has in one piece.

    Args:
        vocab: What tokenizes it.
        blocks: The text of the document, in order.
        special: Read the texts of control tokens as those tokens, and add BOS and EOS as the vocabulary asks.
        on_progress: Called with the bytes counted so far.

    Raises:
        UsageError: The document is very large and can nowhere be cut.
    """

    def ids_of(text: str) -> list[int]:
        return vocab.tokenize(text, parse_special=special)

    n_tokens = len(vocab.tokenize("", add_special=True)) if special else 0
    n_characters = n_bytes = 0
    held = ""
    for block in blocks:
        n_characters += len(block)
        n_bytes += len(block.encode())
        on_progress(n_bytes)
        held += block
        for end, start, before in _cuts(ids_of, held, len(held) - len(block)):
            ids = ids_of(held[:end])
            if ids[-_SAME:] == before[-_SAME:]:
                n_tokens += len(ids)
                held = held[start:]
                break
        if len(held) > WHOLE_CHARACTERS:
            raise UsageError(
                _("this tokenizer finds no place to cut {n:,} characters, too many to count in one piece").format(
                    n=len(held)
                )
            )
    return DocumentSize(n_tokens + len(ids_of(held)), n_characters, n_bytes)


def _cuts(ids_of: Callable[[str], list[int]], text: str, start: int) -> Iterator[tuple[int, int, list[int]]]:
    """Places from `start` on where `text` may be cut, the last ones first.

    Yields:
        Where the first part ends, where the second begins, and the tokens just before the cut.
    """
    places = [match.start() for match in _PLACES.finditer(text, max(1, start), max(1, len(text) - _AROUND))]
    for place in islice(reversed(places), _TRIED):
        left, right = text[max(0, place - _AROUND) : place], text[place : place + _AROUND]
        before, together = ids_of(left), ids_of(left + right)
        # A SentencePiece vocabulary puts a space of its own in front of a text: then the one there is left out.
        for skipped in range(1 + right.startswith(" ")):
            if together == before + ids_of(right[skipped:]):
                yield place, place + skipped, before
