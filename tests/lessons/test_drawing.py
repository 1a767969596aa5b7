"""Reports as lines: never longer than asked, nothing lost that fits, nothing in them that acts on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_chat.lessons.drawing import draw, sparkline, text_of
from tui_chat.lessons.report import (
    Bar,
    Block,
    Column,
    Curve,
    Facts,
    Flow,
    Heading,
    Lane,
    Lanes,
    Span,
    Spark,
    Table,
    Tone,
    Trend,
    Verbatim,
    Words,
)

TEXT = st.text(max_size=60)
SPANS = st.lists(st.builds(Span, TEXT, st.sampled_from(Tone)), max_size=6).map(tuple)
CELLS = st.one_of(
    TEXT,
    st.builds(Span, TEXT, st.sampled_from(Tone)),
    st.builds(Bar, st.floats(0, 1)),
    st.builds(Spark, st.lists(st.floats(-1e3, 1e3), max_size=9).map(tuple)),
)


@st.composite
def tables(draw_from: st.DrawFn) -> Table:
    n = draw_from(st.integers(1, 5))
    columns = draw_from(
        st.lists(
            st.builds(Column, TEXT, st.sampled_from(("left", "right")), st.booleans(), st.booleans()),
            min_size=n,
            max_size=n,
        )
    )
    rows = draw_from(st.lists(st.lists(CELLS, min_size=n, max_size=n).map(tuple), max_size=4))
    return Table(tuple(columns), tuple(rows))


TRENDS = st.builds(
    Trend, st.lists(st.floats(0, 9), max_size=99).map(tuple), st.just(lambda n, low, high: f"{n}: {low:.2f} {high:.2f}")
)
SIMPLE = st.one_of(
    TRENDS,
    st.builds(Heading, TEXT),
    st.builds(Words, TEXT, st.sampled_from(Tone)),
    st.builds(Facts, st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple)),
    tables(),
    st.builds(Flow, SPANS),
    st.builds(Verbatim, SPANS),
    st.builds(Curve, st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), max_size=5).map(tuple), caption=TEXT),
)
LANES = st.builds(
    Lanes,
    st.lists(st.builds(Lane, TEXT, st.lists(SIMPLE, max_size=2).map(tuple)), max_size=3).map(tuple),
    st.integers(1, 30),
)


def drawn(*blocks: Block, width: int = 40) -> list[str]:
    return [text_of(line) for line in draw(blocks, width)]


@given(st.lists(st.one_of(SIMPLE, LANES), max_size=4), st.integers(12, 120))
def test_no_line_is_longer_than_asked_nor_acts_on_a_terminal(blocks: list[Block], width: int) -> None:
    for line in draw(blocks, width):
        text = "".join(span.text for span in line)
        assert cell_len(text) <= width
        assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in text)


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), max_size=30), st.integers(4, 40))
def test_words_are_all_there_in_their_order(words: list[str], width: int) -> None:
    assert "".join(drawn(Words(" ".join(words)), width=width)).replace(" ", "") == "".join(words)


@given(st.lists(st.text(st.characters(categories=["L"]), max_size=20), max_size=12), st.integers(4, 40))
def test_tokens_and_templates_lose_no_character(pieces: list[str], width: int) -> None:
    spans = tuple(Span(piece) for piece in pieces)
    for block in (Flow(spans), Verbatim(spans)):
        assert "".join("".join(span.text for span in line) for line in draw([block], width)) == "".join(pieces)


def test_paragraphs_wrap_at_words_and_keep_literals_whole() -> None:
    assert drawn(Words("one two three `four five` six"), width=14) == ["one two three", "four five six"]
    assert drawn(Words("first\nsecond")) == ["first", "second"]
    spans = draw([Words("use `/temp 0` now")], 40)[0]
    assert Span("/temp 0", Tone.ACCENT) in spans


def test_blocks_stand_apart_but_what_follows_a_heading_does_not() -> None:
    assert drawn(Heading("A"), Words("b"), Words("c")) == ["A", "b", "", "c"]


def test_facts_align_and_continue_under_their_value() -> None:
    assert drawn(Facts((("a", "one two"), ("long", "x"))), width=10) == ["a     one", "      two", "long  x"]


def test_a_table_aligns_and_leaves_out_what_does_not_fit() -> None:
    table = Table(
        (Column("#", "right"), Column("name", grows=True), Column("p", "right")),
        (("1", "a long name", "5%"), ("10", "b", "100%")),
    )
    assert drawn(table) == [" #  name            p", " 1  a long name    5%", "10  b            100%"]
    assert drawn(table, width=18) == [" #  name         p", " 1  a long …    5%", "10  b         100%"]
    assert drawn(table, width=9) == [" #", " 1", "10"]


def test_a_column_that_wraps_is_not_cut() -> None:
    table = Table((Column("#", "right"), Column("to do", grows=True, wraps=True)), (("1", "one two three"), ("2", "x")))
    assert drawn(table, width=16) == ["#  to do", "1  one two three", "2  x"]
    assert drawn(table, width=12) == ["#  to do", "1  one two", "   three", "2  x"]


def test_a_trend_has_as_many_columns_as_there_is_room_for() -> None:
    trend = Trend((0.0, 2.0, 4.0, 8.0), lambda n, low, high: f"{n} {low:g} {high:g}")
    assert drawn(trend, width=40) == ["▁▃▅█", "1 0 8"]
    assert drawn(trend, width=2) == ["▁█", "2", "1", "6"]
    assert drawn(Trend((), lambda *_: "x")) == []


def test_a_token_that_ends_a_line_ends_it_here_too() -> None:
    assert drawn(Flow((Span("a"), Span("b\n"), Span("c")))) == ["ab⏎", "c"]


def test_lanes_stand_side_by_side_only_where_there_is_room() -> None:
    lanes = Lanes((Lane("left", (Words("one"),)), Lane("right", (Words("two"),))), least_width=10)
    assert drawn(lanes, width=30) == ["left            right", "one             two"]
    assert drawn(lanes, width=15) == ["left", "one", "", "right", "two"]
    four = Lanes(tuple(Lane(title, (Words("x"),)) for title in "abcd"), least_width=3)
    assert drawn(four, width=18) == ["a    b    c    d", "x    x    x    x"]
    assert drawn(four, width=13) == ["a      b", "x      x", "", "c      d", "x      x"]


@pytest.mark.parametrize(
    ("values", "drawing"), [((), ""), ((3.0,), "▁"), ((0.0, 1.0), "▁█"), ((0.0, 7.0, 3.0), "▁█▄"), ((2.0, 2.0), "▁▁")]
)
def test_sparklines(values: tuple[float, ...], drawing: str) -> None:
    assert sparkline(values) == drawing
