"""What is shown of a training while it runs: JSON lines, plain lines, or lines above a panel that is drawn over.

Every view takes the same events. The panel stands at the end of what the terminal shows: whatever is to stay is
printed above it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import click
from rich.cells import cell_len, set_cell_size

from tui_chat.cli.program import terminal_width
from tui_chat.display.cells import hanging, wrapped
from tui_chat.display.curve import draw_curve
from tui_chat.display.figures import rate, span
from tui_chat.display.text import one_line, piece_label
from tui_chat.lessons.documents import finite
from tui_chat.training.events import (
    CORPUS,
    DATA,
    GENERATION,
    MODEL,
    TOKENIZER,
    TRAINING,
    Event,
    Failed,
    Progressed,
    Sampled,
    Saved,
    StageBegan,
)

if TYPE_CHECKING:
    from tui_chat.checkpoints.facts import Progress

STAGES = {
    CORPUS: ("corpus", "what the model learns from"),
    TOKENIZER: ("vocabulary", "pieces of text: neighbours that often meet are merged, again and again"),
    DATA: ("data", "the text as token numbers, in rows; some are kept back to test the model on"),
    MODEL: ("model", "layers that pass what they know from token to token"),
    TRAINING: ("training", "guess each next token, measure the surprise (the loss), change every number a little"),
    GENERATION: ("generation", "given a beginning, the model goes on, token by token"),
}
"""Stage to its name and what happens in it, for people."""

_INDENT = 12
_BEST = ", the best so far"
_BAR_CELLS = 40
_CURVE_LINES = 12
_LEAST_LINES_FOR_CURVE = 18
_MOST_SAMPLES = 5
_MOST_MERGES = 8


class TrainingView(Protocol):
    """Shows a training."""

    def take(self, event: Event) -> None:
        """Show what happened."""

    def close(self) -> None:
        """Leave the screen as it is; nothing more will happen."""


def training_view(*, as_json: bool) -> TrainingView:
    """The view that suits standard output."""
    if as_json:
        return JsonView()
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveView()
    return PlainView(terminal_width())


def report_lines(heading: str, text: str, width: int | None) -> Iterator[str]:
    """A paragraph of the report: its heading, and beside it the text in lines of at most `width` cells in all."""
    for index, line in enumerate(hanging(f"{heading:<{_INDENT}}", text, width)):
        yield click.style(heading, bold=True) + line[len(heading) :] if heading and index == 0 else line


class JsonView:
    """A JSON object a line, the same as in the run's record."""

    def take(self, event: Event) -> None:
        """Print the event."""
        self.document(event.as_json())

    def document(self, values: dict[str, object]) -> None:
        """Print an object; what is not a finite number is null."""
        click.echo(json.dumps(finite(values), ensure_ascii=False, allow_nan=False))

    def close(self) -> None:
        """Nothing is left to do."""


class PlainView:
    """Lines for people that are only ever added to.

    Args:
        width: Cells of a line; None leaves every line whole.
    """

    def __init__(self, width: int | None = None) -> None:
        self._width = width
        self._narrator = _Narrator()

    def take(self, event: Event) -> None:
        """Print what happened as one paragraph or two."""
        for line in self._narrator.lines(event, self._width):
            click.echo(line)
        said = ""
        match event:
            case Progressed():
                said = progress_text(event.progress)
            case Sampled():
                said = f"step {event.step:,}: {one_line(event.prompt)} │{one_line(event.text)}"
            case Saved():
                said = f"saved {one_line(str(event.facts.path))}{_BEST if event.best else ''}"
        if said:
            for line in report_lines("", said, self._width):
                click.echo(line)

    def close(self) -> None:
        """Nothing is left to do."""


