"""Text broken into lines: every line fits, nothing is lost, words stay whole where they can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_chat.display.cells import hanging, side_by_side, wrapped


def test_lines_are_broken_at_spaces_and_only_long_words_are_cut() -> None:
    assert wrapped("the sea and the boat", 8) == ["the sea ", "and the ", "boat"]
    assert wrapped("ab cdefghijk lm", 5) == ["ab ", "cdefg", "hijk ", "lm"]
    assert wrapped("漢字漢字 c", 5) == ["漢字", "漢字 ", "c"]
    assert wrapped("", 5) == [""]


@given(st.text(alphabet="ab 漢", max_size=40), st.integers(2, 12))
def test_nothing_is_lost_and_every_line_fits(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert "".join(lines) == text
    assert all(cell_len(line.rstrip()) <= width for line in lines)


def test_lines_hang_from_their_head() -> None:
    assert list(hanging("sea  ", "one two three", 12)) == ["sea  one two", "     three"]
    assert list(hanging("sea  ", "one two three", None)) == ["sea  one two three"]
    assert list(hanging("sea  ", "one two", 4)) == ["sea  one two"]


def test_parts_share_a_line_where_they_fit() -> None:
    assert side_by_side(["one", "two", "three"], 9) == ["one · two", "three"]
    assert side_by_side(["one", "two", "three"], 80) == ["one · two · three"]
    assert side_by_side(["one", "twenty-two"], 5) == ["one", "twenty-two"]
    assert side_by_side([], 5) == []
