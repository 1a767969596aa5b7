"""A figure with its arithmetic written out, and how its numbers are written.

What stands in a line of arithmetic is rounded, and nothing else: worked out with the numbers as they stand, both sides
of it agree as far as the last digits can tell. The signs are + − × ÷ ^ ( ) = < ≤ ≥, e, ln and min.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tui_chat.lessons.report import Table

_MOST_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Working:
    """A figure and how it comes about."""

    value: float | int | None
    """None where it is off, or says nothing by itself."""
    text: str
    """The figure as people read it, with its unit."""
    unit: str = ""
    """Of `value`: nats, tokens, seconds, ..."""
    lines: tuple[str, ...] = ()
    """The formula with the numbers in it, step by step."""
    table: Table | None = None
    """Where there are more numbers than a line holds."""
    notes: tuple[str, ...] = ()
    """What else is to be said of this very case."""


def nats(value: float) -> str:
    """A logit, or what is added to one: four decimals."""
    return _signed(value, f"{abs(value):,.4f}")


def num(value: float, digits: int = 4) -> str:
    """Any other number: so many decimals, or as many significant digits where it is small."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        return _signed(value, f"{mantissa}e{int(exponent)}")
    decimals = digits if size >= 0.1 else digits - 1 - math.floor(math.log10(size))
    return _signed(value, f"{size:,.{decimals}f}")


def exact(value: float) -> str:
    """A setting, as it was given."""
    return _signed(value, f"{abs(value):g}")


def braced(text: str) -> str:
    """A number behind an operator: in brackets where it is negative."""
    return f"({text})" if text.startswith("−") else text


def ordered(less: float, more: float) -> tuple[str, str]:
    """Two numbers, written with as many digits as it takes to see which is less."""
    digits = 4
    while read(num(less, digits)) >= read(num(more, digits)) and digits < _MOST_DIGITS:
        digits += 1
    return num(less, digits), num(more, digits)


def beside(value: float, bound: float) -> str:
    """A number next to a bound that is written exactly: with as many digits as it takes to see on which side it is."""
    digits = 4
    while _side(read(num(value, digits)), bound) != _side(value, bound) and digits < _MOST_DIGITS:
        digits += 1
    return num(value, digits)


def read(text: str) -> float:
    """A number as it was written here."""
    return float(text.replace(",", "").replace("−", "-"))


def _side(value: float, bound: float) -> int:
    return (value > bound) - (value < bound)


def _signed(value: float, size: str) -> str:
    return f"−{size}" if value < 0 and size.strip("0.,") else size