class LiveView:
    """Lines for people, above a panel with figures, the loss curve and the newest samples.

    Args:
        size: Gives columns and lines of the terminal.
        write: Prints text as it is.
    """

    def __init__(
        self,
        size: Callable[[], os.terminal_size] = shutil.get_terminal_size,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self._size, self._write = size, write or _to_stdout
        self._narrator = _Narrator()
        self._reports: list[Progress] = []
        self._samples: dict[str, Sampled] = {}
        self._saved = ""
        self._generating = False
        self._drawn = 0

    def take(self, event: Event) -> None:
        """Print what stays, and draw the panel anew."""
        width = self._size().columns - 1
        printed = list(self._narrator.lines(event, width))
        match event:
            case StageBegan():
                self._generating = event.stage == GENERATION
                self._drawn = 0 if self._generating else self._drawn
            case Progressed():
                self._reports.append(event.progress)
            case Sampled() if self._generating:
                printed += _whole_sample(event, width)
            case Sampled():
                self._samples[event.prompt] = event
            case Saved():
                self._saved = f"saved step {event.facts.step:,}{_BEST if event.best else ''}"
        self._draw(printed)

    def close(self) -> None:
        """Leave the panel where it is, as the last that was said."""
        self._drawn = 0

    def _draw(self, printed: list[str]) -> None:
        size = self._size()
        # A panel that is too high for the terminal could not be drawn over: its top would have scrolled away.
        panel = [] if self._generating else list(self._panel(size.columns - 1, size.lines))[: max(0, size.lines - 2)]
        above = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        self._write(above + "".join(line + "\n" for line in [*printed, *panel]))
        self._drawn = len(panel)

    def _panel(self, width: int, height: int) -> Iterator[str]:
        if not self._reports:
            return
        last = self._reports[-1]
        yield ""
        yield _bar(last, width)
        yield from (set_cell_size(line, width).rstrip() for line in _figures(self._reports))
        if height >= _LEAST_LINES_FOR_CURVE:
            losses = [(report.step, report.train_loss) for report in self._reports]
            validation = [(r.step, r.validation_loss) for r in self._reports if r.validation_loss is not None]
            n_lines = min(_CURVE_LINES, height - 6 - min(_MOST_SAMPLES, len(self._samples)))
            yield from draw_curve(losses, width, n_lines, validation, cut_start=True)
            legend = "loss by step" + ("; ◆ on text kept back" if validation else "")
            yield click.style(set_cell_size(legend, width).rstrip(), dim=True)
        yield from (self._sample(sample, width) for sample in list(self._samples.values())[:_MOST_SAMPLES])
        if self._saved:
            yield click.style(set_cell_size(self._saved, width).rstrip(), dim=True)

    def _sample(self, sample: Sampled, width: int) -> str:
        prompt, text = one_line(sample.prompt), one_line(sample.text)
        room = max(0, width - cell_len(prompt))
        if not room:
            return click.style(_cut(prompt, width), dim=True)
        return click.style(prompt, dim=True) + click.style(_cut(text, room), bold=True)


def progress_text(progress: Progress) -> str:
    """All figures of a report in a row."""
    figures = [
        f"step {progress.step:,} of {progress.n_steps:,}",
        f"loss {progress.train_loss:.3f}",
        *([] if progress.validation_loss is None else [f"validation {progress.validation_loss:.3f}"]),
        f"perplexity {progress.perplexity:,.1f}",
        f"learning rate {progress.learning_rate:.2e}",
        f"gradient norm {progress.gradient_norm:.2f}",
        rate(progress.tokens_per_s),
        f"{span(progress.seconds_left)} left" if progress.step < progress.n_steps else span(progress.seconds),
    ]
    return "  ".join(figures)


class _Narrator:
    """Tells what stays on the screen, in every view for people."""

    def __init__(self) -> None:
        self._stage = ""

    def lines(self, event: Event, width: int | None) -> Iterator[str]:
        """The lines for one event, of at most `width` cells; none for what a view shows in its own way."""
        match event:
            case StageBegan():
                if event.stage != self._stage:
                    self._stage = event.stage
                    name, meaning = STAGES.get(event.stage, (event.stage, ""))
                    yield from report_lines(one_line(name), meaning, width)
                if event.text:
                    yield from report_lines("", one_line(event.text), width)
                if merges := event.facts.get("merges"):
                    yield from report_lines("", "first merges: " + _merges(merges[:_MOST_MERGES]), width)
            case Failed():
                yield from report_lines("failed", f"step {event.step:,}: {one_line(event.text)}", width)


def _whole_sample(sample: Sampled, width: int) -> Iterator[str]:
    """A sample in as many lines as it needs."""
    prompt, text = one_line(sample.prompt), one_line(sample.text)
    left = len(prompt)
    for line in wrapped(prompt + text, max(1, width - _INDENT)):
        given, written = line[:left], line[left:]
        left -= len(given)
        begun = click.style(given, dim=True) if given else ""
        yield " " * _INDENT + begun + click.style(written.rstrip(), bold=True)


def _merges(merges: Sequence[Sequence[str]]) -> str:
    return "  ".join("+".join(piece_label(part.encode("utf-8", "replace")) for part in pair) for pair in merges)


def _figures(reports: list[Progress]) -> Iterator[str]:
    last = reports[-1]
    validation = next((r.validation_loss for r in reversed(reports) if r.validation_loss is not None), None)
    done = last.step >= last.n_steps
    yield "   ".join(
        [
            f"loss {last.train_loss:.3f}",
            *([] if validation is None else [f"validation {validation:.3f}"]),
            f"perplexity {last.perplexity:,.1f}",
            f"learning rate {last.learning_rate:.2e}",
        ]
    )
    yield "   ".join(
        [
            rate(last.tokens_per_s),
            f"took {span(last.seconds)}" if done else f"{span(last.seconds_left)} left",
            f"gradient norm {last.gradient_norm:.2f}",
            f"{last.n_tokens:,} tokens",
        ]
    )


def _bar(progress: Progress, width: int) -> str:
    share = progress.step / max(1, progress.n_steps)
    text = f"  step {progress.step:,} of {progress.n_steps:,}"
    cells = max(0, min(_BAR_CELLS, width - len(text)))
    filled = round(min(1.0, share) * cells)
    return "━" * filled + click.style("─" * (cells - filled), dim=True) + set_cell_size(text, width - cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _to_stdout(text: str) -> None:
    click.echo(text, nl=False)
