"""Reads the bytes of a model's tokens, a part at a time, so that no request waits for the whole vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tui_chat.ui.news import News, PiecesRead

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.ui.ports import Ask

PIECES_PER_JOB = 16_384
"""Tokens whose bytes are read in one go: a few hundredths of a second."""


def read_pieces(ask: Ask, load_id: int, first: int, n_vocab: int, report: Callable[[News], None]) -> None:
    """Asks for the next part.

    Args:
        ask: Asks the engine.
        load_id: Request id of the load they belong to.
        first: The token to begin with.
        n_vocab: Tokens in the vocabulary.
        report: Told of them.
    """
    last = min(first + PIECES_PER_JOB, n_vocab)

    def job(engine: Engine) -> PiecesRead:
        return PiecesRead(load_id, first, tuple(engine.vocab.piece(token) for token in range(first, last)))

    def done(future: Future[PiecesRead]) -> None:
        if not future.cancelled() and future.exception() is None:
            report(future.result())

    ask(job).add_done_callback(done)
