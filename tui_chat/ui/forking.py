"""What a person asks for when going on from the middle of a message, checked before the engine hears of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.fork import Fork, text_of
from tui_chat.engine.types import FinishReason, GeneratedToken, ModelInfo
from tui_chat.errors import EngineError, UsageError
from tui_chat.language import _


def fork_of(
    message: Message,
    tokens: Sequence[GeneratedToken],
    model: ModelInfo,
    index: int,
    forced: Sequence[int] | str,
    *,
    goes_on: bool,
) -> tuple[Fork, FinishReason | None]:
    """The fork, and why the answer ends with what it begins with, if it goes no further.

    Args:
        message: The answer to go on from.
        tokens: Its tokens with their figures, as far as they were kept.
        model: The model that is to go on.
        index: How many of the tokens stay.
        forced: What is put behind them.
        goes_on: Let the model go on behind that.

    Raises:
        UsageError: It is no answer, or has not that many tokens.
    """
    if message.role is not Role.ASSISTANT or message.ids is None or not 0 <= index <= len(message.ids):
        raise UsageError("only an answer can be gone on from, at one of its tokens")
    put = forced if isinstance(forced, str) else tuple(forced)
    ends_as = None if goes_on else FinishReason.CANCELLED
    if not isinstance(put, str) and put and put[-1] in model.eog_ids:
        put, ends_as = put[:-1], FinishReason.EOS
    fork = Fork(
        ids=message.ids,
        index=index,
        text=message.text,
        known=tuple(tokens),
        forced_before=message.forced,
        forced=put,
        goes_on=ends_as is None,
        prompt_ids=message.prompt_ids if message.model == model.name else None,
    )
    return fork, ends_as


def spelled(message: Message, ids: Sequence[int], model: ModelInfo, piece_of: Callable[[int], bytes | None]) -> str:
    """The text of a user's message that has these tokens.

    Raises:
        UsageError: It is no message of the user, or the model has no such token, or they spell no text.
        EngineError: The texts of the tokens are not known yet.
    """
    if message.role is not Role.USER:
        raise UsageError("only a message of yours can be said again")
    if any(not 0 <= token < model.n_vocab for token in ids):
        raise UsageError(f"the model has no such token: its vocabulary ends at {model.n_vocab - 1}")
    pieces = [piece for token in ids if (piece := piece_of(token)) is not None]
    if len(pieces) != len(ids):
        raise EngineError("the tokens of the model are still being read: try again in a moment")
    text = text_of(pieces)
    if not text.strip():
        raise UsageError(_("nothing would be left of the message: choose a token that is text"))
    if text.encode() != b"".join(pieces):
        raise UsageError(
            _("part of a character would be left alone in the message: choose a token that is whole characters")
        )
    return text


def said_at(
    tokens: Sequence[GeneratedToken], path: Sequence[Message], index: int
) -> tuple[Message, tuple[int, ...], int] | None:
    """The message that a token of a prompt belongs to, that message's tokens, and which of them it is.

    Args:
        tokens: Of the prompt or of its end.
        path: The messages in it, and perhaps others before them.
        index: Which of the tokens.

    Returns:
        None where the token is the template's, or of a message that the template changes.
    """
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token.piece))
    ids, written, stop = [token.id for token in tokens], b"".join(token.piece for token in tokens), len(tokens)
    for message in reversed(path):
        if message.role is Role.ASSISTANT:
            # Where the template writes an old answer in another way, its tokens are not there.
            own = list(message.ids or ())
            first = next((at for at in range(stop - len(own), -1, -1) if own and ids[at : at + len(own)] == own), None)
            last = 0 if first is None else first + len(own)
        else:
            text = message.text.strip().encode("utf-8", "replace")
            at = written.rfind(text, 0, starts[stop]) if text else -1
            # A template may put the text behind a token that is also part of it, such as a space: such a one stays.
            first = None if at < 0 else next(n for n, start in enumerate(starts) if start >= at)
            last = 0 if at < 0 else next(n for n in range(len(starts) - 1, -1, -1) if starts[n] <= at + len(text))
        if first is None or last <= first:
            continue
        if first <= index < last:
            return message, tuple(ids[first:last]), index - first
        stop = first
    return None
