"""By what the tokens of a message are tinted: each measure in five levels, with a mark for eyes that see no colour."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tui_chat.display.figures import percent, span
from tui_chat.engine.types import GeneratedToken
from tui_chat.language import N_

MARKS = ("", "¹", "²", "³", "⁴")
"""What stands before a token of each level; the first level has no tint either."""

SURPRISING_NATS = math.log(10)
"""From this surprisal on a token counts as surprising: one in ten or less."""


class Measure(StrEnum):
    """A figure of a token, in the words of `/view`."""

    PROBABILITY = N_("probability")
    """Of the token, before the sampler chain."""
    SURPRISAL = N_("surprisal")
    """-ln of that, nats."""
    ENTROPY = N_("entropy")
    """Of the distribution it stood in, nats."""
    RANK = N_("rank")
    """How many tokens were at least as likely."""
    TIME = N_("time")
    """Since the token before it, in medians of its message."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The levels of a measure."""

    bounds: tuple[float, float, float, float]
    """The most that a token of each level but the last has."""
    legend: tuple[str, str, str, str, str]


SCALES: Mapping[Measure, Scale] = {
    Measure.PROBABILITY: Scale(
        (-math.log(0.9), -math.log(0.5), -math.log(0.1), -math.log(0.01)), ("≥90%", "≥50%", "≥10%", "≥1%", "<1%")
    ),
    Measure.SURPRISAL: Scale((0.5, 1, 2, 4), ("≤0.5", "≤1", "≤2", "≤4", ">4")),
    Measure.ENTROPY: Scale((0.5, 1, 2, 3), ("≤0.5", "≤1", "≤2", "≤3", ">3")),
    Measure.RANK: Scale((1, 3, 10, 100), ("1", "≤3", "≤10", "≤100", ">100")),
    Measure.TIME: Scale((1.5, 2, 4, 8), ("≤1.5×", "≤2×", "≤4×", "≤8×", ">8×")),
}

_UNITS = {Measure.SURPRISAL: "nats", Measure.ENTROPY: "nats"}


def legend_name(measure: Measure, name: str) -> str:
    """The measure with its unit, under its translated name."""
    return f"{name}, {_UNITS[measure]}" if measure in _UNITS else name


def pace_of(tokens: Sequence[GeneratedToken]) -> float:
    """The median time between two tokens, seconds; 0 where it is not known."""
    gaps = [gap for index in range(1, len(tokens)) if (gap := _gap(tokens, index)) is not None]
    return sorted(gaps)[len(gaps) // 2] if gaps else 0.0


def level_of(measure: Measure, tokens: Sequence[GeneratedToken], index: int, pace: float) -> int | None:
    """The level of a token, 0 to 4.

    Args:
        measure: What it goes by.
        tokens: Of the message.
        index: Which of them.
        pace: See `pace_of`.

    Returns:
        None where the figure is not known: nothing was inspected, or a person put the token there.
    """
    trace = tokens[index].trace
    if trace is None:
        return None
    value: float
    match measure:
        case Measure.PROBABILITY | Measure.SURPRISAL:
            value = trace.surprisal
        case Measure.ENTROPY:
            value = trace.entropy
        case Measure.RANK:
            value = trace.rank
        case Measure.TIME:
            gap = _gap(tokens, index)
            if gap is None or not pace:
                return None
            value = gap / pace
    return bisect_left(SCALES[measure].bounds, value)


def figure_of(measure: Measure, tokens: Sequence[GeneratedToken], index: int) -> str:
    """The figure of a token as people read it; "" where it is not known."""
    trace = tokens[index].trace
    if trace is None:
        return ""
    match measure:
        case Measure.PROBABILITY:
            return percent(trace.p)
        case Measure.SURPRISAL:
            return f"{trace.surprisal:.2f}"
        case Measure.ENTROPY:
            return f"{trace.entropy:.2f}"
        case Measure.RANK:
            return f"{trace.rank:,}"
        case Measure.TIME:
            gap = _gap(tokens, index)
            return "" if gap is None else span(gap)


def _gap(tokens: Sequence[GeneratedToken], index: int) -> float | None:
    """Seconds since the token before; since the request for the first one, and behind one that nothing computed.

    Tokens of a prompt have no time of their own: they were all read at once.
    """
    trace = tokens[index].trace
    if trace is None or not trace.final:
        return None
    before = tokens[index - 1].trace if index else None
    return trace.seconds if before is None else max(0.0, trace.seconds - before.seconds)
