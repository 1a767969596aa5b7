"""A waterfall in words and figures: its columns, cells and notes, without a screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from tui_chat.display.cells import side_by_side, wrapped
from tui_chat.display.figures import percent, stage_name
from tui_chat.engine.types import SamplingParams
from tui_chat.language import _, n_

if TYPE_CHECKING:  # numpy must not hold up the first frame
    from tui_chat.engine.cuts import Column, Reason
    from tui_chat.engine.waterfall import Row, Waterfall

CUT = "✂"
"""Stands where a stage removed a token."""

COLUMN = 8
"""Cells of a column: a blank, a figure of six, seldom seven, and an arrow where a stage moved this very token."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The columns that fit: the first, some in the middle, the last."""

    columns: tuple[int, ...]
    """Their places in `Waterfall.columns`."""
    more_left: bool
    """Whether columns are hidden behind the first."""
    more_right: bool
    """Whether columns are hidden before the last."""


def fitting(n_columns: int, room: int, offset: int) -> Shown:
    """Which columns to show.

    Args:
        n_columns: How many there are.
        room: Cells for them.
        offset: How many of the middle ones are scrolled away.
    """
    n = max(2, room // COLUMN)
    if n_columns <= n:
        return Shown(tuple(range(n_columns)), more_left=False, more_right=False)
    first = 1 + min(max(0, offset), most_offset(n_columns, room))
    middle = range(first, first + n - 2)
    return Shown((0, *middle, n_columns - 1), first > 1, first + n - 2 < n_columns - 1)


def most_offset(n_columns: int, room: int) -> int:
    """How far the middle columns can be scrolled."""
    fit = max(2, room // COLUMN)
    return max(0, n_columns - fit) if fit > 2 else 0


_SHORT = {"penalties": "penalty", "temperature": "T", "adaptive_p": "adapt", "logit_bias": "bias", "mirostat": "miro"}


def short_name(name: str) -> str:
    """The name of a stage in at most seven characters."""
    return _SHORT.get(name, stage_name(name))


def setting_of(name: str, params: SamplingParams) -> str:
    """The setting of a stage, where it is one number; empty otherwise."""
    match name:
        case "top_k" | "mirostat":
            return f"{getattr(params, name):g}"
        case "top_p" | "min_p":
            return _point(getattr(params, name))
        case "typical":
            return _point(params.typical_p)
        case "top_n_sigma":
            return _point(params.top_n_sigma)
        case "penalties" if params.repeat_penalty != 1:
            return f"{params.repeat_penalty:.2f}"
        case "xtc":
            return _point(params.xtc_threshold)
        case "temperature":
            return f"{params.temperature:.2f}" if not params.dynatemp_range else "dyn"
    return ""


def _point(value: float) -> str:
    return f"{value:.2f}".removeprefix("0").rstrip("0") if value < 1 else f"{value:g}"


def figure(row: Row, column: int, *, logits: bool) -> str:
    """A candidate's figure in a column; empty where it was removed before."""
    logit, p = row.logits[column], row.p[column]
    if logit is None or p is None:
        return ""
    return f"{logit:.2f}" if logits else percent(p)


def moved(row: Row, name: str) -> str:
    """An arrow where the stage of a column moved this token in particular."""
    for change in row.changes:
        if change.stage == name:
            at = next((i for i, logit in enumerate(row.logits) if logit is None), len(row.logits)) - 1
            return "↑" if at >= 0 and _gain(change) > 0 else "↓"
    return ""


def _gain(change: Reason) -> float:
    numbers = change.numbers
    if change.stage == "logit_bias":
        return numbers["bias"]
    if change.stage == "dry":
        return -numbers["penalty"]
    logit, repeat = numbers["logit"], numbers["repeat"]
    after = (logit * repeat if logit <= 0 else logit / repeat) - numbers["count"] * numbers["frequency"]
    return after - numbers["presence"] - logit


_IN_SHORT = {"top_p": "{before} ≥ {top_p}", "typical": "{before} > {p}", "xtc": "{p} ≥ {threshold}", "grammar": ""}
"""What a reason comes down to, where there is little room."""


def cut_words(row: Row, table: Waterfall, room: int = 1 << 30) -> str:
    """Which stage removed a candidate, and the arithmetic, in short where the whole of it does not fit."""
    if row.removed is None:
        return ""
    words, reason = f"{CUT} {short_name(table.columns[row.removed].name)}", row.reason
    if reason is None:
        return words
    short = _IN_SHORT.get(reason.stage, "{reason}").format_map({"reason": reason, **reason.numbers})
    tight = re.sub(r" (\W) ", r"\1", short)
    ways = (f"{words} {reason}", f"{words} {short}".rstrip(), f"{CUT} {tight}" if short else words)
    return next((way for way in ways if cell_len(way) <= room), words)


def where_it_stands(row: Row, table: Waterfall, *, given: bool = False) -> list[str]:
    """All that is to be said of one candidate: its place, what stages did to it, when it is drawn or why not.

    Args:
        row: The candidate.
        table: What it stands in.
        given: Nothing was drawn here.
    """
    logits = table.columns[0].logits
    rank = 1 + int((logits > logits[row.id]).sum())
    about = "~" * (table.known is not None and rank >= len(table.known))
    parts = [
        _("id {id}").format(id=row.id),
        _("rank {n} of {all}").format(n=about + f"{rank:,}", all=f"{len(logits):,}"),
        f"logit {row.logits[0]:.2f}" if row.logits[0] is not None else "logit −∞",
    ]
    parts += [f"{short_name(change.stage)}: {change}" for change in row.changes]
    last = cut_words(row, table)
    if row.interval is not None and given:
        last = _("these settings leave it {p}").format(p=percent(row.p[-1] or 0))
    elif row.interval is not None and table.u is not None:
        low, high = row.interval
        if row.id != table.picked:
            words = _("not drawn: that takes {low:.6f} ≤ u < {high:.6f}")
        elif low <= table.u < high:
            words = _("drawn: {low:.6f} ≤ u {u:.6f} < {high:.6f}")
        else:  # kept logits are rounded
            words = _("drawn: u {u:.6f}, about {low:.6f} to {high:.6f}")
        last = words.format(low=low, high=high, u=table.u)
    elif row.interval is not None:
        last = _("the best is taken: no draw")
    return [" · ".join(parts), last]


def foot(row: Row, table: Waterfall, notes: Sequence[str], width: int, room: int, *, given: bool) -> list[str | None]:
    """The lines beneath the candidates, None for the bar of the draw.

    Where there is no room for all of them the notes give way first, the last one before the others, then the bar: what
    is said of the candidate stays whole.

    Args:
        row: The candidate.
        table: What it stands in.
        notes: What there is to say of the table.
        width: Cells of a line.
        room: Lines there are.
        given: Nothing was drawn here: words stand in the place of the bar.
    """
    place, why = (wrapped(words, width) if words else [] for words in where_it_stands(row, table, given=given))
    draw = wrapped(_("given, not drawn · stages as they are set now"), width) if given else [None]
    lines = [*place, *draw, *why]
    if len(lines) > room:
        lines = [line for line in lines if line is not None]
    noted = [line for part in side_by_side(notes, width) for line in wrapped(part, width)]
    return [*lines, *noted][: max(0, room)]


def with_pinned(rows: Sequence[Row], marked: Sequence[tuple[int, Row]], top: int) -> list[tuple[Row, bool]]:
    """The rows of a window, each with whether it is pinned: it stands elsewhere and is seen all the same.

    Pinned rows take the first or the last places of the window, on the side where they belong.

    Args:
        rows: What stands in the window.
        marked: Those to be seen in any case, with their places.
        top: The place of the first row of the window.
    """
    above: list[Row] = []
    below: list[Row] = []
    while True:
        window = rows[len(above) : len(rows) - len(below)]
        pinned = sorted(((place, row) for place, row in marked if row not in window), key=lambda one: one[0])
        if len(pinned) == len(above) + len(below):
            return [(row, row not in window) for row in (*above, *window, *below)]
        # One that is pinned may cover another.
        above = [row for place, row in pinned if place < top + len(rows) // 2]
        below = [row for _, row in pinned[len(above) :]]


def notes_of(table: Waterfall, *, given: bool = False) -> list[str]:
    """What there is to say of the whole table: the cut of top-p, the grammar, and so on; last, what it is made from."""
    from tui_chat.engine.waterfall import Basis

    notes = []
    for before, column in zip(table.columns, table.columns[1:], strict=False):
        if column.name == "top_p" and column.survivors < before.survivors:
            notes.append(_top_p(before, column, table) if table.known is None else _about_top_p(before, column))
        elif column.name == "grammar":
            notes.append(_grammar(before, column, table))
        if column.note:
            notes.append(f"{short_name(column.name)}: {column.note}")
    if table.basis is Basis.TRUNCATED:
        n = table.n_rows
        notes.append(n_("truncated: {n} token is known", "truncated: the best {n} are known", n).format(n=n))
    elif table.basis is Basis.ROUNDED and not given:
        notes.append(_("an unlikely outcome: its logits were kept as float16"))
    return notes


def _top_p(before: Column, column: Column, table: Waterfall) -> str:
    kept = column.alive()
    p = before.p(kept)
    total, least = float(p.sum()), float(p.min())
    words = n_("top-p: the best has {total}", "top-p: {n} sum to {total}", len(kept))
    words = words.format(n=f"{len(kept):,}", total=percent(total)) + f" ≥ {percent(table.params.top_p)}"
    return (
        words
        if len(kept) == 1
        else words + _(", {n} to {less}").format(n=f"{len(kept) - 1:,}", less=percent(total - least))
    )


def _about_top_p(before: Column, column: Column) -> str:
    """The same where only the best logits are known: their number may be, their sum is supposed."""
    n = column.survivors
    p = before.p(before.alive())
    p.sort()
    words = n_("top-p: the best has {total}", "top-p: {n} sum to {total}", n)
    return words.format(n="~" * column.guessed + f"{n:,}", total=f"~{percent(float(p[-n:].sum()))}")


def _grammar(before: Column, column: Column, table: Waterfall) -> str:
    allowed = column.alive()
    lost = max(0.0, 1.0 - float(before.p(allowed).sum()))
    words = _("grammar: {n} refused ({lost}), {left} left")
    refused = before.survivors - column.survivors
    about, supposed = "~" * (before.guessed or column.guessed), "~" * (table.known is not None)
    left = "~" * column.guessed + f"{column.survivors:,}"
    return words.format(n=f"{about}{refused:,}", lost=supposed + percent(lost), left=left)


def draw_bar(table: Waterfall, token: int | None, cells: int) -> list[tuple[str, str]]:
    """The cumulative bar of what the draw chose from, as (glyphs, part): the intervals in turns, the draw as a mark.

    Args:
        table: The waterfall.
        token: Whose interval is full.
        cells: How wide.
    """
    most = 4 * cells  # what is less likely than all of those has no cell of its own
    edges = [round(edge * cells) for edge in table.cumulative[:most].tolist()]
    glyphs: list[tuple[str, str]] = []
    start = 0
    for number, (stop, candidate) in enumerate(zip(edges, table.ids[:most].tolist(), strict=True)):
        if stop > start:
            name = "own" if candidate == token else "even" if number % 2 == 0 else "odd"
            glyphs += [({"own": "█", "even": "▓", "odd": "░"}[name], name)] * (stop - start)
            start = stop
    glyphs += [("·", "odd")] * (cells - len(glyphs))
    if table.u is not None and cells:
        glyphs[min(cells - 1, int(table.u * cells))] = ("┃", "mark")
    return glyphs


def needle_of(text: str) -> bytes:
    """What a typed search looks for: the bytes of the text; `0xE296` are those bytes, and · ⏎ ⇥ what they stand for."""
    if text.lower().startswith("0x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            pass
    return text.replace("·", " ").replace("⏎", "\n").replace("⇥", "\t").encode()


def found_by(table: Waterfall, text: str, pieces: Sequence[bytes]) -> list[int]:
    """The tokens that a search finds, best first; a number finds the token of that id before all others."""
    if not text:
        return []
    found: list[int] = [int(token) for token in table.find(needle_of(text), pieces)] if pieces else []
    wanted = text.removeprefix("#")
    if wanted.isdecimal() and int(wanted) < len(table.columns[0].logits):
        token = int(wanted)
        if table.known is None or token in table.known:
            found = [token, *(other for other in found if other != token)]
    return found
