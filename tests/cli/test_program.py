"""Every way a command can end: its exit status, and one line for whoever ran it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tui_chat import __version__, paths
from tui_chat.cli import group
from tui_chat.cli.group import COMMANDS, GROUPS
from tui_chat.cli.program import one_line, run
from tui_chat.errors import CancelledError, ModelLoadError, PromptTooLongError, UsageError


def tui_chat(*arguments: str, stdin: str | bytes = "", **more: str) -> subprocess.CompletedProcess[bytes]:
    content = stdin.encode() if isinstance(stdin, str) else stdin
    return subprocess.run(
        [sys.executable, "-m", "tui_chat", *arguments],
        input=content,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, **more},
    )


def ends_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit status when a command raises `error`."""

    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(group.LazyGroup, "get_command", lambda *_: failing)
    return run(["doctor"])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("do this instead"), 2, "tui-chat: error: do this instead\n"),
        (ModelLoadError("no memory"), 1, "tui-chat: error: no memory\n"),
        (PromptTooLongError(9, 8), 1, "tui-chat: error: the prompt has 9 tokens but the context holds 8"),
        (CancelledError("stopped"), 130, "tui-chat: error: stopped\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (click.UsageError("No such thing."), 2, "tui-chat: error: no such thing (tui-chat doctor -h shows how)\n"),
        (click.Abort(), 130, ""),
    ],
)
def test_exit_status_and_line(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(error, monkeypatch) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said) if said else err.strip() == ""
    assert err.count("\n") <= 1


def test_an_unexpected_error_is_one_line_and_a_file_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(ZeroDivisionError("first\nsecond"), monkeypatch) == 1
    (log,) = paths.log_dir().iterdir()
    assert capsys.readouterr().err == (
        f"tui-chat: error: unexpected ZeroDivisionError: first second (this is a bug; the details are in {log})\n"
    )
    report = log.read_text(encoding="utf-8")
    assert __version__ in report
    assert "arguments: ['doctor']" in report
    assert "Traceback (most recent call last)" in report


def test_an_unexpected_error_without_a_log_directory_is_still_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file, not a directory")
    assert ends_with(ZeroDivisionError("x"), monkeypatch) == 1
    err = capsys.readouterr().err
    assert err.startswith("tui-chat: error: unexpected ZeroDivisionError: x (this is a bug, at ")
    assert err.endswith(f"no log could be written to {paths.log_dir()})\n")


def test_control_characters_in_an_error_are_shown_not_sent() -> None:
    assert one_line("a\x1b[2J\nb\u202e") == "a\\x1b[2J b\\u202e"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(name: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, flag]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: tui-chat {name}")


def test_help_lists_every_command_in_its_group_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    column = 2 + max(map(len, COMMANDS)) + 2
    for heading, members in GROUPS.items():
        start = lines.index(f"{heading}:") + 1
        assert lines[start : start + len(members)] == [
            f"  {name}".ljust(column) + lazy.summary for name, lazy in members.items()
        ]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tui-chat {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["genrate"], "there is no command 'genrate': did you mean generate? (tui-chat -h shows how)"),
        (["gen"], "there is no command 'gen': did you mean generate?"),
        (["zzz"], "there is no command 'zzz': choose from chat, "),
        (["--nope"], "no such option"),
        (["config", "--temperature", "hot"], "invalid value for '--temperature': 'hot' is not a valid float"),
        (
            ["config", "--temperature", "0,7"],
            "invalid value for '--temperature': '0,7' is not a valid float: write 0.7",
        ),
        (["logits", "-n", "1,000", "x"], "invalid value for '-n': '1,000' is not a valid integer: write 1000"),
        (["config", "--temperature", "101"], "--temperature: inference.temperature must be from 0 to 100, not 101"),
        (["config", "--max-tokens", "0"], "--max-tokens: inference.max_length must be at least 1, not 0"),
        (
            ["config", "--logit-bias", "7"],
            "invalid value for '--logit-bias': '7' must be a token (id, text or /pattern/) ",
        ),
        (["config", "--config", "none.yaml"], "none.yaml: no such settings file"),
        (["chat"], "the app needs a terminal on standard input"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tui-chat: error: {said}")
    assert err.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tui_chat", "config", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


class TestPipedInput:
    """`echo hi | tui-chat` answers on standard output."""

    def test_it_is_answered(self) -> None:
        result = tui_chat("--temperature", "0", "--max-tokens", "8", stdin="Hello!\n")
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout.strip()

    def test_empty_input_is_wrong_use(self) -> None:
        result = tui_chat(stdin=" \n")
        assert result.returncode == 2
        assert result.stderr.startswith(b"tui-chat: error: there is nothing to answer: standard input is empty")

    def test_bytes_that_are_no_text_are_named_with_their_place(self) -> None:
        result = tui_chat(stdin=b"ab\xff")
        assert result.returncode == 2
        assert b"standard input is not UTF-8 text (byte 2 is 0xff)" in result.stderr
