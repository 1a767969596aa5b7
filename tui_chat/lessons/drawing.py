"""Reports as lines of an exact width: the same for the app's cards and for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import singledispatch
from itertools import pairwise

from rich.cells import cell_len, chop_cells

from tui_chat.display.cells import bar, fit
from tui_chat.display.curve import draw_curve
from tui_chat.display.text import one_line, visible
from tui_chat.lessons.report import (
    Bar,
    Block,
    Cell,
    Column,
    Curve,
    Facts,
    Flow,
    Heading,
    Lane,
    Lanes,
    Line,
    Span,
    Spark,
    Table,
    Tone,
    Trend,
    Verbatim,
    Words,
)

_GAP = 2
_BAR_WIDTH = 16
_LEAST_GROWN = 8
_SPARKS = "▁▂▃▄▅▆▇█"
_LINE_END = "⏎"


def draw(blocks: Sequence[Block], width: int) -> list[Line]:
    """Draw blocks one below the other, with a blank line before each heading and paragraph but the first.

    Args:
        blocks: Of a report.
        width: Cells of a line; none is longer.

    Returns:
        Lines whose text is safe to print: nothing in it moves a cursor or reorders a line.
    """
    lines: list[Line] = []
    before: Block | None = None
    for block in blocks:
        if before is not None and not isinstance(before, Heading):
            lines.append(())
        lines += _drawn(block, max(1, width))
        before = block
    return lines


def text_of(line: Line) -> str:
    """The text of a line, without tones and blanks at its end."""
    return "".join(span.text for span in line).rstrip()


def sparkline(values: Sequence[float]) -> str:
    """Values as columns an eighth to a whole line high, the lowest and the highest at the ends of that range."""
    if not values:
        return ""
    low, high = min(values), max(values)
    step = (high - low) / (len(_SPARKS) - 1) or 1.0
    return "".join(_SPARKS[round((value - low) / step)] for value in values)


@singledispatch
def _drawn(block: Block, width: int) -> list[Line]:
    raise TypeError(f"no way to draw {block!r}")


@_drawn.register
def _(block: Heading, width: int) -> list[Line]:
    return [(Span(fit(one_line(block.text), min(width, cell_len(one_line(block.text)))), Tone.STRONG),)]


@_drawn.register
def _(block: Words, width: int) -> list[Line]:
    return _wrapped(block.text, width, block.tone)


@_drawn.register
def _(block: Facts, width: int) -> list[Line]:
    labels = [_label(label) for label, _ in block.rows]
    column = min(max((cell_len(label.text) for label in labels), default=0), max(1, (width - _GAP) // 2))
    lines: list[Line] = []
    for label, (_, value) in zip(labels, block.rows, strict=True):
        for index, rest in enumerate(_wrapped(value, max(1, width - column - _GAP), Tone.PLAIN) or [()]):
            head = fit(label.text if index == 0 else "", column)
            lines.append((Span(head + " " * _GAP, label.tone), *rest))
    return lines


@_drawn.register
def _(block: Table, width: int) -> list[Line]:
    cells = [[_cell(cell) for cell in row] for row in block.rows]
    heads = [one_line(column.title) for column in block.columns]
    widths = [max([cell_len(head), *(_width(row[index]) for row in cells)]) for index, head in enumerate(heads)]
    kept = _fitted(widths, block.columns, width)
    lines: list[Line] = []
    if any(heads):
        lines.append(_row([Span(head, Tone.DIM) for head in heads], block.columns, kept))
    for row in cells:
        lines += [_row(part, block.columns, kept) for part in _split(row, block.columns, kept)]
    return lines


@_drawn.register
def _(block: Flow, width: int) -> list[Line]:
    lines: list[list[Span]] = [[]]
    used = 0
    for span in block.spans:
        text = one_line(span.text)
        for part in [text] if cell_len(text) <= width else chop_cells(text, width):
            if used + cell_len(part) > width:
                lines.append([])
                used = 0
            lines[-1].append(Span(part, span.tone))
            used += cell_len(part)
        if text.endswith(_LINE_END):
            lines.append([])
            used = 0
    if not lines[-1]:
        lines.pop()
    return [tuple(line) for line in lines]


@_drawn.register
def _(block: Verbatim, width: int) -> list[Line]:
    lines: list[list[Span]] = [[]]
    used = 0
    for span in block.spans:
        for index, text in enumerate(visible(span.text).expandtabs(4).split("\n")):
            if index:
                lines.append([])
                used = 0
            while text:
                part = chop_cells(text, width - used)[0] if used < width else ""
                if not part or cell_len(part) > width - used:
                    lines.append([])
                    used = 0
                    continue
                lines[-1].append(Span(part, span.tone))
                used += cell_len(part)
                text = text[len(part) :]
    return [tuple(line) for line in lines]


@_drawn.register
def _(block: Curve, width: int) -> list[Line]:
    rows: list[Line] = [(Span(row),) for row in draw_curve(block.points, width, block.height, block.marks)]
    return rows + (_wrapped(block.caption, width, Tone.DIM) if block.caption else [])


@_drawn.register
def _(block: Trend, width: int) -> list[Line]:
    n = len(block.values)
    k = min(width, n)
    if not k:
        return []
    ends = [place * n // k for place in range(k + 1)]
    means = [sum(block.values[start:end]) / (end - start) for start, end in pairwise(ends)]
    line: Line = (Span(sparkline(means), Tone.ACCENT),)
    return [line, *_wrapped(block.caption(round(n / k), min(means), max(means)), width, Tone.DIM)]


@_drawn.register
def _(block: Lanes, width: int) -> list[Line]:
    n = len(block.lanes)
    fitting = max(1, (width + _GAP) // (block.least_width + _GAP))
    rows = -(-n // fitting)
    a_row = -(-n // max(1, rows))  # as many in one row as in another: four where three fit are two and two
    lines: list[Line] = []
    for start in range(0, n, max(1, a_row)):
        lines += [()] if start else []
        lines += _side_by_side(block.lanes[start : start + a_row], (width - _GAP * (a_row - 1)) // a_row)
    return lines


def _side_by_side(lanes: Sequence[Lane], width: int) -> list[Line]:
    """Lanes in one row, each of this width."""
    drawn = [[(Span(fit(one_line(lane.title), width), Tone.ACCENT),), *draw(lane.blocks, width)] for lane in lanes]
    joined: list[Line] = []
    for index in range(max(map(len, drawn), default=0)):
        spans: list[Span] = []
        for number, lines in enumerate(drawn):
            line = lines[index] if index < len(lines) else ()
            spans += line
            if number < len(drawn) - 1:
                spans.append(Span(" " * (width - sum(cell_len(span.text) for span in line) + _GAP)))
        joined.append(tuple(spans))
    return joined


def _label(text: str) -> Span:
    text = one_line(text)
    literal = len(text) > 1 and text[0] == text[-1] == "`"
    return Span(text[1:-1], Tone.ACCENT) if literal else Span(text, Tone.DIM)


def _cell(cell: Cell) -> Span | Bar:
    match cell:
        case str():
            return Span(one_line(cell))
        case Span():
            return Span(one_line(cell.text), cell.tone)
        case Spark(values):
            return Span(sparkline(values), Tone.ACCENT)
    return cell


def _width(cell: Span | Bar) -> int:
    return _BAR_WIDTH if isinstance(cell, Bar) else cell_len(cell.text)


def _fitted(widths: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """The widths of the columns that fit, from the left; one that grows gives way before another is left out."""
    growing = next((index for index, column in enumerate(columns) if column.grows), None)
    kept = list(widths)
    while kept:
        over = sum(kept) + _GAP * (len(kept) - 1) - width
        if over <= 0:
            return kept
        if growing is not None and growing < len(kept) and kept[growing] - over >= min(_LEAST_GROWN, kept[growing]):
            kept[growing] -= over
            return kept
        if len(kept) == 1:
            return [width]
        kept.pop()
    return kept


def _split(
    cells: Sequence[Span | Bar], columns: Sequence[Column], widths: Sequence[int]
) -> Iterator[Sequence[Span | Bar]]:
    """The row, and what of a cell that wraps goes on below it."""
    at = next((index for index, column in enumerate(columns) if column.grows and column.wraps), len(widths))
    cell = cells[at] if at < len(widths) else None
    if not isinstance(cell, Span) or cell_len(cell.text) <= widths[at]:
        yield cells
        return
    for index, line in enumerate(_wrapped(cell.text, widths[at], cell.tone)):
        rest = [Span("")] * len(cells) if index else list(cells)
        yield [*rest[:at], Span(text_of(line), cell.tone), *rest[at + 1 :]]


def _row(cells: Sequence[Span | Bar], columns: Sequence[Column], widths: Sequence[int]) -> Line:
    spans: list[Span] = []
    for index, (width, column) in enumerate(zip(widths, columns, strict=False)):
        cell = cells[index]
        if isinstance(cell, Bar):
            text, tone = bar(cell.share, width), Tone.ACCENT
            cell = Span(text, tone)
        text = fit(cell.text, min(width, cell_len(cell.text)))
        blank = " " * (width - cell_len(text))
        gap = " " * _GAP if index < len(widths) - 1 else ""
        if column.align == "right":
            spans.append(Span(blank + text, cell.tone))
        else:
            spans += [Span(text, cell.tone), Span(blank)] if blank else [Span(text, cell.tone)]
        if gap:
            spans.append(Span(gap))
    return tuple(spans)


def _wrapped(text: str, width: int, tone: Tone) -> list[Line]:
    """A paragraph in lines; words longer than a line are cut, and line ends in the text stay."""
    lines: list[Line] = []
    for paragraph in visible(text).expandtabs(4).split("\n"):
        spans: list[Span] = []
        used = 0
        for word in _words(paragraph, tone):
            size = sum(cell_len(span.text) for span in word)
            if used and used + 1 + size > width:
                lines.append(tuple(spans))
                spans, used = [], 0
            if used:
                spans.append(Span(" ", tone))
                used += 1
            for span in word:
                for part in chop_cells(span.text, width) if cell_len(span.text) > width else [span.text]:
                    if used + cell_len(part) > width:
                        lines.append(tuple(spans))
                        spans, used = [], 0
                    spans.append(Span(part, span.tone))
                    used += cell_len(part)
        lines.append(tuple(spans))
    return lines


def _words(paragraph: str, tone: Tone) -> Iterator[list[Span]]:
    """The words of a paragraph, each as its pieces; a literal in backticks loses them and stays one word."""
    word: list[Span] = []
    for literal, plain, blank in re.findall(r"`([^`]+)`|([^\s`]+|`)|(\s+)", paragraph):
        if blank:
            if word:
                yield word
            word = []
        elif literal:
            word.append(Span(literal, Tone.ACCENT))
        else:
            word.append(Span(plain, tone))
    if word:
        yield word
