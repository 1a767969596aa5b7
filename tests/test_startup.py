"""Marks are written only when they are asked for, and never get in the way."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from tui_chat import startup


def test_marks_are_lines_of_json_with_seconds_since_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "marks"
    monkeypatch.setenv(startup.MARKS_VARIABLE, str(file))
    monkeypatch.setenv(startup.T0_VARIABLE, repr(time.time() - 100))
    startup.mark("first_frame")
    startup.mark("model_ready")
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["mark"], second["mark"]) == ("first_frame", "model_ready")
    assert 100 <= first["t"] <= second["t"]


def test_without_a_start_time_the_seconds_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "marks"
    monkeypatch.setenv(startup.MARKS_VARIABLE, str(file))
    startup.mark("first_frame")
    assert math.isnan(json.loads(file.read_text())["t"])


def test_nothing_happens_unless_asked_or_when_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    startup.mark("first_frame")
    monkeypatch.setenv(startup.MARKS_VARIABLE, str(tmp_path / "no" / "such" / "directory"))
    startup.mark("first_frame")
    assert not list(tmp_path.iterdir())
