"""What a chat template may use up: steps, seconds and characters, each paid for before it is made.

A template comes with a model file from anywhere. A single call such as `'a' * 10**9` or `x | replace('', x)` makes more
than the memory holds before its result could be looked at; so the size is worked out from the arguments.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

MAX_TEXT_CHARS = 4_000_000
"""A rendering longer than this is refused, and so is any text built on the way to it."""

MAX_CHARS = 50_000_000
"""Characters of all texts that are built on the way to one rendering; an item of a list counts as `ITEM_CHARS`."""

MAX_STEPS = 2_000_000
"""Passes through all loops of one rendering together."""

MAX_SECONDS = 5.0
"""Time one rendering may take."""

ITEM_CHARS = 16

_MAX_EXPONENT = 64
_MAX_BITS = 4096

REFUSED_METHODS = frozenset({"encode", "expandtabs", "format_map", "from_bytes", "maketrans", "to_bytes", "translate"})
"""Methods that no template needs and that make much out of little."""


class Budget:
    """What one rendering has used up."""

    def __init__(self) -> None:
        self.steps = 0
        self.chars = 0
        self.deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        """Count one pass through a loop.

        Raises:
            SecurityError: It is one too many, or too late.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise SecurityError(f"its loops run more than {MAX_STEPS:,} times")
        self.spend(ITEM_CHARS)

    def spend(self, chars: int) -> None:
        """Count characters that are about to be made.

        Raises:
            SecurityError: They are too many, or it is too late.
        """
        if chars > MAX_TEXT_CHARS * 3:
            raise SecurityError(f"it builds a text of more than {MAX_TEXT_CHARS:,} characters")
        self.chars += max(chars, 0)
        if self.chars > MAX_CHARS:
            raise SecurityError(f"it builds texts of more than {MAX_CHARS:,} characters together")
        if time.monotonic() > self.deadline:
            raise SecurityError(f"it takes longer than {MAX_SECONDS:g} seconds")

    def paid(self, value: Any) -> Any:
        """`value`, counted: its own length, not what lies in it."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, list | tuple | dict):
            self.spend(len(value) * ITEM_CHARS)
        return value


def size_of_operation(operator: str, left: Any, right: Any) -> int:
    """Characters that `left operator right` makes at most.

    Raises:
        SecurityError: It computes an absurd number.
    """
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if (operator == "**" and abs(right) > _MAX_EXPONENT) or bits > _MAX_BITS:
            raise SecurityError("it computes an absurd number")
    if operator == "*":
        sized, times = (right, left) if isinstance(left, int) else (left, right)
        return _length(sized) * times if isinstance(times, int) else 0
    if operator == "%" and isinstance(left, str):
        return size_of_format(left, right if isinstance(right, tuple) else (right,))
    return _length(left) + _length(right) if operator == "+" else 0


def size_of_method(text: str, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> int:
    """Characters that a method of a text makes at most; `join` is not among them.

    Raises:
        SecurityError: Its arguments hold what cannot be shown.
    """
    values = (*args, *named.values())
    numbers = [value for value in values if isinstance(value, int)]
    match name:
        case "center" | "ljust" | "rjust" | "zfill":
            return max([len(text), *numbers])
        case "replace":
            old, new = (*(str(value) for value in values[:2]), "", "")[:2]
            return len(text) + text.count(old) * len(new)
        case "format":
            return size_of_format(text, values)
        case "split" | "rsplit":
            between = values[0] if values and isinstance(values[0], str) and values[0] else None
            parts = text.count(between) if between is not None else sum(map(str.isspace, text))
            return len(text) + parts * 4 * ITEM_CHARS
        case "splitlines":
            return len(text) + len(re.findall(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)) * 4 * ITEM_CHARS
    return len(text)


def size_of_format(form: str, values: Sequence[Any]) -> int:
    """Characters that `form % values` or `form.format(*values)` makes at most.

    Raises:
        SecurityError: A width is itself an argument.
    """
    if re.search(r"%[^a-zA-Z%]*\*|\{[^{}]*:[^{}]*\{", form):
        raise SecurityError("it formats a text to a width that is computed")
    widths = sum(int(run[:9]) for run in re.findall(r"\d+", form))
    largest = max([size_of_text(value) for value in values], default=0)
    return len(form) + widths + (form.count("{") + form.count("%")) * largest


def size_of_text(value: Any) -> int:
    """Characters of `str(value)` at most, with all that lies in it however deep.

    Raises:
        SecurityError: There are too many, or it holds a namespace, whose text nobody needs.
    """
    size, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            size += len(item) + 4
        elif isinstance(item, Mapping):
            waiting += [*item, *item.values()]
        elif isinstance(item, Collection):
            waiting += item
        elif isinstance(item, Namespace):
            raise SecurityError("it shows a namespace")
        elif isinstance(item, int):
            size += item.bit_length() // 3
        size += ITEM_CHARS
        if size > MAX_TEXT_CHARS * 2:
            raise SecurityError(f"it builds a text of more than {MAX_TEXT_CHARS:,} characters")
    return size


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return len(value) * ITEM_CHARS if isinstance(value, list | tuple) else 0
