"""`tui-chat config`: what is in force, where it came from, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_chat import paths
from tui_chat.cli.program import run
from tui_chat.config import setting_keys


def test_the_table_shows_value_and_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("inference: {top_k: 7, logit_bias: {3: -inf}, system: 'two\nlines'}")
    monkeypatch.setenv("TUI_CHAT_LLM__N_CTX", "99")
    assert run(["config", "--config", str(file), "--temperature", "0"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert rows["settings"] == ["file", str(file)]
    assert rows["top_k"] == ["7", "file"]
    assert rows["logit_bias"] == ["3:", "-inf", "file"]
    assert rows["system"] == ["two", "lines", "file"]
    assert rows["n_ctx"] == ["99", "env", "TUI_CHAT_LLM__N_CTX"]
    assert rows["temperature"] == ["0.0", "--temperature"]
    assert rows["top_p"] == ["0.95", "default"]
    assert rows["path"] == ["–", "default"]


def test_the_table_says_where_a_file_would_be_read_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"settings file  {paths.config_file()}  (not there: all defaults)"


def test_json_holds_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] is None
    assert tuple(report["origins"]) == setting_keys()
    assert set(report["origins"].values()) == {"default"}
    assert tuple(f"{section}.{key}" for section, keys in report["settings"].items() for key in keys) == setting_keys()


def test_check_of_a_file_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("inference: {top_k: 7}")
    assert run(["config", "--check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: all settings hold\n"
    assert run(["config", "--check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "ok": True, "problems": []}


def test_check_lists_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("inference:\n  top_k: x\n  top_q: 1\nzzz: 1\n")
    assert run(["config", "--check", str(file)]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"{file}:2: inference.top_k must be a whole number, not the text 'x'",
        f"{file}:3: inference.top_q is not a setting: did you mean inference.top_p?",
        f"{file}:4: zzz is not a section: choose from tokenizer, llm, inference, ui",
    ]
    assert run(["config", "--check", str(file), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert [(problem["key"], problem["line"]) for problem in report["problems"]] == [
        ("inference.top_k", 2),
        ("inference.top_q", 3),
        ("zzz", 4),
    ]
    assert report["problems"][0]["message"] == "inference.top_k must be a whole number, not the text 'x'"


def test_check_finds_settings_that_do_not_hold_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("inference:\n  order: [top_k, temperature]\n  mirostat: 2\n  grammar: json\n  json_schema: '{}'\n")
    assert run(["config", "--check", str(file)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{file}:3", "inference.mirostat"],
        [f"{file}:4", "inference.grammar"],
        [f"{file}:5", "inference.json_schema"],
    ]
    assert "the order of the stages leaves it out: add it there" in lines[0]
    assert "both say what an answer must look like" in lines[2]
    file.write_text("inference: {order: [top_k, mirostat], mirostat: 2}")
    assert run(["config", "--check", str(file)]) == 0


def test_check_of_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--check", str(tmp_path / "none.yaml")]) == 2
    assert "no such settings file" in capsys.readouterr().out
