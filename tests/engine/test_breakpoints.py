"""Breakpoints: what they hold for, and where they say that they do not parse."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tui_chat.engine.breakpoints import parse_breakpoint
from tui_chat.engine.types import TokenTrace
from tui_chat.errors import BreakpointError

TRACE = TokenTrace(
    position=9,
    id=3,
    piece=b" not",
    logit=math.log(0.05),
    logsumexp=0.0,
    rank=6,
    entropy=2.5,
    top=((1, math.log(0.3)), (2, math.log(0.2))),
    stages=(),
    final=((3, 1.0),),
    u=0.5,
    seconds=0.0,
)
"""p(top) 0.3, p(chosen) 0.05, surprisal 3.0 nats."""


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("entropy > 2", True),
        ("entropy > 3", False),
        ("p(top) < .4", True),
        ("p( top )>=40%", False),
        ("p(chosen) < .1", True),
        ("P(Chosen) < 1e-3", False),
        ("rank > 5", True),
        ("rank = 6", True),
        ("rank != 6", False),
        ("surprisal > 2.9", True),
        ("surprisal <= 2.9", False),
        ("text ~ not", True),
        ("text ~ 'not '", False),
        ('text ~ "^ not$"', True),
        ("text !~ not", False),
        ("text ~ n[aeiou]t", True),
        ("entropy > 3 or rank > 5 and text ~ not", True),
        ("entropy > 2 or rank > 9 and rank > 9", True),
        ("(entropy > 2 or rank > 9) and rank > 9", False),
        ("text ~ yes or text ~ not", True),
        ("((rank==6))", True),
    ],
)
def test_holds_for_the_figures_of_the_inspector(source: str, holds: bool) -> None:
    assert parse_breakpoint(source).hit(TRACE) is holds


@pytest.mark.parametrize(
    ("source", "hit"),
    [
        ("text ~ (a|b)", True),
        ("(text ~ (x|b) and rank > -1)", True),
        ("text ~ (x(?:y|z))+", False),
        ("(text ~ b)", True),
        (r"text ~ \(", False),
        ("entropy > -1", True),
        ("surprisal < -0.5", False),
    ],
)
def test_brackets_in_pairs_and_negative_numbers_are_taken(source: str, hit: bool) -> None:
    assert parse_breakpoint(source).hit(replace(TRACE, piece=b" abc")) is hit


def test_a_part_of_a_character_is_text_too() -> None:
    assert not parse_breakpoint("text ~ x").hit(replace(TRACE, piece=b"\xe2\x96"))


@pytest.mark.parametrize(
    ("source", "column", "says"),
    [
        ("", 1, "a figure must stand here, and the condition ends"),
        ("entrophy > 3", 1, "'entrophy' is none: choose from entropy"),
        ("entropy 3", 9, "a comparison"),
        ("entropy > ", 11, "a number"),
        ("entropy > x", 11, "a number"),
        ("p(best) < 1", 1, "p(best)"),
        ("rank > 5 rank < 3", 10, "join conditions"),
        ("rank > 5 and", 13, "the condition ends"),
        ("(rank > 5", 10, "column 1"),
        ("rank > 5)", 9, "join"),
        ("rank > 5 and $", 14, "no meaning"),
        ("text > 3", 6, "'~'"),
        ("text ~", 7, "a pattern"),
        ("text ~ a[", 9, "regular expression"),
        ("rank > 3x", 8, "no meaning"),
    ],
)
def test_an_error_points_to_its_column(source: str, column: int, says: str) -> None:
    with pytest.raises(BreakpointError) as caught:
        parse_breakpoint(source)
    assert caught.value.column == column
    assert says in str(caught.value) and f"column {column}:" in str(caught.value)
