"""`tui-chat sample`: the contract, exact small cases, and wrong input."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lessons.contracts import check
from tui_chat.cli.program import run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(["sample", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def document(cli: Run, *arguments: str) -> dict[str, object]:
    status, out, err = cli(*arguments, "--json")
    assert (status, err) == (0, "")
    return check("sample", out)


def test_each_stage_lists_its_survivors_best_first(cli: Run) -> None:
    got = document(
        cli, "--probs", "0.1,0.5,0.3,0.1", "--top-k", "3", "--top-p", "0.7", "--temperature", "0.5", "--seed", "3"
    )
    stages = got["stages"]
    assert isinstance(stages, list)
    assert [(stage["name"], stage["survivors"]) for stage in stages] == [("top_k", 3), ("top_p", 2), ("temperature", 2)]
    assert [c["id"] for c in stages[1]["candidates"]] == [1, 2]
    assert [c["p"] for c in stages[1]["candidates"]] == pytest.approx([0.625, 0.375], abs=1e-6)
    assert [c["p"] for c in stages[2]["candidates"]] == pytest.approx([25 / 34, 9 / 34], abs=1e-6)
    u = got["u"]
    assert isinstance(u, float) and 0 <= u < 1
    assert got["picked"] == (1 if u < 25 / 34 else 2)


def test_only_named_stages_run_and_each_is_reported(cli: Run) -> None:
    got = document(cli, "--probs", "0.6,0.4", "--stages", "temp,top-k", "--top-k", "1")
    assert [(s["name"], s["survivors"]) for s in got["stages"]] == [("temperature", 2), ("top_k", 1)]  # type: ignore[attr-defined]
    assert got["picked"] == 0


def test_without_settings_nothing_is_cut(cli: Run) -> None:
    got = document(cli, "--probs", "1,1,2")
    assert got["stages"] == []
    assert [c["p"] for c in got["start"]] == pytest.approx([0.5, 0.25, 0.25], abs=1e-6)  # type: ignore[attr-defined]


def test_mirostat_takes_the_place_of_truncation(cli: Run) -> None:
    got = document(cli, "--probs", "0.5,0.3,0.1,0.1", "--mirostat", "2", "--mirostat-tau", "1", "--top-k", "1")
    stage = got["stages"][0]  # type: ignore[index]
    assert (stage["name"], stage["survivors"], stage["note"]) == ("mirostat", 2, "mu 2.00 bits")
    assert [c["p"] for c in stage["candidates"]] == pytest.approx([0.625, 0.375], abs=1e-6)


def test_the_temperature_follows_the_entropy(cli: Run) -> None:
    got = document(cli, "--probs", "0.25,0.25,0.25,0.25", "--temperature", "1", "--dynatemp-range", "0.5")
    assert got["stages"][0]["note"] == "temperature 1.500"  # type: ignore[index]


def test_adaptive_p_prefers_what_is_near_its_target(cli: Run) -> None:
    got = document(cli, "--probs", "0.7,0.2,0.1", "--adaptive-target", "0.2")
    assert [c["id"] for c in got["stages"][0]["candidates"]] == [1, 2, 0]  # type: ignore[index]


def test_biases_and_bans_go_by_id(cli: Run) -> None:
    got = document(cli, "--probs", "0.5,0.3,0.2", "--logit-bias", "2+3", "--ban", "0", "--order", "logit-bias")
    stage = got["stages"][0]  # type: ignore[index]
    assert [c["id"] for c in stage["candidates"]] == [2, 1]


def test_greedy_has_no_draw(cli: Run) -> None:
    got = document(cli, "--probs", "0.2,0.8", "--temperature", "0")
    assert (got["u"], got["picked"]) == (None, 1)


def test_penalties_look_at_the_last_tokens(cli: Run) -> None:
    got = document(
        cli, "--probs", "0.5,0.5", "--presence-penalty", "1", "--last-tokens", "0,0", "--stages", "penalties"
    )
    first, second = got["stages"][0]["candidates"]  # type: ignore[index]
    assert first["id"] == 1
    assert first["logit"] - second["logit"] == pytest.approx(1, abs=1e-6)


def test_logits_from_a_file_in_three_forms(cli: Run, tmp_path: Path) -> None:
    for text in ("[1.0, null, 0.0]", '{"logits": [1, null, 0]}', "1.0\n-inf\n0.0\n"):
        path = tmp_path / "logits"
        path.write_text(text)
        got = document(cli, "--logits", str(path), "--min-p", "0.9")
        assert [c["id"] for c in got["start"]] == [0, 2]  # type: ignore[attr-defined]
        assert got["stages"][0]["survivors"] == 1  # type: ignore[index]


def test_a_banned_token_is_gone(cli: Run) -> None:
    got = document(cli, "--probs", "0.9,0.1", "--ban", "0")
    assert got["picked"] == 1
    assert got["stages"][0] == {  # type: ignore[index]
        "name": "logit_bias",
        "survivors": 1,
        "candidates": [{"id": 1, "logit": pytest.approx(math.log(0.1), abs=1e-6), "p": 1.0}],
    }


def test_people_are_told_what_a_stage_did_besides(cli: Run) -> None:
    chain = ("--top-k", "1", "--ban", "0", "--order", "top_k,logit_bias")
    _, out, _ = cli("--probs", "0.9,0.1", *chain)
    assert "logit_bias: 1 left · it would have removed every candidate: the best one stays" in out
    _, out, _ = cli("--probs", "0.5,0.3,0.2", "--stages", "top_k,mirostat", "--top-k", "1", "--mirostat", "2")
    assert "top_k: 3 left · mirostat acts in its place" in out and "mirostat: 3 left · mu 10.00" in out
    _, out, _ = cli("--probs", "0.5,0.3,0.2", "--temperature", "1", "--dynatemp-range", "0.5")
    assert "left · temperature 1.4" in out


def test_people_get_bars_and_the_pick(cli: Run) -> None:
    status, out, _ = cli("--probs", "0.7,0.3", "--top-k", "1")
    assert status == 0
    assert "top_k: 1 left" in out and "picked 0" in out and "█" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--probs or --logits"),
        (("--probs", "0.5", "--logits", "x"), "--probs or --logits"),
        (("--probs", "0.5,x"), "'x' is not a number"),
        (("--probs", "0.5,-1"), "token 1"),
        (("--probs", "0,0"), "nothing to draw"),
        (("--probs", "nan"), "token 0"),
        (("--logits", "/no/such/file"), "cannot be read"),
        (("--probs", "1,1", "--temperature", "-1"), "temperature must be from 0"),
        (("--probs", "1,1", "--stages", "magic"), "unknown sampling stage 'magic'"),
        (("--probs", "1,1", "--last-tokens", "5"), "token 5"),
        (("--probs", "1,1", "--last-tokens", "a"), "token ids"),
        (("--probs", "1,1", "--ban", "word"), "name it by id"),
        (("--probs", "1,1", "--grammar", "json"), "--grammar is about texts"),
        (("--probs", "1,1", "--json-schema", "{}"), "--json-schema is about texts"),
        (("--probs", "1,1", "--mirostat", "3"), "mirostat must be from 0 to 2"),
        (("--probs", "1,1", "--ban", "0", "--logit-bias", "0+1"), "banned by 0 and biased by 0"),
        (("--probs", "1,1", "--mirostat", "1", "--order", "top-k"), "mirostat is set, but the order"),
        (("--probs", "1,1", "--ban", "0", "--ban", "1"), "banned"),
        (("--probs", "1,1", "--ban", "7"), "token 7"),
    ],
)
def test_wrong_input_is_one_clear_line(cli: Run, arguments: tuple[str, ...], says: str) -> None:
    status, out, err = cli(*arguments)
    assert status == 2
    assert out == ""
    assert says in err and err.count("\n") == 1 and err.startswith("tui-chat: error: ")


@pytest.mark.parametrize("text", ["[1, 2", '{"a": 1}', "[]", '["x"]', "[1e999]"])
def test_a_bad_logits_file_is_named(cli: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    status, _, err = cli("--logits", str(path))
    assert status == 2
    assert str(path) in err
