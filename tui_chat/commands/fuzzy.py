"""Ranks what may have been meant: beginnings first, then beginnings of words and initials, then letters in order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tui_chat.language import _

Span = tuple[int, int]
"""Start and end of a stretch of characters."""


@dataclass(frozen=True, slots=True)
class Match:
    """How well a candidate fits what was typed."""

    rank: tuple[int, int, int]
    """Smaller is better: the kind of match, how scattered it is, the length of the candidate."""
    spans: tuple[Span, ...]
    """The matched stretches, for highlighting."""


def match(query: str, candidate: str) -> Match | None:
    """How `query` fits `candidate`, ignoring case; None if its letters do not occur in order."""
    wanted, text = query.casefold(), candidate.casefold()
    if len(text) != len(candidate):  # a letter that folds to two would shift the spans
        text = candidate.lower() if len(candidate.lower()) == len(candidate) else candidate
    if not wanted:
        return Match((0, 0, len(text)), ())
    if text.startswith(wanted):
        return Match((0, 0, len(text)), ((0, len(wanted)),))
    for word in re.finditer(r"(?<=[\W_])\w", text):
        if text.startswith(wanted, word.start()):
            return Match((1, word.start(), len(text)), ((word.start(), word.start() + len(wanted)),))
    starts = [word.start() for word in re.finditer(r"(?:^|(?<=[\W_]))\w", text)]
    if "".join(text[start] for start in starts).startswith(wanted):
        return Match((1, 0, len(text)), _spans(starts[: len(wanted)]))
    places = _places(wanted, text)
    if places is None:
        return None
    spans = _spans(places)
    kind = 2 if len(spans) == 1 else 3
    return Match((kind, len(spans) * 100 + places[-1] - places[0], len(text)), spans)


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that a misspelt word is likeliest to mean, best first."""
    names = list(dict.fromkeys(names))
    close = difflib.get_close_matches(word, names, n=count, cutoff=0.5)
    found = [(match(word, name), name) for name in names]
    fuzzy = [name for _rank, name in sorted((m.rank, name) for m, name in found if m is not None and word)]
    return list(dict.fromkeys(close + fuzzy))[:count]


def did_you_mean(names: Sequence[str]) -> str:
    """The question that an error about a misspelt word ends with."""
    return _("did you mean {names}?").format(names=_(" or ").join(names))


def _places(wanted: str, text: str) -> list[int] | None:
    """Where the letters of `wanted` stand in `text`: in one run if they do somewhere, else as near each other as the
    first end allows."""
    whole = text.find(wanted)
    if whole >= 0:
        return list(range(whole, whole + len(wanted)))
    position = -1
    for letter in wanted:
        position = text.find(letter, position + 1)
        if position < 0:
            return None
    places: list[int] = []
    position += 1
    for letter in reversed(wanted):
        position = text.rfind(letter, 0, position)
        places.append(position)
    return places[::-1]


def _spans(places: list[int]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for place in places:
        if spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
    return tuple(spans)
