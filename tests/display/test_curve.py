"""The curve in characters: exact small pictures, then its shape for any points."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tui_chat.display.curve import MARK, draw_curve, number

POINT = st.tuples(st.floats(), st.floats())


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right() -> None:
    assert draw_curve([(0, 8), (100, 1)], 24, 6) == [
        "8┤⠉⠒⠢⠤⣀⡀                ",
        " │     ⠈⠑⠒⠤⢄⣀           ",
        " │           ⠉⠑⠒⠤⢄⡀     ",
        "1┤                ⠈⠉⠒⠢⠤⣀",
        " └──────────────────────",
        "  0                  100",
    ]


def test_the_axes_name_the_limits() -> None:
    rows = draw_curve([(1, 8.512), (3000, 0.25)], 40, 9)
    assert rows[0].startswith("8.51┤")
    assert rows[3].startswith("4.38┤")
    assert rows[6].startswith("0.25┤")
    assert rows[7] == "    └" + "─" * 35
    assert rows[8] == "     1" + "3,000".rjust(34)


def test_marks_stand_where_their_points_lie() -> None:
    rows = draw_curve([(0, 0), (10, 0)], 24, 5, [(10, 4), (0, 4)])
    assert rows[0] == f"4┤{MARK}{' ' * 20}{MARK}"
    assert sum(row.count(MARK) for row in rows) == 2


def test_marks_leave_the_curve_to_be_seen() -> None:
    points = [(float(x), 1.0) for x in range(200)]
    (row,) = [row for row in draw_curve(points, 60, 7, points) if MARK in row]
    assert row.endswith(MARK), "the last one stays"
    places = [place for place, cell in enumerate(row) if cell == MARK]
    assert min(right - left for left, right in pairwise(places)) == 4
    # Those that lie apart all stay.
    few = [(x, 1.0) for x in (0.0, 50.0, 100.0, 150.0, 199.0)]
    assert "".join(draw_curve(points, 60, 7, few)).count(MARK) == 5


def test_a_start_that_makes_the_rest_flat_is_cut_off_where_that_is_asked_for() -> None:
    points = [(float(x), 9.0 if x < 5 else 2.0 - x / 100) for x in range(101)]
    marks = [(2.0, 9.0), (60.0, 1.4)]
    assert draw_curve(points, 60, 9, marks)[0].startswith("9┤")
    rows = draw_curve(points, 60, 9, marks, cut_start=True)
    assert rows[0].startswith("1.89┤") and "↑ 9 " in rows[0]
    assert rows[6].startswith("   1┤") and rows[6].rstrip()[-1] > "⠀"
    assert "".join(rows).count(MARK) == 1
    # A fall that goes on, few points, and a peak in the middle stay whole.
    falling = [(float(x), 9.0 - x / 20) for x in range(101)]
    peak = [(x, 9.0 if x == 50 else 1.0) for x, _ in points]
    for whole in (falling, points[::10], peak):
        assert draw_curve(whole, 60, 9, cut_start=True) == draw_curve(whole, 60, 9)
    # Validation alone may be high at first.
    assert "↑ 9 " in draw_curve([(x, 1.0) for x, _ in points], 60, 9, marks, cut_start=True)[0]


def test_a_steep_step_is_one_line_without_gaps() -> None:
    rows = draw_curve([(0, 0), (49, 0), (50, 10), (100, 10)], 40, 10)
    assert all(row[3:].strip() for row in rows[:-2])


def test_one_point_and_a_flat_line_have_room_around_them() -> None:
    assert draw_curve([(5, 3.0)], 24, 5)[1][5:].strip()
    flat = draw_curve([(0, 2.0), (9, 2.0)], 24, 5)
    assert flat[0].startswith("2.10┤") and flat[2].startswith("1.90┤")
    assert len(set(flat[1][5:])) == 1 and flat[1][5] != " "


def test_several_points_in_a_column_count_as_their_mean() -> None:
    crowd = [(float(x), y) for x in range(1000) for y in (1.0, 3.0)]
    rows = draw_curve([*crowd, (1000.0, 0.0), (1001.0, 4.0)], 30, 9)
    assert rows[3][2:20].count(" ") == 0


def test_without_points_or_room_it_is_blank() -> None:
    assert draw_curve([], 24, 3) == [" " * 24] * 3
    assert draw_curve([(1, math.nan)], 24, 3) == [" " * 24] * 3
    assert draw_curve([(1, 2), (2, 1)], 8, 2) == [" " * 8] * 2
    assert draw_curve([(1, 2), (2, 1)], 0, 0) == []


def test_numbers_are_short() -> None:
    assert [number(x) for x in (0, 3000, 12.34, 123.4, 2.5, 0.0123, 0.0005, 3e8)] == [
        "0",
        "3,000",
        "12.3",
        "123",
        "2.50",
        "0.0123",
        "5.0e-04",
        "3.0e+08",
    ]


@given(st.lists(POINT, max_size=30), st.lists(POINT, max_size=5), st.integers(0, 90), st.integers(0, 20), st.booleans())
def test_any_points_give_a_picture_of_the_size_asked_for(
    points: list[tuple[float, float]], marks: list[tuple[float, float]], width: int, height: int, cut: bool
) -> None:
    rows = draw_curve(points, width, height, marks, cut_start=cut)
    assert [len(row) for row in rows] == [width] * height
    assert all(char.isprintable() for row in rows for char in row)
