"""`tui-chat doctor`: facts about this machine, and what keeps the program from working."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.models.cached import put_into_cache
from tui_chat import __version__
from tui_chat.cli import doctor, machine, startup_timing
from tui_chat.cli.program import run
from tui_chat.cli.startup_timing import StartupTiming, measure_startup, summarise
from tui_chat.errors import TuiChatError


def report_of(capsys: pytest.CaptureFixture[str], status: int = 0) -> doctor.Report:
    assert run(["doctor", "--json"]) == status
    report: doctor.Report = json.loads(capsys.readouterr().out)
    return report


def test_json_holds_the_facts_of_this_machine(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys)
    assert report["program"]["version"] == __version__
    assert report["program"]["executable"] == sys.executable
    assert report["packages"]["llama-cpp-python"] == report["llama_cpp"]["llama_cpp_python"]
    assert any(device["type"] == "CPU" for device in report["llama_cpp"]["devices"])
    assert report["builtin_model"]["size_bytes"] > 0
    assert [place["name"] for place in report["paths"]] == ["settings", "data", "cache", "log"]
    assert all(Path(place["path"]).is_relative_to(home) and place["writable"] for place in report["paths"])
    assert report["terminal"]["colors"] == 2**24
    assert report["terminal"]["output_is_terminal"] is False
    assert report["problems"] == []
    assert not home.exists()


def test_the_page_for_people_names_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    for title in ("program", "packages", "llama.cpp", "built-in model", "directories", "terminal"):
        assert f"{title}\n" in out
    assert "✓ everything the program needs is there" in out


def test_a_broken_llama_cpp_is_a_problem_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tui_chat.engine.llama", None)
    report = report_of(capsys, status=1)
    (problem,) = report["problems"]
    assert problem.startswith("llama.cpp cannot be loaded (")
    assert problem.endswith("install llama-cpp-python again")
    assert run(["doctor"]) == 1
    assert f"✗ {problem}" in capsys.readouterr().out


def test_a_missing_package_and_a_missing_model_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "_PACKAGES", (*machine._PACKAGES, "no-such-package"))
    monkeypatch.setattr("tui_chat.models.resolve.builtin_path", lambda: tmp_path / "none.gguf")
    report = report_of(capsys, status=1)
    assert report["problems"] == [
        "the package no-such-package is not installed: install tui-chat again",
        f"the built-in model is not at {tmp_path / 'none.gguf'}: install tui-chat again",
    ]


def test_a_directory_that_cannot_be_written_is_noted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("a file where the directory should be")
    report = report_of(capsys)
    assert len(report["notes"]) == 4
    assert report["notes"][1] == (
        f"the data directory {home / 'data'} cannot be written: "
        "change its permissions, or set TUI_CHAT_HOME to a directory you can write"
    )


def test_the_configured_tokenizer_is_compared_if_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("TUI_CHAT_TOKENIZER__REPO", "o/t")
    monkeypatch.setenv("TUI_CHAT_TOKENIZER__FILE", "tokenizer.json")
    tokenizer = report_of(capsys)["tokenizer"]
    assert tokenizer["equal"] is None
    assert "not in the cache yet" in tokenizer["result"]
    text = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}})
    put_into_cache(monkeypatch, tmp_path / "cache", "o/t", "tokenizer.json", text)
    tokenizer = report_of(capsys)["tokenizer"]
    assert tokenizer["equal"] is False
    assert "the tokenizers differ from token 0" in tokenizer["result"]
    assert run(["doctor"]) == 0
    assert tokenizer["result"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("term", "colorterm", "colors"),
    [
        ("xterm-256color", "truecolor", 2**24),
        ("xterm-direct", "", 2**24),
        ("xterm-256color", "", 256),
        ("dumb", "", 0),
        ("", "", 0),
        ("no-such-terminal-256color", "", 256),
        ("no-such-terminal", "", 8),
    ],
)
def test_colours_of_a_terminal(term: str, colorterm: str, colors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", colorterm)
    assert machine.terminal_facts()["colors"] == colors


def test_features_are_those_llama_cpp_says_are_there() -> None:
    assert machine._features("CPU : SSE3 = 1 | AVX512 = 0 | AVX2 = 1 | ") == ["SSE3", "AVX2"]


class TestStartup:
    """The app is started for real, on a terminal of its own."""

    def test_a_start_is_timed(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["doctor", "--startup", "--runs", "1", "--json"]) == 0
        timing = json.loads(capsys.readouterr().out)["startup"]
        assert 0 < timing["first_frame_s"] <= timing["model_ready_s"]
        assert timing["quit_s"] > 0
        assert len(timing["runs"]) == 1
        assert not home.exists()

    def test_the_summary_is_the_median_of_each_figure(self) -> None:
        timings = [StartupTiming(1, 9, 2), StartupTiming(3, 5, 1), StartupTiming(2, 7, 9)]
        assert summarise(timings) == StartupTiming(2, 7, 2)

    def test_an_app_that_ends_by_itself_is_an_error_with_its_last_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(startup_timing, "COMMAND", (sys.executable, "-c", "raise SystemExit('no way')"))
        with pytest.raises(TuiChatError, match="the app ended by itself with status 1: no way"):
            measure_startup(1)

    def test_an_app_that_reports_nothing_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(startup_timing, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
        with pytest.raises(TuiChatError, match=r"did not report first_frame within 0\.5 s"):
            measure_startup(1, timeout_s=0.5)
