"""A growing report on a terminal: each state takes the place of the one before, and nothing is left at the end."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout

import pytest

from tui_chat.cli import live
from tui_chat.cli.live import LiveReport
from tui_chat.lessons.report import Report, Words


class Terminal(io.StringIO):
    """Standard output that is a terminal, and what would be seen on it."""

    def isatty(self) -> bool:
        return True

    @property
    def seen(self) -> list[str]:
        rows, row = [""], 0
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
            elif part == "\x1b[J":
                del rows[row + 1 :]
                rows[row] = ""
            elif part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part not in ("\r", "\x1b[0m"):
                rows[row] += part
        return rows


def report(*lines: str) -> Report:
    return Report("t", (Words("\n".join(lines)),))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(live, "_INTERVAL_S", 0)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def test_states_replace_each_other(terminal: Terminal) -> None:
    with redirect_stdout(terminal), LiveReport() as shown:
        shown.show(report("one", "two"))
        assert terminal.seen == ["one", "two", ""]
        shown.show(report("three"))
        assert terminal.seen == ["three", ""]
        shown.show(report(*"abcdefg"))
        assert terminal.seen == ["d", "e", "f", "g", ""]
    assert terminal.seen == [""]


def test_states_that_come_too_fast_are_left_out(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_INTERVAL_S", 1e6)
    with redirect_stdout(terminal), LiveReport() as shown:
        shown.show(report("one"))
        shown.show(report("two"))
        assert terminal.seen == ["one", ""]


def test_nothing_is_drawn_for_json_or_where_there_is_no_terminal(terminal: Terminal) -> None:
    pipe = io.StringIO()
    for stream, active in ((terminal, False), (pipe, True)):
        with redirect_stdout(stream), LiveReport(active=active) as shown:
            shown.show(report("one"))
        assert stream.getvalue() == ""


def test_a_terminal_without_control_sequences_is_left_alone(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stdout(terminal), LiveReport() as shown:
        shown.show(report("one"))
        shown.show(report("two"))
    assert terminal.getvalue() == ""
