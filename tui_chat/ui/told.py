"""Which tokens belong to the messages on the screen: those the model wrote, and those it was given before an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Message
from tui_chat.engine.types import GeneratedToken, TokenTrace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tui_chat.engine.control import CancelFlag
    from tui_chat.engine.engine import Engine

PieceOf = Callable[[int], bytes | None]
"""Gives a token's bytes, or None while the vocabulary is not known."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the model was given for an answer, as far as it is new: the message of the user in its template."""

    ids: tuple[int, ...]
    """All tokens before the answer."""
    start: int
    """The first one that is new."""

    def tokens(self, piece_of: PieceOf) -> list[GeneratedToken]:
        """The new ones, without figures: nothing measured them."""
        return [GeneratedToken(token, piece_of(token) or b"", None) for token in self.ids[self.start :]]

    def read(self, engine: Engine, cancel: CancelFlag) -> Iterator[tuple[TokenTrace, ...]]:
        """How the model expects the new ones, see `Engine.read`; for the engine thread."""
        return engine.read(self.ids, self.start, len(self.ids), cancel=cancel)


def given_before(
    prompt_ids: tuple[int, ...], asked: Message, before: Message | None, before_ids: Sequence[int], piece_of: PieceOf
) -> Given:
    """What is new in a prompt.

    Args:
        prompt_ids: All tokens before the answer.
        asked: The message of the user that is answered.
        before: The answer before that one; None where there is none.
        before_ids: The tokens it wrote.
        piece_of: Gives the bytes of the tokens.
    """
    if before is None or before.prompt_ids is None:
        return Given(prompt_ids, 0 if before is None else _place(prompt_ids, asked, piece_of))
    known = (*before.prompt_ids, *before_ids)
    same = next((n for n, pair in enumerate(zip(known, prompt_ids, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(known), len(prompt_ids)) if same is None else same
    if same >= len(before.prompt_ids):
        return Given(prompt_ids, same)
    # Messages were left out, or the template writes old answers in another way: go by the text.
    return Given(prompt_ids, _place(prompt_ids, asked, piece_of))


def _place(prompt_ids: tuple[int, ...], asked: Message, piece_of: PieceOf) -> int:
    """The token that a message's text begins in; 0 where the text cannot be found."""
    pieces = [piece_of(token) or b"" for token in prompt_ids]
    start = b"".join(pieces).rfind(asked.text.strip().encode("utf-8", "replace"))
    end = 0
    for index, piece in enumerate(pieces):
        end += len(piece)
        if end > start >= 0:
            return index
    return 0


def stored_tokens(path: Path, messages: Sequence[Message]) -> dict[str, list[GeneratedToken]]:
    """Reads the tokens of answers from the store, with their figures. It takes its time: not for the screen's thread.

    Args:
        path: The database.
        messages: The answers; those without tokens are left out.

    Raises:
        StorageError: It cannot be read.
    """
    from tui_chat.chat.store import Store
    from tui_chat.ui.resuming import tokens_of

    if not path.is_file():
        return {}
    with Store(path) as store:
        return {message.id: tokens_of(message, store.traces(message.id)) for message in messages if message.ids}


def spelled(tokens: Sequence[GeneratedToken], piece_of: PieceOf) -> list[GeneratedToken]:
    """The tokens with their bytes, where those were not kept and are known now."""
    return [token if token.piece else replace(token, piece=piece_of(token.id) or b"") for token in tokens]


def with_figures(tokens: list[GeneratedToken], traces: Sequence[TokenTrace], start: int) -> None:
    """Puts figures to tokens of a prompt.

    Args:
        tokens: The new ones of the prompt; changed in place.
        traces: Of some of them.
        start: Place of the first token in the context.
    """
    for trace in traces:
        if 0 <= (index := trace.position - start) < len(tokens) and tokens[index].id == trace.id:
            tokens[index] = GeneratedToken(trace.id, trace.piece, trace)
