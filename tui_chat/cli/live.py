"""A report on a terminal while it is made: drawn over and over in the same place."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Self

import click

from tui_chat.cli.lessons import painted, width
from tui_chat.cli.progress_line import is_dumb
from tui_chat.lessons.drawing import draw
from tui_chat.lessons.report import Report

_INTERVAL_S = 1 / 15
"""Time between two states."""


class LiveReport:
    """Shows a growing report on standard output, and takes it away when the `with` block ends.

    Where standard output is no terminal, or one that knows no control sequences, it shows nothing.

    Args:
        active: False shows nothing anywhere.
    """

    def __init__(self, *, active: bool = True) -> None:
        self._active = active and sys.stdout is not None and sys.stdout.isatty() and not is_dumb()
        self._n_lines = 0
        self._shown_at = -_INTERVAL_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._n_lines:
            self._write([])

    def show(self, report: Report) -> None:
        """Draw a state in place of the one before; its last lines where it is longer than the terminal."""
        now = time.monotonic()
        if not self._active or now - self._shown_at < _INTERVAL_S:
            return
        self._shown_at = now
        room = max(1, shutil.get_terminal_size().lines - 1)
        self._write([painted(line) for line in draw(report.blocks, width())][-room:])

    def _write(self, lines: list[str]) -> None:
        back = f"\x1b[{self._n_lines}A" if self._n_lines else ""
        click.echo(f"\r{back}\x1b[J" + "".join(f"{line}\n" for line in lines), nl=False)
        sys.stdout.flush()
        self._n_lines = len(lines)
