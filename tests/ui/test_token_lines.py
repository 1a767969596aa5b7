"""Tokens in lines and levels: every cell belongs to one token, whatever the pieces and however they come."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.ui.scripted import make_token
from tui_chat.chat.conversation import Message, Role
from tui_chat.engine.types import GeneratedToken
from tui_chat.themes import HEAT_ON_DARK, HEAT_ON_LIGHT, contrast_ratio, load_themes
from tui_chat.ui.finding import find, next_surprising
from tui_chat.ui.tints import MARKS, SCALES, Measure, figure_of, level_of, pace_of
from tui_chat.ui.token_lines import TokenLines, label_parts
from tui_chat.ui.told import given_before, with_figures
from tui_chat.ui.widgets.token_map import sparkline

PIECES = st.one_of(
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b" word", b"ly", b"\n", b" a\nb", b"\n\n", b" ", b"    ", "日本語".encode(), b"\xe2\x96", b""]),
    st.binary(max_size=4),
)


def lines_of(width: int, labels: list[tuple[bytes, str]]) -> TokenLines:
    lines = TokenLines(width)
    lines.extend(labels)
    return lines


@settings(max_examples=2_000, deadline=None)
@given(st.lists(st.tuples(PIECES, st.sampled_from(["", "²"])), max_size=12), st.integers(2, 24), st.integers(0, 12))
def test_every_token_has_cells_of_its_own_and_appending_is_the_same_as_setting_anew(
    labels: list[tuple[bytes, str]], width: int, cut: int
) -> None:
    lines = lines_of(width, labels)
    seen: list[int] = []
    for y, line in enumerate(lines.lines):
        column = 0
        for fragment in line:
            assert fragment.column == column
            assert fragment.width == cell_len(fragment.text) > 0
            assert "\n" not in fragment.text
            assert lines.at(column, y) == fragment.token
            column += fragment.width
            seen.append(fragment.token)
        assert column <= lines.width
    assert sorted(set(seen)) == list(range(len(labels)))
    assert seen == sorted(seen)
    for index, y in enumerate(lines.line_of):
        assert any(fragment.token == index for fragment in lines.lines[y])
    grown = TokenLines(width)
    grown.extend(labels[:cut])
    before = [list(line) for line in grown.lines]
    first = grown.extend(labels[cut:])
    assert grown.lines == lines.lines
    assert grown.line_of == lines.line_of
    assert before[:first] == grown.lines[:first], "what was said to be as it was is so"


def drawn(lines: TokenLines) -> list[str]:
    return ["".join(fragment.text for fragment in line) for line in lines.lines]


def test_lines_break_between_words_and_a_mark_takes_the_place_of_the_space() -> None:
    labels = [(b"The", ""), (b" quick", "³"), (b" un", ""), (b"likely", "¹"), (b".", "")]
    assert drawn(lines_of(40, labels)) == ["The³quick un¹likely."]
    assert drawn(lines_of(15, labels)) == ["The³quick", " un¹likely."]
    long = [(b"a", ""), (b" incredibly", ""), (b"long", "")]
    assert drawn(lines_of(14, long)) == ["a incredibly", "long"], "too much would move"


def test_a_token_of_several_lines_goes_on_behind_its_line_ends() -> None:
    lines = lines_of(20, [(b" one.\n\n    two", ""), (b" three", "")])
    assert drawn(lines) == [" one.⏎", "⏎", "····two three"]
    assert lines.line_of == [0, 2]
    assert lines.nearest(0, 1) == 0


def test_what_would_be_drawn_onto_the_token_before_stands_on_a_circle() -> None:
    assert label_parts("\u0301".encode()) == (False, ("◌\u0301",))


def test_levels_and_figures() -> None:
    tokens = [make_token(index, b" is", p) for index, p in enumerate((0.95, 0.9, 0.6, 0.2, 0.05, 0.001))]
    levels = [level_of(Measure.PROBABILITY, tokens, index, 0) for index in range(6)]
    assert levels == [0, 0, 1, 2, 3, 4]
    assert figure_of(Measure.PROBABILITY, tokens, 2) == "60.0%"
    assert figure_of(Measure.SURPRISAL, tokens, 3) == "1.61"
    assert all(len(scale.bounds) + 1 == len(scale.legend) == len(MARKS) for scale in SCALES.values())
    plain = [GeneratedToken(5, b"x", None)]
    assert [level_of(measure, plain, 0, 1) for measure in Measure] == [None] * 5


def test_time_goes_by_the_median_of_the_message_and_prompts_have_none() -> None:
    times = (0.5, 0.51, 0.52, 0.53, 0.57, 0.58)
    tokens = []
    for index, seconds in enumerate(times):
        token = make_token(index, b" is")
        assert token.trace is not None
        tokens.append(replace(token, trace=replace(token.trace, seconds=seconds)))
    pace = pace_of(tokens)
    assert pace == pytest.approx(0.01)
    assert [level_of(Measure.TIME, tokens, index, pace) for index in range(6)] == [4, 0, 0, 0, 2, 0]
    assert figure_of(Measure.TIME, tokens, 4) == "40 ms"
    read = [replace(token, trace=replace(token.trace, final=(), stages=())) for token in tokens if token.trace]
    assert [level_of(Measure.TIME, read, index, pace_of(read)) for index in range(6)] == [None] * 6


def test_find() -> None:
    tokens = [GeneratedToken(index, piece, None) for index, piece in enumerate((b"The", b" cat", b"s", b" SAT", b""))]
    assert find(tokens, "cats s") == [range(1, 4)]
    assert find(tokens, "s") == [range(2, 3), range(3, 4)]
    assert find(tokens, "#3") == [range(3, 4)]
    assert find(tokens, "dog") == find(tokens, "") == []
    assert find([], "x") == []


def test_next_surprising() -> None:
    tokens = [make_token(index, b" is", p) for index, p in enumerate((0.05, 0.9, 0.09, 0.2, 0.01))]
    assert [next_surprising(tokens, current, 1) for current in (-1, 0, 2, 4)] == [0, 2, 4, None]
    assert [next_surprising(tokens, current, -1) for current in (5, 4, 2, 0)] == [4, 2, 0, None]


def test_the_sparkline_keeps_the_peaks() -> None:
    tokens = [make_token(index, b" is", 0.97) for index in range(1_000)]
    tokens[501] = make_token(501, b" is", 0.0001)
    bars = sparkline(tokens, 40)
    assert len(bars) == 40
    assert [index for index, bar in enumerate(bars) if bar != "▁"] == [20]
    assert bars[20] == "█"
    assert sparkline([], 40) == ""
    assert sparkline([GeneratedToken(1, b"x", None)], 40) == "·"


def spell(token: int) -> bytes:
    return f" w{token}".encode()


def test_what_was_given_is_what_is_new_in_the_prompt() -> None:
    before = Message(role=Role.ASSISTANT, text="", ids=(7, 8), prompt_ids=(1, 2, 3))
    asked = Message(role=Role.USER, text="w21 w22")
    assert given_before((1, 2, 3), asked, None, (), spell).start == 0
    found = given_before((1, 2, 3, 7, 8, 20, 21, 22, 23), asked, before, (7, 8), spell)
    assert found.start == 5
    assert [token.id for token in found.tokens(spell)] == [20, 21, 22, 23]
    dropped = given_before((1, 5, 20, 21, 22, 23), asked, before, (7, 8), spell)
    assert dropped.start == 3, "by its text, where messages were left out"
    assert given_before((1, 5, 20), asked, before, (7, 8), spell).start == 0


def test_figures_go_to_their_tokens_and_to_no_others() -> None:
    tokens = [GeneratedToken(5, b"", None), GeneratedToken(6, b"", None)]
    trace = make_token(0, b" is").trace
    assert trace is not None
    with_figures(tokens, [replace(trace, position=11, id=6), replace(trace, position=10, id=9)], 10)
    assert tokens[0].trace is None
    assert tokens[1].trace is not None


@pytest.mark.parametrize("name", ["tui-chat-dark", "tui-chat-light", "high-contrast", "darkroom"])
def test_the_tints_are_told_apart_by_their_lightness_alone(name: str) -> None:
    theme = load_themes().themes[name]
    grounds = [theme.colors.background, *(tint.background for tint in theme.heat)]
    lightness = [contrast_ratio(ground, "#000000" if theme.dark else "#ffffff") for ground in grounds]
    assert all(after / before > 1.15 for before, after in pairwise(lightness)), lightness


def test_themes_without_these_tints_get_steps_of_cividis() -> None:
    themes = load_themes().themes
    assert themes["tui-chat-dark"].heat == HEAT_ON_DARK
    assert themes["tui-chat-light"].heat == HEAT_ON_LIGHT
