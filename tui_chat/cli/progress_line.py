"""How far something is, in one line of the terminal that is written over."""

from __future__ import annotations

import os
import sys

import click


def is_dumb() -> bool:
    """Whether the terminal says that it knows no control sequences."""
    return os.environ.get("TERM") == "dumb"


class ProgressLine:
    """One line on stderr that is written over; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._active = sys.stderr is not None and sys.stderr.isatty() and not is_dumb()

    def update(self, text: str) -> None:
        """Show another text."""
        if self._active:
            click.echo(f"\r\x1b[2K{text}", nl=False, err=True)

    def clear(self) -> None:
        """Take the line away."""
        self.update("")
