"""What the commands that demonstrate something share: run it on a model, print its report."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from tui_chat.cli.inference import LoadedModel, find_model
from tui_chat.cli.progress_line import ProgressLine, is_dumb
from tui_chat.lessons.documents import dump
from tui_chat.lessons.drawing import draw
from tui_chat.lessons.report import Line, Report, Tone
from tui_chat.lessons.watch import Watch

if TYPE_CHECKING:
    from tui_chat.config import LoadedSettings
    from tui_chat.engine.engine import Engine

_WIDTH = 100
"""Cells of a line where nothing says them, and the most in any case: longer lines are hard to read."""

_STYLES: dict[Tone, dict[str, object]] = {
    Tone.STRONG: {"bold": True},
    Tone.DIM: {"dim": True},
    Tone.ACCENT: {"fg": "cyan"},
    Tone.GOOD: {"fg": "green"},
    Tone.WARN: {"fg": "yellow"},
    Tone.BAD: {"fg": "red"},
    Tone.CONTROL: {"fg": "magenta"},
    Tone.ODD: {"underline": True},
    Tone.HEAT_1: {"fg": "green"},
    Tone.HEAT_2: {"fg": "yellow"},
    Tone.HEAT_3: {"fg": "red"},
    Tone.HEAT_4: {"fg": "red", "reverse": True},
}


def on_model(
    loaded: LoadedSettings,
    model: str | None,
    lesson: Callable[[Engine, Watch], Report],
    *,
    on_report: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Run a demonstration on the model a command was asked for; Ctrl+C stops it.

    Args:
        loaded: The effective settings.
        model: What `--model` says.
        lesson: The demonstration.
        on_report: Takes what there is while it runs, on the engine thread.

    Raises:
        TuiChatError: What the model or the demonstration ran into.
    """
    progress = ProgressLine()
    watch = Watch(on_report, progress.update)
    with LoadedModel(find_model(loaded, model), loaded.settings) as llm:
        try:
            return llm.run(lambda engine: lesson(engine, watch))
        except KeyboardInterrupt:
            watch.cancel.set()
            raise
        finally:
            progress.clear()


def show(report: Report, *, as_json: bool) -> None:
    """Print a report for people, or its document."""
    if as_json:
        click.echo(dump(report.document))
        return
    for line in draw(report.blocks, width()):
        click.echo(painted(line))


def width() -> int:
    """Cells of a line of output; `COLUMNS` says them where it is no terminal, too."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return _WIDTH
    return min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)


def painted(line: Line) -> str:
    """A line with its tones where standard output shows them, and as it is elsewhere."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or is_dumb():
        return "".join(span.text for span in line).rstrip()
    return "".join(click.style(span.text, **_STYLES.get(span.tone, {})) for span in line)  # type: ignore[arg-type]
