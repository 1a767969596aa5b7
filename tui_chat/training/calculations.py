"""Numbers: sums, differences, products, counting.

Like every skill, a function here takes the sources, a random generator and whether to use the wordings kept out of the
training, and returns exchanges that belong together.
"""

from __future__ import annotations

import hashlib
from random import Random

from tui_chat.training.dialogue import Exchange
from tui_chat.training.sources import Phrases, Sources, ways

MAX_RESULT = 100
"""Sums go up to this number, differences start from at most this one."""

MAX_FACTOR = 10
MAX_COUNT = 20

SMALL = 20
"""Sums up to this number are all taught; of larger ones some pairs are kept out, to see what was understood."""

_SIGNS = {"sum": "+", "difference": "-", "product": "x"}

KINDS = frozenset(_SIGNS)
"""Intents of the calculations."""


def is_kept_out(kind: str, a: int, b: int) -> bool:
    """Whether the training never shows this pair: one of ten beyond `SMALL`, chosen by a hash."""
    if kind == "product" or max(a, a + b) <= SMALL:
        return False
    return hashlib.sha256(f"{kind} {a} {b}".encode()).digest()[0] < 26


def arithmetic(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """One to three sums, differences or products."""
    kind = rng.choices(("sum", "difference", "product"), (48, 39, 13))[0]
    exchanges = [_calculation(sources.numbers, rng, kind, ways(sources.numbers, kind, held_out), held_out)]
    while not held_out and rng.random() < 0.3 and len(exchanges) < 3:
        again = sources.numbers[f"{kind}_again"] if rng.random() < 0.5 else sources.numbers[kind]
        exchanges.append(_calculation(sources.numbers, rng, kind, again, held_out))
    return exchanges


def calculation(numbers: Phrases, kind: str, a: int, b: int, ask: str) -> Exchange:
    """`ask` filled with `a` and `b`; `kind` is "sum", "difference" or "product"."""
    result = compute(kind, a, b)
    small = (max(a, b) < 10 if kind == "sum" else b < 10) and kind != "product"
    (a10, a1), (b10, b1) = ((n // 10 * 10, n % 10) for n in (a, b))
    think = numbers[f"think_{kind}_small" if small else f"think_{kind}"][0].format(
        a=a, b=b, c=result, a1=a1, b1=b1, a10=a10, b10=b10, ones=a1 + b1, tens=a10 + b10, rest=a - b10
    )
    answer = f"{a} {_SIGNS[kind]} {b} = **{result}**"
    return Exchange(kind, ask.format(a=a, b=b), answer, think, (answer,), plain=False)


def compute(kind: str, a: int, b: int) -> int:
    """The result of the calculation."""
    return {"sum": a + b, "difference": a - b, "product": a * b}[kind]


def operands(kind: str, rng: Random) -> tuple[int, int]:
    """Two numbers for a calculation, small ones more often than their share."""
    if kind == "product":
        return rng.randint(0, MAX_FACTOR), rng.randint(0, MAX_FACTOR)
    if rng.random() < 0.35:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
    else:
        # Uniform over all pairs whose sum is in range.
        a, b = rng.randint(0, MAX_RESULT), rng.randint(0, MAX_RESULT)
        if a + b > MAX_RESULT:
            a, b = MAX_RESULT - a, MAX_RESULT - b
    if kind == "difference":
        a, b = (a + b, b) if rng.random() < 0.9 or a + b > SMALL else (a, a + b)
    return a, b


def counting(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """Count up to a number or down from it."""
    key = "count_up" if rng.random() < 0.65 else "count_down"
    n = rng.randint(3, MAX_COUNT)
    numbers = [str(i) for i in (range(1, n + 1) if key == "count_up" else range(n, 0, -1))]
    answer = ", ".join(numbers) + "."
    ask = rng.choice(ways(sources.numbers, key, held_out)).format(n=n)
    think = rng.choice(sources.numbers["think_count"]).format(n=n)
    return [Exchange(key, ask, answer, think, (answer,), plain=False)]


def _calculation(numbers: Phrases, rng: Random, kind: str, asks: tuple[str, ...], held_out: bool) -> Exchange:
    a, b = operands(kind, rng)
    while not held_out and is_kept_out(kind, a, b):
        a, b = operands(kind, rng)
    return calculation(numbers, kind, a, b, rng.choice(asks))
