"""Flags become settings, whether they stand before or after the command."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import click
import pytest

from tui_chat.cli.group import COMMANDS, root
from tui_chat.cli.options import SettingOption
from tui_chat.cli.program import run
from tui_chat.config import setting_keys
from tui_chat.config.loading import FLAG_NAMES
from tui_chat.engine.types import SAMPLING_FIELDS


def effective(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, object], dict[str, str]]:
    """Dotted name to value, and to origin, as `config --json` reports them."""
    assert run([*arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    values = {f"{section}.{key}": value for section, keys in report["settings"].items() for key, value in keys.items()}
    return values, report["origins"]


def setting_options() -> list[SettingOption]:
    return [param for param in root.params if isinstance(param, SettingOption)]


def test_every_sampling_setting_has_a_flag() -> None:
    flagged = {setting for option in setting_options() for setting in option.settings}
    assert {f"inference.{name}" for name in SAMPLING_FIELDS} | {"inference.ban"} <= flagged
    assert flagged <= set(setting_keys())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_of_a_command_share_a_name(name: str) -> None:
    """Click would call both with the value of one of them."""
    command = root.get_command(click.Context(root), name)
    assert command is not None
    counted = Counter(param.name for param in command.params)
    assert [param for param, n in counted.items() if n > 1] == []


def test_the_origin_of_a_flag_is_the_flag() -> None:
    for option in setting_options():
        for setting in option.settings:
            assert option.opts[0] == FLAG_NAMES.get(setting, "--" + setting.partition(".")[2].replace("_", "-"))


def test_flags_before_and_after_the_command_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    before = effective(capsys, "--temperature", "0.1", "--stop", "a", "config", "--json")
    after = effective(capsys, "config", "--json", "--temperature", "0.1", "--stop", "a")
    assert before == after
    assert before[0]["inference.temperature"] == 0.1
    assert before[1]["inference.temperature"] == "--temperature"
    both, _ = effective(capsys, "--top-k", "1", "config", "--json", "--top-k", "2")
    assert both["inference.top_k"] == 2


def test_what_the_special_forms_mean(capsys: pytest.CaptureFixture[str]) -> None:
    values, origins = effective(
        capsys, "config", "--json", "--logit-bias", "5+1.5", "--logit-bias", "6-inf", "--ban", "7", "--ban", " however",
        "--order", "top-k,temperature", "--stop", "\n\n", "--stop", "END", "--kv-type", "q8_0", "--time-limit", "2",
    )  # fmt: skip
    assert values["inference.logit_bias"] == [[5, 1.5], [6, "-inf"]]
    assert values["inference.ban"] == [7, " however"]
    assert values["inference.order"] == ["top_k", "temperature"]
    assert values["inference.stop"] == ["\n\n", "END"]
    assert (values["llm.type_k"], values["llm.type_v"]) == ("q8_0", "q8_0")
    assert values["inference.time_limit_s"] == 2.0
    assert origins["llm.type_v"] == "--kv-type"


def test_a_settings_file_can_be_named_before_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("inference: {logit_bias: {3: false}}")
    values, origins = effective(capsys, "--config", str(file), "config", "--json")
    assert values["inference.logit_bias"] == [[3, "-inf"]]
    assert origins["inference.logit_bias"] == f"file {file}"


@pytest.mark.parametrize("text", ["5", "5*2", "+5", "5+inf", "5+", "5+1e3", "/a/"])
def test_a_bias_that_does_not_parse(text: str) -> None:
    option = next(option for option in setting_options() if option.name == "logit_bias")
    with pytest.raises(click.BadParameter, match="must be a token"):
        option.type.convert(text, option, None)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("42+1.5", (42, 1.5)),
        ("a+1", ("a", 1.0)),
        (" how-ever-.5", (" how-ever", -0.5)),
        ("/^x+/-inf", ("/^x+/", -math.inf)),
    ],
)
def test_a_bias_is_for_an_id_a_text_or_a_pattern(text: str, meant: tuple[int | str, float]) -> None:
    option = next(option for option in setting_options() if option.name == "logit_bias")
    assert option.type.convert(text, option, None) == meant


def test_a_ban_as_bias_is_minus_infinity() -> None:
    option = next(option for option in setting_options() if option.name == "logit_bias")
    assert option.type.convert("42-inf", option, None) == (42, -math.inf)
