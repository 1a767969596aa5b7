"""What an answer hands out: its tokens in batches, with the text that they completed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tui_chat.engine.decoding import StopStrings, TextStream
from tui_chat.engine.types import GeneratedToken, TokensGenerated
from tui_chat.engine.vocabulary import Vocabulary

BATCHES_PER_S = 30
"""Most `TokensGenerated` events a second."""


class Output:
    """The tokens and the text of one answer on their way out.

    Args:
        vocab: Gives the tokens their bytes.
        stop: Texts that end the answer.
        request_id: Of the answer.
    """

    def __init__(self, vocab: Vocabulary, stop: tuple[str, ...], request_id: int) -> None:
        self._vocab, self._stop, self._request_id = vocab, stop, request_id
        self._stream, self._stops = TextStream(), StopStrings(stop)
        self._tokens: list[GeneratedToken] = []
        self._text = ""
        self._flushed = time.perf_counter()

    def begin(self, tokens: Sequence[GeneratedToken]) -> None:
        """Queue the tokens that the answer begins with."""
        self._tokens += tokens
        self._text = self._text_of_kept([token.id for token in tokens])

    def push(self, token: GeneratedToken) -> bool:
        """Queue a token; True when it completes a stop string."""
        self._tokens.append(token)
        text, stopped = self._push(token.id)
        self._text += text
        return stopped

    def end(self) -> None:
        """Queue what was held back."""
        text, stopped = self._stops.push(self._stream.flush())
        self._text += text if stopped else text + self._stops.flush()

    def flush(self, *, force: bool = True) -> Iterator[TokensGenerated]:
        """What is queued, unless something was handed out just now."""
        now = time.perf_counter()
        if not (self._tokens or self._text) or (not force and now - self._flushed < 1 / BATCHES_PER_S):
            return
        batch = TokensGenerated(self._request_id, tuple(self._tokens), self._text)
        self._tokens, self._text, self._flushed = [], "", now
        yield batch

    def rewrite(self, kept: Sequence[int], written: Sequence[int]) -> str:
        """Begin the text anew after a step back, and give it.

        Args:
            kept: The ids that the answer began with.
            written: Those behind them that stay.
        """
        self._stream, self._stops = TextStream(), StopStrings(self._stop)
        text = self._text_of_kept(kept)
        for token in written:
            text += self._push(token)[0]
        return text

    def _push(self, token: int) -> tuple[str, bool]:
        return self._stops.push(self._stream.push(self._vocab.visible(token)))

    def _text_of_kept(self, ids: Sequence[int]) -> str:
        """The text of the tokens an answer begins with; what may become a stop string is held back."""
        text = "".join(self._stream.push(self._vocab.visible(token)) for token in ids)
        shown, stopped = self._stops.push(text)
        if stopped:  # it was put there on purpose
            self._stops = StopStrings(self._stop)
            return text
        return shown
