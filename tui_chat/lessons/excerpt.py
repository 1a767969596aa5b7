"""The part of a text that a demonstration uses where the context has no room for all of it, and how that is said."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Role
from tui_chat.errors import PromptTooLongError
from tui_chat.language import _
from tui_chat.lessons.report import Tone, Words

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.scene import Scene


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Which tokens of a text were used."""

    first: int
    """Counted from 1, as is `last`."""
    last: int
    total: int
    """Tokens of the whole text; a token that begins every prompt is none of it."""
    n_ctx: int
    """Tokens the context holds."""


def warning(excerpt: Excerpt | None) -> tuple[Words, ...]:
    """What to say of it; nothing where all of the text was used."""
    if excerpt is None:
        return ()
    words = (
        _(
            "The text has {n:,} tokens and the context holds {n_ctx:,}: only its end is used, tokens {first:,} to "
            "{last:,}."
        )
        if excerpt.last == excerpt.total
        else _(
            "The text has {n:,} tokens and the context holds {n_ctx:,}: only its beginning is used, tokens {first:,} "
            "to {last:,}."
        )
    )
    text = words.format(n=excerpt.total, n_ctx=excerpt.n_ctx, first=excerpt.first, last=excerpt.last)
    return (Words(text, Tone.WARN),)


def document(excerpt: Excerpt | None) -> dict[str, int] | None:
    """The same for machines."""
    return None if excerpt is None else {"first": excerpt.first, "last": excerpt.last, "of": excerpt.total}


def end_of_text(engine: Engine, text: str) -> tuple[tuple[int, ...], Excerpt | None]:
    """The ids of a text to continue as it stands, or of as much of its end as leaves room for one token."""
    vocab, n_ctx = engine.vocab, engine.context.n_ctx
    ids = tuple(vocab.tokenize(text, add_special=True, parse_special=True))
    if len(ids) < n_ctx:
        return ids, None
    bos = ids[:1] if vocab.add_bos and ids[0] == vocab.bos_id else ()
    total = len(ids) - len(bos)
    kept = n_ctx - 1 - len(bos)
    return bos + ids[-kept:], Excerpt(total - kept + 1, total, total, n_ctx)


def part_of_message(
    engine: Engine, scene: Scene, *, reserve: int, beginning: bool = False
) -> tuple[Scene, Excerpt | None]:
    """The scene, its one message cut down where the context does not hold it.

    A conversation stays as it is: which of its messages have no room is for `Scene.fitted` to say.

    Args:
        engine: Only its thread may ask.
        scene: With one message of the user, and nothing else but a system text.
        reserve: Tokens to keep free for the answer when the message is cut; at most half the context is.
        beginning: Keep the beginning of the message, not its end.

    Raises:
        PromptTooLongError: The system text and the template alone do not fit.
        TemplateError: The template refuses the message.
    """
    said = [message for message in scene.messages if message.role is not Role.SYSTEM]
    if len(said) != 1 or said[0].role is not Role.USER:
        return scene, None
    n_ctx, builder = engine.context.n_ctx, scene.builder(engine)
    n_prompt = len(builder.build(scene.messages).ids)
    if n_prompt < n_ctx:
        return scene, None
    ids = engine.vocab.tokenize(said[0].text)
    room = n_ctx - min(max(reserve, 1), n_ctx // 2)

    def part(n: int) -> Scene:
        shorter = replace(said[0], text=_text(engine, ids[:n] if beginning else ids[len(ids) - n :]))
        return replace(scene, messages=[shorter if message is said[0] else message for message in scene.messages])

    most = min(len(ids), room)
    kept = bisect_left(range(1, most + 1), True, key=lambda n: len(builder.build(part(n).messages).ids) > room)
    if not kept:
        raise PromptTooLongError(n_prompt, n_ctx)
    first = 1 if beginning else len(ids) - kept + 1
    return part(kept), Excerpt(first, first + kept - 1, len(ids), n_ctx)


def _text(engine: Engine, ids: Sequence[int]) -> str:
    """The text of tokens, without the character that the cut went through."""
    return b"".join(map(engine.vocab.piece, ids)).decode("utf-8", "ignore")
