"""What people see of a training, without a terminal and on one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.cli.told import events_of, progress
from tui_chat.cli.training_view import LiveView, PlainView, progress_text
from tui_chat.training.events import CORPUS, GENERATION, MODEL, TRAINING, Event, Progressed, Sampled, StageBegan
from tui_chat.training.presets import PRESETS


class TestViews:
    """What people see."""

    config = PRESETS["tiny"].configure(Path("/trainings/tiny"))

    def test_a_report_has_every_figure(self) -> None:
        assert progress_text(progress(100)).split("  ") == [
            "step 100 of 200",
            "loss 3.000",
            "perplexity 20.1",
            "learning rate 1.00e-03",
            "gradient norm 0.75",
            "1,234 tok/s",
            "10 s left",
        ]

    def live(self, columns: int, lines: int) -> Terminal:
        terminal = Terminal(lines)
        view = LiveView(lambda: os.terminal_size((columns, lines)), terminal.write)
        for event in events_of(self.config):
            view.take(event)
        view.close()
        return terminal

    @pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 50), (40, 16), (20, 10)])
    def test_the_panel_is_drawn_over_itself(self, columns: int, lines: int) -> None:
        terminal = self.live(columns, lines)
        text = "\n".join(terminal.rows)
        assert text.count("200 of 200") == 1
        assert "100 of 200" not in text
        assert text.count("vocabulary") == 1
        assert terminal.widest_panel_row <= columns

    def test_the_panel_shows_figures_curve_and_samples(self) -> None:
        terminal = Terminal(30)
        view = LiveView(lambda: os.terminal_size((100, 30)), terminal.write)
        for event in events_of(self.config)[:9]:
            view.take(event)
        text = "\n".join(terminal.rows)
        for figure in ("loss 1.000", "validation 3.200", "perplexity", "1.00e-03", "1,234 tok/s", "gradient norm 0.75"):
            assert figure in text
        assert "┤" in text and "◆" in text
        assert "In the morning the sea⏎the␛[2J sea" in text
        assert "saved step 200" in text

    def test_a_low_terminal_has_no_curve(self) -> None:
        assert "┤" not in "\n".join(self.live(80, 12).rows)

    def test_the_last_samples_stay(self) -> None:
        assert self.live(80, 24).rows[-1] == "            In the morning Mara lights the oven."

    @pytest.mark.parametrize("columns", [60, 80])
    def test_the_report_is_wrapped_at_words(self, columns: int) -> None:
        terminal = Terminal(24)
        view = LiveView(lambda: os.terminal_size((columns, 24)), terminal.write)
        stages: list[Event] = [
            StageBegan(stage, "a long story of words " * 9) for stage in (CORPUS, MODEL, TRAINING, GENERATION)
        ]
        written = "Mara lights the oven and the village wakes up. " * 5
        for event in (*stages, Sampled(200, "In the morning ", written)):
            view.take(event)
        assert max(map(len, terminal.rows)) < columns
        assert all(row[:12].isspace() or row[11] == " " for row in terminal.rows)
        words = " ".join(row[12:] for row in terminal.rows)
        assert words.count("a long story of words") == 9 * len(stages)
        assert "In the morning " + written.strip() in words and "…" not in words

    def test_a_terminal_that_cannot_draw_is_wrapped_too_and_a_pipe_is_not(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        event = Progressed(progress(100, validation_loss=3.2))
        PlainView(80).take(event)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and all(len(line) <= 80 and line.startswith(" " * 12) for line in lines)
        PlainView().take(event)
        assert capsys.readouterr().out == " " * 12 + progress_text(event.progress) + "\n"

    def test_an_unknown_stage_is_shown_by_its_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        view = PlainView()
        view.take(StageBegan("polishing", "a\x1bb"))
        assert capsys.readouterr().out == "polishing\n            a␛b\n"


class Terminal:
    """As much of a terminal as the panel needs: lines, cursor up, erase to the end."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.rows: list[str] = []
        self.widest_panel_row = 0

    def write(self, text: str) -> None:
        text = re.sub(r"\x1b\[\d*m", "", text)
        if match := re.match(r"\x1b\[(\d+)A\r\x1b\[J", text):
            height = int(match[1])
            assert height <= min(len(self.rows), self.lines - 1)
            self.widest_panel_row = max(self.widest_panel_row, *map(len, self.rows[-height:]))
            del self.rows[-height:]
            text = text[match.end() :]
        assert "\x1b" not in text
        if text:
            assert text.endswith("\n")
            self.rows += text.removesuffix("\n").split("\n")
