"""How byte-pair encoding puts a word together, from the list of merges in the model's file.

Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units (2016); on bytes as in GPT-2. The
order of the steps is llama.cpp's (`llm_tokenizer_bpe_session::tokenize`): the neighbouring pair that stands first in
the list, and of equal ones the first in the word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from tui_chat.engine.gguf import GgufHeader, read_strings

_RAW = "gemma4"
"""The tokenizer (`tokenizer.ggml.model`) whose merges are written in characters, with ▁ for a space, not in bytes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One merge."""

    number: int
    """Place in the list, from 1: the one that was learnt first."""
    left: bytes
    right: bytes
    pieces: tuple[bytes, ...]
    """The whole word after it."""


class Merges:
    """The merges of a vocabulary.

    Args:
        pairs: As they are written in the file, a space between the two; first learnt first.
        raw: They are written in characters and not in the spelling of byte-level BPE.
    """

    def __init__(self, pairs: list[str], *, raw: bool = False) -> None:
        self._raw = raw
        self._numbers: dict[tuple[str, str], int] = {}
        for number, pair in enumerate(pairs, start=1):
            at = pair.find(" ", 1)
            self._numbers.setdefault((pair[:at], pair[at + 1 :]), number)
        self.n_merges = len(pairs)

    @classmethod
    def of(cls, header: GgufHeader) -> Self | None:
        """The merges in a model's file; None where it lists none.

        Raises:
            ModelFileError: The file changed or is gone.
        """
        listed = header.array("tokenizer.ggml.merges")
        if listed is None or listed.item_type != "str" or not listed.length:
            return None
        pairs = [pair.decode("utf-8", "replace") for pair in read_strings(header.path, listed)]
        return cls(pairs, raw=header.text("tokenizer.ggml.model") == _RAW)

    def start(self, word: bytes) -> tuple[bytes, ...]:
        """The pieces that a word is before any merge: its bytes, or its characters where the list is of those."""
        return tuple(self._bytes(symbol) for symbol in self._spelled(word))

    def steps(self, word: bytes) -> Iterator[Step]:
        """The merges that put a word together, in their order; after the last one its pieces are the tokens."""
        symbols = self._spelled(word)
        while True:
            found = [(self._numbers.get(pair, 0), at) for at, pair in enumerate(pairwise(symbols))]
            number, at = min(((number, at) for number, at in found if number), default=(0, 0))
            if not number:
                return
            left, right = symbols[at : at + 2]
            symbols[at : at + 2] = [left + right]
            yield Step(number, self._bytes(left), self._bytes(right), tuple(map(self._bytes, symbols)))

    def _spelled(self, word: bytes) -> list[str]:
        if self._raw:
            return list(word.decode("utf-8", "replace").replace(" ", "▁"))
        return [_SPELLING[byte] for byte in word]

    def _bytes(self, symbol: str) -> bytes:
        if self._raw:
            return symbol.replace("▁", " ").encode()
        return bytes(_BYTE[char] for char in symbol)


def _spelling() -> list[str]:
    """The character byte-level BPE writes for each byte: itself where it is visible (GPT-2's `bytes_to_unicode`)."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in visible else chr(next(others)) for byte in range(256)]


_SPELLING = _spelling()
_BYTE = {char: byte for byte, char in enumerate(_SPELLING)}
