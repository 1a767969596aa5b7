"""A waterfall in words: which columns fit, how a cut is explained, where the draw stands, what a search finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_chat.engine.sampling import Sampler
from tui_chat.engine.types import SamplingParams
from tui_chat.engine.waterfall import Order, Waterfall, cascade
from tui_chat.ui import waterfall_view as view

P = (0.41, 0.30, 0.15, 0.10, 0.03, 0.008, 0.002)
PIECES = (b" piece", b" part", b" bit", b"\xe2\x96", b"<|im_end|>", b"\n", b"17")


def waterfall(**params: object) -> Waterfall:
    """Of seven tokens, by falling probability."""
    chosen = SamplingParams(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3, **params})  # type: ignore[arg-type]
    sampler = Sampler(chosen, len(P), 64, [1, 1, 5])
    try:
        return cascade(sampler, np.log(np.array(P)).astype(np.float32), [1, 1, 5])
    finally:
        sampler.close()


@given(st.integers(2, 14), st.integers(0, 120), st.integers(0, 20))
@settings(max_examples=400)
def test_the_first_and_the_last_column_are_always_there(n: int, room: int, offset: int) -> None:
    shown = view.fitting(n, room, offset)
    assert shown.columns[0] == 0 and shown.columns[-1] == n - 1
    assert list(shown.columns) == sorted(set(shown.columns))
    assert len(shown.columns) == min(n, max(2, room // view.COLUMN))
    assert shown.more_left == (len(shown.columns) > 2 and shown.columns[1] > 1)
    reached = {column for at in range(n) for column in view.fitting(n, room, at).columns}
    assert len(shown.columns) == 2 or reached == set(range(n))


def test_a_cut_names_the_stage_and_its_arithmetic() -> None:
    table = waterfall(min_p=0.05, top_p=0.95)
    assert view.cut_words(table.row(0), table) == ""
    assert view.cut_words(table.row(4), table) == "✂ top-p the better ones have 96% already, ≥ 95%"
    assert view.cut_words(table.row(4), table, 20) == "✂ top-p 96% ≥ 95%"
    table = waterfall(min_p=0.05)
    assert view.cut_words(table.row(5), table) == "✂ min-p 0.8% < 5% × 41%"
    assert view.figure(table.row(5), 1, logits=False) == ""
    assert view.figure(table.row(0), 0, logits=False) == "41.0%"
    assert view.figure(table.row(0), 0, logits=True) == f"{np.log(0.41):.2f}"


def test_the_notes_give_the_sum_at_the_cut_of_top_p() -> None:
    assert view.notes_of(waterfall(top_p=0.7)) == ["top-p: 2 sum to 71.0% ≥ 70.0%, 1 to 41.0%"]
    assert view.notes_of(waterfall(top_p=0.2)) == ["top-p: the best has 41.0% ≥ 20.0%"]
    assert view.notes_of(waterfall()) == []


def test_marked_rows_are_pinned_on_the_side_where_they_belong() -> None:
    table = waterfall()
    rows = list(table.rows(0, 7))

    def seen(top: int, *marked: int) -> list[str]:
        shown = view.with_pinned(rows[top : top + 3], [(n, rows[n]) for n in marked], top)
        return [f"{rows.index(row)}{'!' * pinned}" for row, pinned in shown]

    assert seen(2) == seen(2, 3) == ["2", "3", "4"]
    assert seen(2, 0) == ["0!", "3", "4"] and seen(2, 6) == ["2", "3", "6!"]
    assert seen(2, 6, 0) == ["0!", "3", "6!"]
    assert seen(2, 0, 1) == ["0!", "1!", "4"]
    assert seen(2, 2, 0) == ["0!", "2!", "4"], "what the first one covers is pinned, too"
    assert seen(2, 4, 6) == ["2", "4!", "6!"]


def test_only_the_token_that_the_draw_hits_is_called_drawn() -> None:
    table = waterfall()
    assert table.u is not None
    said = [view.where_it_stands(table.row(n), table)[1] for n in range(7)]
    hit = [
        row.interval is not None and row.interval[0] <= table.u < row.interval[1] for row in map(table.row, range(7))
    ]
    assert sum(hit) == 1 and [words.startswith("drawn: ") for words in said] == hit


def test_what_stages_did_to_a_token_is_told() -> None:
    table = waterfall(repeat_penalty=1.5, logit_bias=((2, 2.0),))
    first, last = view.where_it_stands(table.row(1), table)
    assert first.startswith("id 1 · rank 2 of 7 · logit -1.20 · penalty: ")
    assert "2 of the last 3" in first and last.startswith("not drawn: that takes ")
    row = table.row(1)
    names = [column.name for column in table.columns]
    assert [view.moved(row, name) for name in names] == ["", "", "↓"]
    assert [view.moved(table.row(2), name) for name in names] == ["", "↑", ""]
    assert view.where_it_stands(table.row(0), waterfall(temperature=0))[1] == "the best is taken: no draw"


def test_the_bar_of_the_draw_has_its_mark_in_the_interval_of_what_is_picked() -> None:
    for seed in range(40):
        table = waterfall(seed=seed)
        assert table.u is not None
        glyphs = view.draw_bar(table, table.picked, 200)
        assert len(glyphs) == 200
        at = next(index for index, (glyph, _) in enumerate(glyphs) if glyph == "┃")
        assert at == int(table.u * 200)
        interval = table.row(table.picked).interval
        assert interval is not None
        own = [index for index, (_, name) in enumerate(glyphs) if name in ("own", "mark")]
        assert min(own) >= interval[0] * 200 - 1 and max(own) <= interval[1] * 200 + 1
    assert "┃" not in {glyph for glyph, _ in view.draw_bar(waterfall(temperature=0), 0, 20)}


@pytest.mark.parametrize(
    ("typed", "ids"),
    [("i", [0, 2, 4]), ("·p", [0, 1]), ("0xE296", [3]), ("⏎", [5]), ("3", [3]), ("#6", [6]), ("17", [6]), ("1", [1, 6]),
     ("im_end", [4]), ("", []), ("zebra", [])],
)  # fmt: skip
def test_a_search_finds_texts_bytes_and_ids(typed: str, ids: list[int]) -> None:
    assert view.found_by(waterfall(), typed, PIECES) == ids


def test_every_candidate_can_be_reached_in_both_orders() -> None:
    table = waterfall(top_k=3, repeat_penalty=4.0)
    for order in Order:
        assert [table.place(row.id, order) for row in table.rows(0, 99, order)] == list(range(7))


def test_the_arithmetic_of_a_cut_gets_shorter_before_it_goes() -> None:
    table = waterfall(min_p=0.05, top_p=0.95)
    row = table.row(4)
    ways = [view.cut_words(row, table, room) for room in (47, 17, 16, 9, 7)]
    assert ways[1:] == ["✂ top-p 96% ≥ 95%", "✂ 96%≥95%", "✂ 96%≥95%", "✂ top-p"]
    table = waterfall(min_p=0.05)
    assert view.cut_words(table.row(5), table, 13) == "✂ 0.8%<5%×41%"


@pytest.mark.parametrize("width", [46, 78])
def test_the_foot_wraps_and_what_is_said_of_the_candidate_stays_whole(width: int) -> None:
    table = waterfall(typical_p=0.5, repeat_penalty=1.2)
    removed = next(row for row in table.rows(0, 7) if row.removed is not None)
    place, why = view.where_it_stands(removed, table)
    notes = ["a note", "another"]
    for room in range(4, 9):
        lines = view.foot(removed, table, notes, width, room, given=False)
        assert len(lines) <= room and all(line is None or len(line.rstrip()) <= width for line in lines)
        assert "".join(line for line in lines if line is not None).startswith(place + why)
    assert "nearer have" in why and why.endswith("> 50%") and len(why) > 60
    assert None in view.foot(removed, table, notes, width, 6, given=False)
    assert view.foot(removed, table, notes, width, 99, given=False)[-1] == "a note · another"


def test_where_nothing_was_drawn_the_foot_has_no_bar() -> None:
    table = waterfall(top_k=3)
    lines = view.foot(table.row(0), table, [], 46, 6, given=True)
    assert None not in lines and "given, not drawn · stages as they are set now" in lines
    assert lines[-1] == "these settings leave it 47.7%"
