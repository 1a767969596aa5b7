"""Compares the tokenizer of every model that is loaded with the one the settings name, beside everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tui_chat.errors import TuiChatError
from tui_chat.ui.news import News, TokenizerNoted

if TYPE_CHECKING:
    from tui_chat.ui.ports import Ask


class TokenizerWatch:
    """Says where a model's tokenizer is not that of `tokenizer.repo` and `tokenizer.file`; the same thing only once.

    Args:
        repo: `owner/name`.
        file: The `tokenizer.json` in it; fetched through the cache.
        report: Told what differs, or why it could not be compared.
    """

    def __init__(self, repo: str, file: str, report: Callable[[News], None]) -> None:
        self._repo = repo
        self._file = file
        self._report = report
        self._noted: str | None = None

    def __call__(self, ask: Ask) -> None:
        """Begins to compare the model that was just loaded; returns at once."""
        from tui_chat.models.tokenizer_check import PROBE

        def compare(future: Future[list[int]]) -> None:
            if not future.cancelled() and future.exception() is None:
                threading.Thread(
                    target=self._compare, args=(future.result(),), name="tui-chat-tokenizer", daemon=True
                ).start()

        ask(lambda engine: engine.vocab.tokenize(PROBE)).add_done_callback(compare)

    def _compare(self, ids: Sequence[int]) -> None:
        from tui_chat.models.tokenizer_check import compare_with_hub

        note: str | None = None
        try:
            comparison = compare_with_hub(lambda _: ids, self._repo, self._file)
            if not comparison.equal:
                note = f"{self._repo}:{self._file}: {comparison}"
        except TuiChatError as error:
            note = f"the tokenizers were not compared: {error}"
        except Exception as error:  # the edge of a thread: whatever a library raises becomes a notice
            note = f"the tokenizers were not compared: {error!r}"
        if note is not None and note != self._noted:
            self._report(TokenizerNoted(note))
        self._noted = note
