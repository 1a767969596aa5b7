"""Text as it streams: whole characters, stop strings wherever the token borders fall, reasoning apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_chat.engine.decoding import StopStrings, TextStream, split_reasoning


@given(st.text(), st.integers(1, 7))
def test_split_characters_come_out_whole(text: str, size: int) -> None:
    raw = text.encode("utf-8", "replace")
    stream = TextStream()
    parts = [stream.push(raw[i : i + size]) for i in range(0, len(raw), size)]
    assert "".join(parts) + stream.flush() == raw.decode()
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in raw.decode()


def test_bytes_of_a_character_are_held_back() -> None:
    stream = TextStream()
    assert [stream.push(bytes([b])) for b in "é€".encode()] == ["", "é", "", "", "€"]


def test_a_character_cut_off_becomes_a_replacement() -> None:
    stream = TextStream()
    assert stream.push(b"a\xe2\x82") == "a"
    assert stream.flush() == "\ufffd"


def test_bytes_that_are_never_utf8_do_not_hold_up_what_follows() -> None:
    assert TextStream().push(b"\xff\xfeok") == "\ufffd\ufffdok"


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_stop_strings_cut_at_the_same_place_however_the_text_is_split(text: str, stops: list[str], size: int) -> None:
    finder = StopStrings(stops)
    shown, stopped = "", False
    for i in range(0, len(text), size):
        part, stopped = finder.push(text[i : i + size])
        shown += part
        if stopped:
            break
    if not stopped:
        shown += finder.flush()
    # The first stop string to be complete ends the text; where several complete in one piece, the leftmost start.
    seen = text[: i + size] if text else ""
    found = [seen.find(stop) for stop in stops if stop in seen]
    assert stopped == bool(found)
    assert shown == (seen[: min(found)] if found else text)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    finder = StopStrings(["\n\n", "END"])
    assert finder.push("one\n") == ("one", False)
    assert finder.push("two E") == ("\ntwo ", False)
    assert finder.push("N") == ("", False)
    assert finder.push("Dless") == ("", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", ("", "plain")),
        ("<think>why</think>\n\nso", ("why", "so")),
        ("\n<think>\nstill going", ("still going", "")),
        ("opened by the template</think>answer", ("opened by the template", "answer")),
        ("<think>\n\n</think>\n\nanswer", ("", "answer")),
        ("a < think", ("", "a < think")),
    ],
)
def test_reasoning_is_set_apart(text: str, expected: tuple[str, str]) -> None:
    assert split_reasoning(text) == expected
