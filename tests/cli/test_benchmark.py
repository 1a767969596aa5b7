"""`tui-chat benchmark`: the contract, the same figures for people, and wrong use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.lessons import benchmark


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_SLICE_S", 0)
    monkeypatch.setattr(benchmark, "_PROMPT", 16)


def test_json_holds_what_the_contract_names(noise_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", "--tokens", "24", "--n-ctx", "256", "--model", str(noise_path), "--json"]) == 0
    out, err = capsys.readouterr()
    got = check("benchmark", out)
    assert err == "" and got["tokens"] == 24 and got["prefill_tokens"] == 16
    assert got["rss_bytes"] == got["model_bytes"] + got["kv_bytes"] + got["memory_above_bytes"]


def test_people_get_a_table(noise_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", "--tokens", "24", "--n-ctx", "256", "--model", str(noise_path)]) == 0
    out = capsys.readouterr().out
    assert "decode, bare loop" in out and "of the bare loop" in out and "prefill 16" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tokens", "1"), "1"),
        (("--as", "huge"), "there is no geometry 'huge'"),
        (("--as", "huge", "--model", "builtin"), "use one of them"),
    ],
)
def test_wrong_use_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    assert run(["benchmark", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1
