"""The heat map of a text: each token with a tone and a mark that say how little it was expected."""

from __future__ import annotations

import math

from tui_chat.display.text import piece_text
from tui_chat.language import _
from tui_chat.lessons.report import HEAT, Flow, Span, Tone

_LEVELS = tuple(map(math.log, (2, 10, 100, 10_000)))
"""Nats of surprisal between the tones: probabilities of 50%, 10%, 1% and 0.01%."""
_RANGES = ("p ≥ 50%", "10–50%", "1–10%", "0.01–1%", "< 0.01%")
_MARKS = ("", "¹", "²", "³", "⁴")
"""What stands after a token of each tone: the map can be read without colours."""
_UNSCORED = "⁰"


def legend(*, unscored: bool = False) -> Flow:
    """What the tones and the marks mean.

    Args:
        unscored: Some tokens have no surprisal.
    """
    parts = [Span(words + mark, tone) for words, mark, tone in zip(_RANGES, _MARKS, HEAT, strict=True)]
    if unscored:
        parts.append(Span(_("not scored") + _UNSCORED, Tone.DIM))
    return Flow(tuple(piece for part in parts for piece in (part, Span("   "))))


def marked(piece: bytes, nats: float | None) -> Span:
    """A token as it stands in its text, with tone and mark.

    Args:
        piece: Its bytes.
        nats: Its surprisal; None where it was not scored.
    """
    level = None if nats is None else sum(nats > least for least in _LEVELS)
    mark, tone = (_UNSCORED, Tone.DIM) if level is None else (_MARKS[level], HEAT[level])
    text = piece_text(piece)
    core = text.rstrip("\n")  # the mark stays in the line that the token ends
    return Span(f"{core}{mark}{text[len(core) :]}", tone)
