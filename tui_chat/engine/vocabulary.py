"""The tokens of a model: text to ids and back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from tui_chat.engine.bias import first_tokens, is_pattern
from tui_chat.engine.gguf import GgufHeader, validate
from tui_chat.engine.llama import NativeModel, bind_short, lc
from tui_chat.engine.text_bans import TextBan
from tui_chat.engine.token_forest import TokenForest
from tui_chat.engine.types import LoadOptions
from tui_chat.errors import DecodeError

_p = ctypes.c_void_p
_token_to_piece = bind_short(
    "llama_token_to_piece",
    [_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_bool],
    ctypes.c_int32,
)
_token_attr = bind_short("llama_vocab_get_attr", [_p, ctypes.c_int32], ctypes.c_int)
_is_eog = bind_short("llama_vocab_is_eog", [_p, ctypes.c_int32], ctypes.c_bool)


class Vocabulary:
    """The tokens of a model: text to ids and back. Valid while its model is open, from any thread."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.n_vocab: int = lc.llama_vocab_n_tokens(handle)
        self.bos_id = self._special(lc.llama_vocab_bos)
        self.eos_id = self._special(lc.llama_vocab_eos)
        self.add_bos: bool = bool(lc.llama_vocab_get_add_bos(handle))
        self.eog_ids: frozenset[int] = frozenset(i for i in range(self.n_vocab) if _is_eog(handle, i))
        self._pieces: dict[int, bytes] = {}
        self._text_bans: dict[str, TextBan] = {}

    @property
    def handle(self) -> Any:
        """llama.cpp's handle of the tokens."""
        return self._handle

    @cached_property
    def forest(self) -> TokenForest:
        """Which tokens begin with which; made at the first use, some 0.5 s for 150,000 tokens."""
        return TokenForest(self.pieces(), self.eog_ids)

    def _special(self, getter: Callable[[Any], int]) -> int | None:
        token = getter(self._handle)
        return token if token >= 0 else None

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Token ids of `text`.

        Args:
            text: Any text; lone surrogates become U+FFFD.
            add_special: Add BOS and EOS as the model's vocabulary asks.
            parse_special: Read the texts of control tokens as those tokens.
        """
        raw = text.encode("utf-8", "replace")
        capacity = len(raw) + 16
        for _ in range(2):
            ids = (ctypes.c_int32 * capacity)()
            n = lc.llama_tokenize(self._handle, raw, len(raw), ids, capacity, add_special, parse_special)
            if n >= 0:
                return list(ids[:n])
            capacity = -n
        raise DecodeError("llama.cpp could not tokenize the text")

    def piece(self, token: int) -> bytes:
        """The token's own bytes; a control token gives its text.

        Raises:
            IndexError: The vocabulary has no such token.
        """
        found = self._pieces.get(token)
        if found is None:
            if not 0 <= token < self.n_vocab:
                raise IndexError(f"token {token} is outside the vocabulary of {self.n_vocab}")
            buffer = ctypes.create_string_buffer(256)  # one shared by threads could be written over before it is read
            n = _token_to_piece(self._handle, token, buffer, len(buffer), 0, True)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = _token_to_piece(self._handle, token, buffer, -n, 0, True)
            found = self._pieces[token] = buffer.raw[:n]
        return found

    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every token, by id; at the first use some 0.3 s for 150,000 tokens."""
        return self._every_piece

    @cached_property
    def _every_piece(self) -> tuple[bytes, ...]:
        return tuple(self.piece(token) for token in range(self.n_vocab))

    def is_control(self, token: int) -> bool:
        """Whether the token steers the model and is not text for people."""
        return bool(_token_attr(self._handle, token) & lc.LLAMA_TOKEN_ATTR_CONTROL)

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token or one the model's makers added whole."""
        return bool(_token_attr(self._handle, token) & (lc.LLAMA_TOKEN_ATTR_CONTROL | lc.LLAMA_TOKEN_ATTR_USER_DEFINED))

    def visible(self, token: int) -> bytes:
        """What the token adds to a text for people: its bytes, of a control token none."""
        return b"" if self.is_control(token) else self.piece(token)

    def find(self, text: str) -> int | None:
        """The token whose text is exactly `text`, if there is one."""
        ids = self.tokenize(text, parse_special=True)
        if len(ids) == 1 and self.piece(ids[0]) == text.encode():
            return ids[0]
        # A sentence-piece vocabulary may put a space in front, so a token can exist that the tokenizer does not give.
        wanted = text.encode()
        return next((token for token in range(self.n_vocab) if self.piece(token) == wanted), None)

    def resolve(self, text: str, *, ban: bool = False) -> tuple[int, ...]:
        """The tokens that a text or a /pattern/ in a bias stands for; see `first_tokens`.

        Args:
            text: The text or the pattern.
            ban: Give those that a ban of it refuses everywhere: of a text, the tokens that hold it; perhaps none.

        Raises:
            SamplingError: There is none.
        """
        if ban and not is_pattern(text):
            return tuple(self.text_ban(text).whole.tolist())
        return first_tokens(self, text)

    def text_ban(self, text: str) -> TextBan:
        """The tokens that complete a text; found at the first use, some 10 ms for 150,000 tokens."""
        if (found := self._text_bans.get(text)) is None:
            found = self._text_bans[text] = TextBan(self, text)
        return found

    def detokenize(self, ids: Sequence[int]) -> bytes:
        """Text for people: the pieces joined, control tokens left out."""
        return b"".join(map(self.visible, ids))


@contextmanager
def open_vocabulary(path: Path) -> Iterator[tuple[Vocabulary, GgufHeader]]:
    """The tokens of the model in a GGUF file, and what stands in front of its weights; the weights are not read.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelFileError: The file is not a whole GGUF model.
        ModelLoadError: llama.cpp refused it.
    """
    header = validate(path)
    model = NativeModel(path, LoadOptions(), vocab_only=True)
    try:
        yield Vocabulary(model.vocabulary), header
    finally:
        model.close()
