"""Bans of texts: no token may complete one, however the text would be cut into tokens.

A text can be written in many ways: "yes", "y" "es", "ye" "s". So what is banned depends on what is written already. At
each place those tokens are refused that hold the text whole, and those that begin with the rest of it where its
beginning is what the answer ends with. Nothing else is: "y" may come, and so may "ye", but no "s" behind it. Texts are
compared byte by byte, so characters that are cut into several tokens are met as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tui_chat.engine.vocabulary import Vocabulary

Ids = NDArray[np.int32]


class TextBan:
    """One text, and the tokens that can complete it. Made once for a vocabulary (`Vocabulary.text_ban`).

    Control tokens and those that end an answer are no text for people: they are met by their own text alone.

    Args:
        vocab: The tokens.
        text: Not empty.
    """

    def __init__(self, vocab: Vocabulary, text: str) -> None:
        self.text = text
        self.needle = text.encode("utf-8", "replace")
        self._vocab = vocab
        self.whole = self._text_tokens([token for token, piece in enumerate(vocab.pieces()) if self.needle in piece])
        """(n,) ascending ids of the tokens that hold it: they never come."""
        self._rest_of: dict[int, Ids] = {}

    def refused(self, tail: bytes) -> Ids:
        """(n,) the tokens that would complete it behind a text that ends with `tail`; may name one twice."""
        begun = [at for at in range(1, min(len(self.needle) - 1, len(tail)) + 1) if tail.endswith(self.needle[:at])]
        return np.concatenate((self.whole, *map(self._ending, begun))) if begun else self.whole

    def _ending(self, at: int) -> Ids:
        """The tokens that begin with the text from byte `at` on."""
        if (found := self._rest_of.get(at)) is None:
            rest = self.needle[at:]
            found = self._text_tokens(
                [token for token, piece in enumerate(self._vocab.pieces()) if piece.startswith(rest)]
            )
            self._rest_of[at] = found
        return found

    def _text_tokens(self, ids: Sequence[int]) -> Ids:
        vocab = self._vocab
        return np.array(
            [
                token
                for token in ids
                if vocab.piece(token) == self.needle or not (token in vocab.eog_ids or vocab.is_control(token))
            ],
            np.int32,
        )


class TextBans:
    """All banned texts of one chain, and how the answer ends.

    Args:
        vocab: The tokens.
        texts: Not empty, each.
        answer: The tokens of the answer so far.
    """

    def __init__(self, vocab: Vocabulary, texts: Sequence[str], answer: Sequence[int]) -> None:
        self._vocab = vocab
        self._bans = [vocab.text_ban(text) for text in dict.fromkeys(texts)]
        self._reach = max(len(ban.needle) for ban in self._bans) - 1
        tail, at = b"", len(answer)
        while at and len(tail) < self._reach:
            at -= 1
            tail = vocab.visible(answer[at]) + tail
        self._tail = self._last(tail)
        self._refused: Ids | None = None

    def accept(self, token: int) -> None:
        """Take a token as the next of the answer."""
        self._tail = self._last(self._tail + self._vocab.visible(token))
        self._refused = None

    @property
    def refused(self) -> Ids:
        """(n,) ascending ids of the tokens that would complete a text here."""
        if self._refused is None:
            self._refused = np.unique(np.concatenate([ids for _, ids in self.by_text()]))
        return self._refused

    def by_text(self) -> tuple[tuple[str, Ids], ...]:
        """The same for each text by itself; may name a token twice."""
        return tuple((ban.text, ban.refused(self._tail)) for ban in self._bans)

    def _last(self, tail: bytes) -> bytes:
        return tail[len(tail) - self._reach :] if len(tail) > self._reach else tail
