"""A curve drawn in characters: eight dots of braille a cell, with an axis and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]
"""Where a curve passes: x (a step) and y (a loss)."""

MARK = "◆"
"""Stands where a point of the second series lies."""

_MARK_EVERY = 4
"""Least columns from one mark to the next: more of them would hide the curve."""

_START = 0.1
"""Share of the way whose height may be cut off."""

_MANY = 20
"""Points of a curve of which any may be cut off."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bit of a braille character for a dot: by column, then by row from the top (Unicode, block 2800)."""

_DOTS_ACROSS, _DOTS_DOWN = 2, 4
_LEAST_WIDTH, _LEAST_HEIGHT = 24, 3
_LARGEST = 1e300


def draw_curve(
    points: Sequence[Point], width: int, height: int, marks: Sequence[Point] = (), *, cut_start: bool = False
) -> list[str]:
    """Draw a line through `points`.

    Args:
        points: In the order of x; those that are not finite are left out. Several in one column count as their mean.
        width: Cells of every line.
        height: Lines, the axis and its figures included.
        marks: Points of a second series, such as the validation loss, shown by `MARK`: of those that lie close
            together, the last.
        cut_start: Whether the axis may end below the first points, where their fall would make all that follows flat;
            `↑` tells how high they are.

    Returns:
        `height` lines of exactly `width` cells, every character one cell wide; blank where there is nothing to draw or
        no room for it.
    """
    line, spots = _finite(points), _finite(marks)
    everything = line + spots
    if not everything or width < _LEAST_WIDTH or height < _LEAST_HEIGHT:
        return [" " * max(0, width)] * max(0, height)
    low, high = _range([y for _, y in everything])
    first, last = min(x for x, _ in everything), max(x for x, _ in everything)
    note = ""
    later = [y for x, y in everything if _share(x, (first, last)) > _START]
    if cut_start and later and len(line) >= _MANY and high / 2 - max(later) / 2 > max(later) / 2 - low / 2:
        note = f" ↑ {number(high)} "
        low, high = _range([low, *later])
        line, spots = _below(line, high), [(x, y) for x, y in spots if y <= high]
    n_rows = height - 2
    labels = _labels(low, high, n_rows)
    margin = max(map(len, labels))
    grid = _Grid(width - margin - 1, n_rows, (first, last), (low, high))
    grid.line(line)
    drawn = grid.rows(spots)
    drawn[0] = drawn[0].replace(" " * len(note), note, 1)
    area = zip(labels, drawn, strict=True)
    rows = [f"{label:>{margin}}{'┤' if label else '│'}{row}" for label, row in area]
    rows.append(" " * margin + "└" + "─" * (width - margin - 1))
    rows.append(" " * (margin + 1) + _ends(number(first), number(last), width - margin - 1))
    return rows


def number(value: float) -> str:
    """A figure beside an axis, in few characters."""
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{value:.1e}"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 4}f}"


class _Grid:
    """The dots of the area the curve is drawn in."""

    def __init__(self, n_columns: int, n_rows: int, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self._cells = [[0] * n_columns for _ in range(n_rows)]
        self._across, self._down = n_columns * _DOTS_ACROSS, n_rows * _DOTS_DOWN
        self._xs, self._ys = xs, ys

    def line(self, points: Sequence[Point]) -> None:
        """Set the dots of a line through the points, without gaps."""
        columns: dict[int, list[float]] = {}
        for x, y in points:
            columns.setdefault(self._column(x), []).append(_share(y, self._ys))
        stops = [(column, sum(shares) / len(shares)) for column, shares in sorted(columns.items())]
        for column, share in stops[:1]:
            self._set(column, self._row(share))
        for (left, share_left), (right, share_right) in pairwise(stops):
            before = self._row(share_left)
            for column in range(left + 1, right + 1):
                now = self._row(share_left + (share_right - share_left) * (column - left) / (right - left))
                # Up to the height of the column before, so that a steep part stays one line.
                for row in range(min(before + (now > before), now), max(before - (now < before), now) + 1):
                    self._set(column, row)
                before = now

    def rows(self, marks: Sequence[Point]) -> list[str]:
        """The area as text, with the marks over the dots."""
        text = [[chr(0x2800 + bits) if bits else " " for bits in row] for row in self._cells]
        free = len(text[0])
        for x, y in sorted(marks, reverse=True):
            column = self._column(x) // _DOTS_ACROSS
            if column < free:
                text[self._row(_share(y, self._ys)) // _DOTS_DOWN][column] = MARK
                free = column - _MARK_EVERY + 1
        return ["".join(row) for row in text]

    def _column(self, x: float) -> int:
        return round(_share(x, self._xs) * (self._across - 1))

    def _row(self, share: float) -> int:
        return round((1 - share) * (self._down - 1))

    def _set(self, column: int, row: int) -> None:
        bit = _DOTS[column % _DOTS_ACROSS][row % _DOTS_DOWN]
        self._cells[row // _DOTS_DOWN][column // _DOTS_ACROSS] |= bit


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if abs(x) < _LARGEST and abs(y) < _LARGEST]


def _below(line: Sequence[Point], high: float) -> list[Point]:
    """The line from where it comes down to `high` for the last time."""
    above = [place for place, (_, y) in enumerate(line) if y > high]
    return [(line[above[-1]][0], high), *line[above[-1] + 1 :]] if above else list(line)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.05 or 1.0
        return low - room, high + room
    return low, high


def _share(value: float, limits: tuple[float, float]) -> float:
    """Where a value lies between the limits, from 0 to 1."""
    low, high = limits
    if high == low:
        return 0.0
    # Halved first: the difference of two doubles may be too large for one.
    return min(1.0, max(0.0, (value / 2 - low / 2) / (high / 2 - low / 2)))


def _labels(low: float, high: float, n_rows: int) -> list[str]:
    """What stands beside each row, from the top: highest and lowest value, and the middle where there is room."""
    labels = [""] * n_rows
    labels[0] = number(high)
    if n_rows > 1:
        labels[-1] = number(low)
    if n_rows >= 5 and n_rows % 2:
        labels[n_rows // 2] = number(low / 2 + high / 2)
    return labels


def _ends(left: str, right: str, width: int) -> str:
    """Two texts at the ends of a line; the right one alone where there is no room for both."""
    if left == right or len(left) + len(right) + 1 > width:
        return f"{right:>{width}}"[-width:]
    return left + right.rjust(width - len(left))
