"""What is said about settings that do not hold: one sentence with the source, the key and the remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_chat.config import check_file, load_settings, setting_keys
from tui_chat.config.models import SECTIONS
from tui_chat.errors import ConfigError

CASES = {
    # text of the file: what is said after "FILE:LINE: "
    "inference: {temperature: 200}": "1: inference.temperature must be from 0 to 100, not 200",
    "inference:\n  top_p: 1.5": "2: inference.top_p must be from 0 to 1, not 1.5",
    "inference:\n  top_p: .nan": "2: inference.top_p must be a number, not nan",
    "inference:\n  top_k: 1.5": "2: inference.top_k must be a whole number, not 1.5",
    'inference:\n  top_p: "0.9"': "2: inference.top_p must be a number, not the text '0.9'",
    "inference:\n  top_k: true": "2: inference.top_k must be a whole number, not true",
    "inference:\n  temperature:": "2: inference.temperature has no value: write a number, or remove the line",
    "inference:\n  seed: -1": "2: inference.seed must be from 0 to ",
    "inference:\n  max_length: 0": "2: inference.max_length must be at least 1, not 0",
    "inference:\n  time_limit_s: 0": "2: inference.time_limit_s must be greater than 0",
    "inference:\n  min_confidence: 2": "2: inference.min_confidence must be at most 1",
    "inference:\n  stop: [1]": "2: an entry of inference.stop must be text, not 1",
    "inference:\n  stop: ['']": "2: inference.stop holds an empty text",
    "inference:\n  order: [top_k, foo]": "2: inference.order: unknown sampling stage 'foo'",
    "inference:\n  order: [top_k, top_k]": "2: inference.order: a sampling stage stands twice in the order",
    "inference:\n  ban: [-1]": "2: inference.ban holds -1, which is neither a token id nor the text of a token",
    "inference:\n  ban: [1.5]": "2: inference.ban holds 1.5, which is neither a token id nor the text of a token",
    "inference:\n  logit_bias: {7: hot}": "2: an entry of inference.logit_bias must be a number, not the text 'hot'",
    "inference:\n  logit_bias: {7: .inf}": "2: inference.logit_bias: the bias of token 7 must be a number or -inf",
    "inference:\n  temprature: 1": "2: inference.temprature is not a setting: did you mean inference.temperature?",
    "inference:\n  max_tokens: 1": "2: inference.max_tokens is not a setting: did you mean inference.max_length?",
    "inference:\n  top-k: 1": "2: inference.top-k is not a setting: did you mean inference.top_k?",
    "llm:\n  temperature: 1": "2: llm.temperature is not a setting: did you mean inference.temperature?",
    "ui:\n  zzz: 1": "2: ui.zzz is not a setting: the section ui has theme, educational, language and keys",
    "ui:\n  language: de": "2: ui.language: there is no language 'de': choose from en (English), es (español), pt (",
    "llm:\n  flash_attn: maybe": "2: llm.flash_attn must be auto, on or off, not the text 'maybe'",
    "llm:\n  use_mmap: yes": "2: llm.use_mmap must be true or false, not the text 'yes'",
    "llm:\n  n_ctx: -1": "2: llm.n_ctx must be at least 0, not -1",
    "llm:\n  path: 5": "2: llm.path must be a path, not 5",
    "ui:\n  keys: {stop: 5}": "2: an entry of ui.keys must be text, not 5",
    "ui:\n  keys: [stop]": "2: ui.keys must be a mapping of names to values, not a list",
    "temperature: 1": "1: temperature stands outside its section: write it below 'inference:'",
    "inferense: {}": "1: inferense is not a section: did you mean inference?",
    "model: x": "1: model is not a section: did you mean llm.path?",
    "zzz: {}": "1: zzz is not a section: choose from tokenizer, llm, inference, ui",
    "\n\nllm: 5": "3: llm must be a section with settings below it, not 5",
    "5: {}": "1: 5 is not a section: choose from tokenizer, llm, inference, ui",
    "- a\n- b": "1: must hold sections with settings below them",
    "just text": "1: must hold sections with settings below them",
    "llm:\n  n_ctx: 1\n  n_ctx: 2": "3: llm.n_ctx is set twice, the first time in line 2: remove one of them",
    "llm: {}\nui: {}\nllm: {}": "3: llm is set twice, the first time in line 1: remove one of them",
    "ui:\n  keys:\n    stop: a\n    stop: b": "4: ui.keys.stop is set twice, the first time in line 3",
    "llm:\n\tn_ctx: 1": "2:1: this is not valid YAML: ",
    "llm: [1, 2": "1:11: this is not valid YAML: ",
    "a: 1\n---\nb: 2": "2:1: this is not valid YAML: expected a single document",
    "llm: !!python/object:os.system {}": "1:6: this is not valid YAML: could not determine a constructor",
    "? [a]\n: b": "1:3: this is not valid YAML: ",
    "llm: {n_ctx: " + "9" * 5000 + "}": "1:14: this is not valid YAML: the number is too long",
}


@pytest.mark.parametrize(("content", "said"), CASES.items())
def test_a_setting_that_does_not_hold_is_named_with_its_remedy(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(file=file, env={}, flags={})
    assert str(caught.value).startswith(f"{file}:{said}")
    assert str(check_file(file)[0]) == str(caught.value)


BAD_BYTES = {
    b"llm: \xff\xfe": "this is not UTF-8 text (byte 5 is 0xff): save it as UTF-8",
    b"a: \x00": "this is not valid YAML: character 4 is a control character",
    b"[" * 2_000: "is nested too deeply for a settings file",
    b"#" * (1 << 21): "this is larger than 1 MiB, so hardly a settings file: name another",
}


@pytest.mark.parametrize(("content", "said"), BAD_BYTES.items(), ids=["utf-8", "control", "nested", "large"])
def test_files_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(file=file, env={}, flags={})
    assert str(caught.value) == f"{file}: {said}"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(b"\xef\xbb\xbfllm: {n_ctx: 5}")
    assert load_settings(file=file, env={}, flags={}).settings.llm.n_ctx == 5


def test_a_directory_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a directory: name a YAML file in it"):
        load_settings(file=tmp_path, env={}, flags={})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.touch(mode=0)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\): change its permissions"):
        load_settings(file=file, env={}, flags={})


def test_any_other_failure_to_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\): change its permissions"):
        load_settings(file=tmp_path / "settings.yaml", env={}, flags={})


def test_environment_and_flags_are_named_as_the_source() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(file=None, env={"TUI_CHAT_INFERENCE__TOP_K": "many"}, flags={})
    assert str(caught.value) == (
        "environment variable TUI_CHAT_INFERENCE__TOP_K: inference.top_k must be a whole number, not the text 'many'"
    )
    with pytest.raises(ConfigError, match=r"^--temperature: inference\.temperature must be from 0 to 100, not 101$"):
        load_settings(file=None, env={}, flags={"inference.temperature": 101})
    with pytest.raises(ConfigError, match=r"did you mean inference\.top_k\?"):
        load_settings(file=None, env={"TUI_CHAT_INFERENCE__TOPK": "1"}, flags={})
    with pytest.raises(ConfigError, match=r"inference\.stop is not a value in YAML"):
        load_settings(file=None, env={"TUI_CHAT_INFERENCE__STOP": "[a"}, flags={})


def test_a_wrong_value_is_blamed_on_the_source_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("inference: {top_k: 3}")
    with pytest.raises(ConfigError, match=r"^environment variable TUI_CHAT_INFERENCE__TOP_K: "):
        load_settings(file=file, env={"TUI_CHAT_INFERENCE__TOP_K": "-3"}, flags={})


def test_check_lists_every_problem_in_the_order_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("llm: {n_ctx: -1}\nzzz: 1\ninference:\n  top_k: x\n  top_k: y\nui: 5\n")
    problems = check_file(file)
    assert [problem.source for problem in problems] == [f"{file}:{line}" for line in (1, 2, 5, 5, 6)]
    with pytest.raises(ConfigError, match=rf"\(and 4 more problems; tui-chat config --check {file} lists them\)$"):
        load_settings(file=file, env={}, flags={})


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=6
)
KEYS = st.sampled_from([key.partition(".")[2] for key in setting_keys()]) | st.text(max_size=8)
TREES = st.dictionaries(
    st.sampled_from(list(SECTIONS)) | st.text(max_size=8), VALUES | st.dictionaries(KEYS, VALUES, max_size=4)
)


@given(tree=TREES)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_it_is_settings_or_a_clear_error(tmp_path: Path, tree: dict[str, object]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    problems = check_file(file)
    for problem in problems:
        text = str(problem)
        assert text.startswith(str(file))
        assert len(text) < 1000
        assert not any(word in text for word in ("pydantic", "Input should", "validation error", "Traceback"))
    if not problems:
        load_settings(file=file, env={}, flags={})


@given(content=st.binary(max_size=200) | st.text(alphabet="llminferece:{}[]&*!?-,'\"#|> \n\t0159.~", max_size=60))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_settings_or_a_clear_error(tmp_path: Path, content: bytes | str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for problem in check_file(file):
        assert str(problem).startswith(str(file))
