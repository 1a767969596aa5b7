"""Works out a line of arithmetic with the numbers as they stand in it, and says whether it can be true.

A number with decimals stands for all that round to it, a whole number and a setting for itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tui_chat.engine.sampling import uniform

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?"
_SLOP = 1e-9


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`."""

    low: Any
    high: Any

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __mul__(self, other: Interval) -> Interval:
        return self._of_ends(other, lambda a, b: a * b)

    def __truediv__(self, other: Interval) -> Interval:
        assert other.low > 0 or other.high < 0
        return self._of_ends(other, lambda a, b: a / b)

    def __pow__(self, other: Interval) -> Interval:
        return self._of_ends(other, lambda a, b: a**b)

    def _of_ends(self, other: Interval, op: Callable[[float, float], float]) -> Interval:
        ends = [op(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends))


def read(number: str, exact: frozenset[str]) -> Interval:
    """A number as it is written."""
    digits = number.replace(",", "")
    if digits.isdecimal():
        return Interval(int(digits), int(digits))  # a seed is no float
    value = float(digits)
    if number in exact:
        return Interval(value, value)
    mantissa, _, exponent = number.partition("e")
    half = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return Interval(value - half, value + half)


def value_of(side: str, exact: frozenset[str]) -> Interval:
    """One side of a line."""
    code = side.replace("−", "-").replace("×", "*").replace("÷", "/").replace("^", "**")
    code = re.sub(rf"ln ({_NUMBER})", r"ln(\1)", code)
    code = re.sub(_NUMBER, lambda match: f"number('{match[0]}')", code)
    names = {
        "number": lambda text: read(text, exact),
        "e": Interval(math.e, math.e),
        "ln": lambda of: Interval(math.log(of.low), math.log(of.high)),
        "min": lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)),
        "Philox": lambda seed, place: Interval(*[uniform(seed.low, place.low)] * 2),
    }
    found = eval(code, {"__builtins__": {}}, names)
    assert isinstance(found, Interval)
    return found


def can_be_true(line: str, exact: frozenset[str] = frozenset()) -> bool:
    """Whether all parts of a line agree as far as their digits tell.

    Args:
        line: As in `Working.lines`.
        exact: Numbers with decimals that are not rounded.
    """
    sides = re.split(r" ([=<≤≥]) ", line)
    assert len(sides) > 1, f"{line} says nothing"
    values = [value_of(side, exact) for side in sides[::2]]
    return all(_holds(a, sign, b) for a, sign, b in zip(values, sides[1::2], values[1:], strict=False))


def _holds(a: Interval, sign: str, b: Interval) -> bool:
    slop = _SLOP * max(abs(a.low), abs(a.high), abs(b.low), abs(b.high))
    no_more, no_less = bool(a.low <= b.high + slop), bool(b.low <= a.high + slop)
    return {"=": no_more and no_less, "<": no_more, "≤": no_more, "≥": no_less}[sign]
