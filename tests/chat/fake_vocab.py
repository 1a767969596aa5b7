"""A small vocabulary in plain Python: bytes, some words, control tokens; greedy longest match."""

from __future__ import annotations

import re


class FakeVocab:
    """Behaves like a model's vocabulary.

    Args:
        add_bos: The model wants `<s>` in front.
        space_prefix: Put a space before every text that does not follow a token of the same call, as sentence-piece
            vocabularies do.
    """

    words = (b"hello", b" hello", b"he", b"ll", b" world", b"user", b"assistant", b"  ", b"\n\n", b"<think>")
    control = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]")

    def __init__(self, *, add_bos: bool = False, space_prefix: bool = False) -> None:
        self._pieces = [bytes([byte]) for byte in range(256)] + list(self.words)
        self._pieces += [name.encode() for name in self.control]
        self._plain = {piece: token for token, piece in enumerate(self._pieces[: -len(self.control)])}
        self._control = {name: len(self._plain) + index for index, name in enumerate(self.control)}
        self._pattern = re.compile("(" + "|".join(re.escape(name) for name in self.control) + ")")
        self.n_vocab = len(self._pieces)
        self.bos_id: int | None = self._control["<s>"]
        self.eos_id: int | None = self._control["</s>"]
        self.add_bos = add_bos
        self.space_prefix = space_prefix

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        assert not add_special
        parts = self._pattern.split(text) if parse_special else [text]
        ids: list[int] = []
        for part in parts:
            if parse_special and part in self._control:
                ids.append(self._control[part])
            elif part:
                ids += self._plain_ids((" " if self.space_prefix else "") + part)
        return ids

    def _plain_ids(self, text: str) -> list[int]:
        raw, position, ids = text.encode("utf-8", "replace"), 0, []
        while position < len(raw):
            length = next(n for n in range(9, 0, -1) if raw[position : position + n] in self._plain)
            ids.append(self._plain[raw[position : position + length]])
            position += length
        return ids

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    def is_control(self, token: int) -> bool:
        return token >= len(self._plain)

    def id(self, name: str) -> int:
        return self._control[name]
