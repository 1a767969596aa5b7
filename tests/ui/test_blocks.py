"""Streamed Markdown is cut at the ends of blocks, and nothing is lost on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui_chat.ui.blocks import MAX_TAIL_CHARS, BlockSplitter, tail_content

LINES = st.sampled_from(
    ["word word", "", "```", "```python", "- item", "# head", "    code", "~~~~", "| a | b |", "> q"]
)


@given(st.lists(LINES), st.integers(1, 7))
def test_cutting_loses_nothing_however_the_text_arrives(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    splitter = BlockSplitter()
    done = "".join(splitter.push(text[start : start + size]) for start in range(0, len(text), size))
    assert done + splitter.tail == text
    assert done + splitter.flush() == text
    assert splitter.tail == ""


@given(st.lists(LINES), st.integers(1, 7))
def test_the_cuts_do_not_depend_on_how_the_text_arrives(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    whole, pieces = BlockSplitter(), BlockSplitter()
    at_once = whole.push(text)
    bit_by_bit = "".join(pieces.push(text[start : start + size]) for start in range(0, len(text), size))
    assert at_once == bit_by_bit
    assert whole.in_fence == pieces.in_fence


def test_a_paragraph_ends_at_an_empty_line() -> None:
    splitter = BlockSplitter()
    assert splitter.push("one\ntwo\n") == ""
    assert splitter.push("\nthree") == "one\ntwo\n\n"
    assert splitter.tail == "three"


def test_an_empty_line_in_a_code_block_ends_nothing() -> None:
    splitter = BlockSplitter()
    assert splitter.push("```py\na\n\nb\n") == ""
    assert splitter.push("```\nafter") == "```py\na\n\nb\n```\n"
    assert splitter.tail == "after"


def test_a_long_block_gives_its_whole_lines_early() -> None:
    splitter = BlockSplitter()
    line = "x" * 99 + "\n"
    done = splitter.push(line * 50)
    assert 0 < len(done) <= 5_000
    assert len(splitter.tail) <= MAX_TAIL_CHARS + len(line)


def test_a_long_code_block_knows_that_it_goes_on() -> None:
    splitter = BlockSplitter()
    splitter.push("```\n" + ("x" * 99 + "\n") * 50)
    assert splitter.in_fence
    splitter.push("```\n")
    assert not splitter.in_fence


def test_light_styling_of_the_block_under_way() -> None:
    content = tail_content("# Head\n- a **b** `c`\n*d* 2*3*4", in_fence=False, cursor="▍")
    assert content.plain == "Head\n• a b c\nd 2*3*4▍"
    styled = {content.plain[span.start : span.end]: span.style for span in content.spans}
    assert styled["b"] == "bold"
    assert styled["c"] == "$code"
    assert styled["d"] == "italic"


def test_code_under_way_is_not_styled_inside() -> None:
    content = tail_content("```py\na **b**\n", in_fence=False)
    assert "a **b**" in content.plain
    assert tail_content("a **b**", in_fence=True).plain == "a **b**"
