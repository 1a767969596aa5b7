"""`tui-chat generate` and piped text: the contract, reproducibility, wrong input, Ctrl+C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lessons.contracts import check
from tui_chat.cli.generate import _Answer
from tui_chat.cli.program import run
from tui_chat.display.figures import percent
from tui_chat.display.text import piece_label
from tui_chat.engine.types import TokensGenerated

END = 260
"""The token that ends an answer in the vocabulary of bytes."""

LETTER_H = ord("h")
"""Its token in the vocabulary of bytes."""

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], noise_path: Path) -> Cli:
    def call(*arguments: str, model: bool = True) -> tuple[int, str, str]:
        status = run(["generate", *arguments, *(["--model", str(noise_path)] if model else [])])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def document(cli: Cli, *arguments: str) -> dict[str, Any]:
    status, out, err = cli(*arguments, "--json")
    assert (status, err) == (0, "")
    return check("generate", out)


def test_json_holds_what_the_contract_names(cli: Cli) -> None:
    got = document(cli, "the the", "--max-tokens", "5", "--ignore-eos", "--seed", "7")
    assert got["finish_reason"] == "length"
    assert len(got["ids"]) == len(got["tokens"]) == got["usage"]["generated"] == 5
    assert set(got["usage"]) == {"prompt", "reused", "generated"}
    assert set(got["timings"]) >= {"load_s", "prefill_s", "ttft_s", "decode_s", "tokens_per_s"}
    assert got["seed"] == 7
    token = got["tokens"][0]
    assert token["position"] == got["usage"]["prompt"]
    assert token["id"] == got["ids"][0]
    assert bytes.fromhex(token["bytes"]).decode("utf-8", "replace") == token["text"]
    assert token["stages"][:2] == [{"name": "logit_bias", "survivors": 599}, {"name": "top_k", "survivors": 40}]
    assert token["rank"] >= 1 and 0 <= token["u"] < 1
    assert sum(c["p"] for c in token["candidates"]) <= 1 + 1e-9


def test_the_same_seed_gives_the_same_answer(cli: Cli) -> None:
    first, again, other = (
        document(cli, "hello", "--max-tokens", "12", "--ignore-eos", "--seed", seed)["ids"] for seed in ("1", "1", "2")
    )
    assert first == again != other


def test_a_ban_that_could_not_be_kept_is_told(cli: Cli) -> None:
    best = document(cli, "he", "--max-tokens", "1", "--temperature", "0", "--ignore-eos")["ids"][0]
    late = ("he", "--max-tokens", "2", "--top-k", "1", "--ban", str(best), "--ignore-eos")
    order = ("--order", "top_k,logit_bias,temperature")
    status, _, err = cli(*late, *order)
    assert status == 0 and "logit_bias at token 1" in err
    assert "it would have removed every candidate: the best one stays" in err
    _, out, _ = cli(*late, *order, "--trace")
    assert "(logit_bias: it would have removed every candidate" in out
    _, _, err = cli(*late)
    assert "removed" not in err


def test_a_ban_whose_stage_is_left_out_is_told(cli: Cli) -> None:
    status, _, err = cli("he", "--max-tokens", "1", "--ban", "x", "--ignore-eos", "--order", "top_k,temperature")
    assert status == 0 and "the order of the stages leaves out logit_bias" in err and "bans 'x'" not in err
    _, _, err = cli("he", "--max-tokens", "1", "--ban", "x", "--ignore-eos")
    assert "leaves out" not in err and "'x'" in err


def test_an_empty_answer_is_told(cli: Cli) -> None:
    status, out, err = cli("he", "--grammar", 'root ::= ""')
    assert (status, out.strip()) == (0, "") and "the answer is empty: the model ended it at once" in err


def test_raw_continues_the_text_and_chat_wraps_it(cli: Cli) -> None:
    raw = document(cli, "he", "--raw", "--max-tokens", "1")
    chat = document(cli, "he", "--max-tokens", "1")
    with_system = document(cli, "he", "--max-tokens", "1", "--system", "be brief")
    assert raw["usage"]["prompt"] == 1 < chat["usage"]["prompt"] < with_system["usage"]["prompt"]


def test_text_goes_to_stdout_and_the_table_only_when_asked(cli: Cli) -> None:
    status, out, _ = cli("x", "--max-tokens", "4", "--ignore-eos", "--seed", "1", "--trace")
    assert status == 0
    rows = out.splitlines()
    assert len([row for row in rows if row.strip() and row.split()[0].isdigit()]) == 4
    assert "entropy" in out


def test_tokens_are_shown_as_they_come_and_the_answer_behind_them(cli: Cli) -> None:
    arguments = ("x", "--max-tokens", "4", "--ignore-eos", "--seed", "1")
    expected = document(cli, *arguments)
    status, out, err = cli(*arguments, "--show-tokens")
    assert (status, err) == (0, "")
    head, *rows, blank, answer = out.removesuffix("\n").split("\n", 6)
    assert head.split() == ["#", "id", "p", "token"]
    assert [int(row.split()[0]) for row in rows] == [1, 2, 3, 4]
    assert [int(row.split()[1]) for row in rows] == expected["ids"]
    for row, token in zip(rows, expected["tokens"], strict=True):
        assert row.split()[2] == percent(token["p"])
        assert row.endswith("  " + piece_label(bytes.fromhex(token["bytes"])))
    assert (blank, answer.rstrip("\n")) == ("", expected["text"].rstrip("\n"))
    assert document(cli, *arguments, "--show-tokens")["ids"] == expected["ids"]


def test_the_token_that_ends_an_answer_is_shown_too(cli: Cli) -> None:
    status, out, _ = cli("x", "--logit-bias", f"{END}+900", "--show-tokens")
    (row,) = out.rstrip("\n").split("\n")[1:]
    assert (status, row.split()[:2], row.split()[-1]) == (0, ["1", str(END)], "<|im_end|>")


def test_stop_strings_end_the_text_before_them(cli: Cli) -> None:
    got = document(cli, "x", "--logit-bias", f"{LETTER_H}+900", "--stop", "hhh", "--max-tokens", "20")
    assert (got["text"], got["finish_reason"], got["ids"]) == ("", "stop", [LETTER_H] * 3)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("",), 2, "the prompt is empty"),
        (("x", "--temperature", "-1"), 2, "temperature"),
        (("x", "--logit-bias", "\U00013000+1"), 2, "is no token of this model"),
        (("x", "--logit-bias", "600+1"), 2, "token 600"),
        (("x", "--flash-attn", "maybe"), 2, "maybe"),
        (("y" * 6000, "--n-ctx", "256"), 1, "the context holds 256"),
    ],
)
def test_wrong_input_is_one_clear_line(cli: Cli, arguments: tuple[str, ...], status: int, says: str) -> None:
    got, out, err = cli(*arguments)
    assert (got, out) == (status, "")
    assert says in err and err.count("\n") == 1


def test_a_missing_model_is_named(cli: Cli) -> None:
    status, out, err = cli("x", "--model", "/no/such/model.gguf", model=False)
    assert (status, out) == (1, "")
    assert "/no/such" in err and "Traceback" not in err


def test_piped_text_is_answered(
    noise_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Pipe(io.StringIO):
        buffer = io.BytesIO(b"hi\n")

    monkeypatch.setattr(sys, "stdin", Pipe())
    assert run(["--model", str(noise_path), "--max-tokens", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().out.endswith("\n")


def test_ctrl_c_ends_the_answer_with_what_there_is(noise_path: Path) -> None:
    command = [sys.executable, "-m", "tui_chat", "generate", "x", "--model", str(noise_path)]
    limits = ["--max-tokens", "100000000", "--ignore-eos", "--n-ctx", "40000", "--logit-bias", f"{LETTER_H}+900"]
    process = subprocess.Popen([*command, *limits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None and process.stderr is not None
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        assert process.stdout.read(1) == b"h"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        killer.cancel()
    assert process.returncode == 130
    assert set(out) <= set(b"h\n")
    assert b"Traceback" not in err


def test_thinking_is_left_out_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _Answer(stream=True)
    for part in ("<th", "ink>why", "</think>\n\nso", " it is"):
        shown.take(TokensGenerated(1, (), part))
    assert capsys.readouterr().out == "so it is"
    everything = _Answer(stream=True, raw=True)
    everything.take(TokensGenerated(1, (), "<think>why</think>so"))
    assert capsys.readouterr().out == "<think>why</think>so"
