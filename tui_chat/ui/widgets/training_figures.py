"""The figures of one training: how far, how well, how fast, and which of its checkpoints can be talked to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from textual.reactive import reactive
from textual.strip import Strip

from tui_chat.checkpoints.facts import Progress
from tui_chat.display.cells import gauge
from tui_chat.display.figures import parameters, perplexity_text, rate, span
from tui_chat.display.text import one_line
from tui_chat.ui.draw import Line
from tui_chat.ui.paint import Paint, Painted
from tui_chat.ui.trainings import SeenTraining

_GAP = 3


class TrainingFigures(Painted):
    """Up to five lines of figures."""

    DEFAULT_CSS = """
    TrainingFigures { height: 5; }
    """
    PARTS: ClassVar[Mapping[str, Paint]] = {
        "name": Paint("muted"),
        "value": Paint("foreground"),
        "loss": Paint("foreground", bold=True),
        "filled": Paint("bar-after"),
        "empty": Paint("line"),
        "problem": Paint("error", bold=True),
        "key": Paint("accent", bold=True),
    }

    seen: reactive[SeenTraining | None] = reactive(None)
    """The training on show."""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        lines = self._lines(width)
        line = lines[y] if y < len(lines) else Line()
        return line.strip(width, self.rich_style)

    def _lines(self, width: int) -> list[Line]:
        seen = self.seen
        if seen is None:
            return []
        last = seen.last
        if last is None:
            return [self._where_it_is(seen, None, width), self._checkpoints(seen, width)]
        losses = [("loss", f"{last.train_loss:.3f}")]
        if seen.measured is not None:
            losses.append(("validation", f"{seen.loss:.3f}"))
        losses.append(("perplexity", perplexity_text(seen.perplexity)))
        speed = [
            ("learning rate", f"{last.learning_rate:.1e}".replace("e-0", "e-")),
            ("gradient", f"{last.gradient_norm:.2f}"),
            ("", rate(last.tokens_per_s)),
        ]
        if seen.n_parameters is not None:
            speed.append(("", f"{parameters(seen.n_parameters)} parameters"))
        figures = self._flow([(*pair, "loss") for pair in losses] + [(*pair, "value") for pair in speed], width)
        shown = figures[: max(1, self.size.height - 2)]
        return [self._where_it_is(seen, last, width), *shown, self._checkpoints(seen, width)]

    def _where_it_is(self, seen: SeenTraining, last: Progress | None, width: int) -> Line:
        name, value = self.part("name"), self.part("value")
        told = seen.told
        if told.state == "failed":
            where = f"failed at step {last.step:,}: " if last is not None else "failed: "
            return Line().add(where + (one_line(told.problem) or "no reason was written"), self.part("problem"), width)
        if last is None:
            stage = one_line(told.stages[-1]) if told.stages else "nothing told yet"
            return Line().add(stage, value, width)
        done = last.step / last.n_steps if last.n_steps else 0.0
        filled, empty = gauge(done, max(4, min(20, width - 52)))
        line = Line().add("step ", name).add(f"{last.step:,}", value).add(f" of {last.n_steps:,} ", name)
        line.add(filled, self.part("filled")).add(empty, self.part("empty")).add(f" {done * 100:.0f}%", value)
        line.space(_GAP)
        if told.state == "running":
            return line.add(_span(last.seconds_left), value).add(" left", name)
        took = "took " if told.state == "finished" else "stopped after "
        return line.add(took, name).add(_span(last.seconds), value)

    def _checkpoints(self, seen: SeenTraining, width: int) -> Line:
        newest, best = seen.run.latest, seen.run.best
        if newest is None:
            waits = "no checkpoint yet" + (": the first one can be talked to" if seen.told.state == "running" else "")
            return Line().add(waits, self.part("name"), width)
        line = Line().add("Enter", self.part("key")).add(" talks to step ", self.part("name"))
        line.add(f"{newest.step:,}", self.part("value"))
        if best is not None and best.step != newest.step:
            line.space(_GAP).add("b", self.part("key")).add(" to the best: step ", self.part("name"))
            line.add(f"{best.step:,}", self.part("value")).add(f", loss {best.loss:.3f}", self.part("name"))
        elif best is not None:
            line.add(", the best so far", self.part("name"))
        return line

    def _flow(self, figures: list[tuple[str, str, str]], width: int) -> list[Line]:
        """Figures (title, text, part) one after the other, on as many lines as they need."""
        lines = [Line()]
        for title, text, part in figures:
            needed = len(title) + bool(title) + len(text)
            if lines[-1].width and lines[-1].width + _GAP + needed > width:
                lines.append(Line())
            line = lines[-1]
            if line.width:
                line.space(_GAP)
            if title:
                line.add(title, self.part("name")).space(1)
            line.add(text, self.part(part))
        return lines


def _span(seconds: float) -> str:
    """A span of time; a dash where the record holds none."""
    return span(max(0.0, seconds)) if math.isfinite(seconds) else "–"
