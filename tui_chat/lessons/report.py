"""What a demonstration gives: one value, drawn in the app, printed on a terminal, or written as JSON.

A report is a title, blocks for people and a document for machines; both are made from the same figures. Blocks say what
there is to see and never how wide or in which colour: `drawing.draw` does that for every reader alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Tone(StrEnum):
    """What a piece of text is, for whoever has colours. Nothing is told by its tone alone."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    ACCENT = "accent"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    CONTROL = "control"
    """A control token or another part of a template."""
    EVEN = "even"
    ODD = "odd"
    """Neighbouring tokens, so that one sees where each ends."""
    HEAT_0 = "heat-0"
    HEAT_1 = "heat-1"
    HEAT_2 = "heat-2"
    HEAT_3 = "heat-3"
    HEAT_4 = "heat-4"
    """From what was expected to what surprised most."""


HEAT = (Tone.HEAT_0, Tone.HEAT_1, Tone.HEAT_2, Tone.HEAT_3, Tone.HEAT_4)
"""The tones of a heat map, coolest first."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text of one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]
"""One drawn line."""


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part of the report."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph. What stands between backticks is literal: a command, a token, a formula."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Facts:
    """Labels and what belongs to them. A label between backticks is literal as a whole."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of one as a bar."""

    share: float


@dataclass(frozen=True, slots=True)
class Spark:
    """Values in a row of small columns."""

    values: tuple[float, ...]


Cell = str | Span | Bar | Spark
"""What stands in a table."""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column of a table is headed and laid out."""

    title: str = ""
    align: Literal["left", "right"] = "left"
    grows: bool = False
    """Takes the width that is left over; the first one that does."""
    wraps: bool = False
    """Where it grows: text that is too long goes on in the next line, instead of being cut."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under headed columns. Columns that do not fit are left out from the right."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """Pieces one after another, broken between them, and where a piece ends with a line end (shown as such)."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text as it stands, line by line; long lines go on in the next."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, with marks on or beside it."""

    points: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, float], ...] = ()
    caption: str = ""
    """What is drawn over what."""
    height: int = 9


@dataclass(frozen=True, slots=True)
class Trend:
    """Values from the first to the last as one line of columns, each the mean of some where they are too many."""

    values: tuple[float, ...]
    caption: Callable[[int, float, float], str]
    """Says of what: gets how many values a column stands for, and the lowest and the highest column."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One of several texts to compare."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Lanes:
    """Texts side by side, as many in a row as there is room for; one below the other where there is none."""

    lanes: tuple[Lane, ...]
    least_width: int = 24
    """Cells a lane needs to stand beside another."""


Block = Heading | Words | Facts | Table | Flow | Verbatim | Curve | Trend | Lanes
"""A part of a report."""


@dataclass(frozen=True, slots=True)
class Report:
    """A demonstration's result."""

    title: str
    blocks: Sequence[Block]
    document: Mapping[str, object] = field(default_factory=dict)
    """The JSON contract."""
