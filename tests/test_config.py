"""Settings from their four sources: which one wins, where each came from, and what the engine gets of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from tui_chat import paths
from tui_chat.config import InferenceSettings, LlmSettings, Settings, check_file, load_settings, setting_keys
from tui_chat.config.loading import FLAG_NAMES
from tui_chat.engine.types import SAMPLING_FIELDS, Limits, LoadOptions, SamplingParams
from tui_chat.errors import ConfigError, SamplingError

EXAMPLE = Path(__file__).parents[1] / "config.example.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def test_defaults_are_those_of_the_engine() -> None:
    settings = load_settings(file=None, env={}, flags={}).settings
    assert settings == Settings()
    assert settings.inference.sampling_params(seed=0) == SamplingParams()
    assert settings.inference.limits() == Limits()
    assert settings.llm.load_options(None) == LoadOptions()


def test_every_sampling_setting_is_there() -> None:
    assert set(SAMPLING_FIELDS) <= set(InferenceSettings.model_fields)


def test_the_usual_short_file_is_valid_as_it_stands(file: Path) -> None:
    file.write_text(
        """
tokenizer:
  repo: some/model
  file: tokenizer.json
  eos_token: "<|im_end|>"
  chat_template: "{{ message }}"
llm:
  repo: some/model-GGUF
  file: model-Q4_K_M.gguf
  branch: main
inference:
  temperature: 1
  top_p: 0.9
  top_k: 50
  max_length: 200
"""
    )
    loaded = load_settings(file=file, env={}, flags={})
    assert loaded.settings.llm.repo == "some/model-GGUF"
    assert loaded.settings.tokenizer.chat_template == "{{ message }}"
    assert loaded.settings.inference.sampling_params(3) == SamplingParams(temperature=1, top_p=0.9, top_k=50, seed=3)
    assert loaded.settings.inference.limits().max_tokens == 200
    assert loaded.file == file


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n", "---\n", "~\n", "llm:\ninference:\n", "{}"])
def test_a_file_without_settings_is_all_defaults(file: Path, content: str) -> None:
    file.write_text(content)
    assert load_settings(file=file, env={}, flags={}).settings == Settings()


def test_flags_win_over_environment_over_file_over_defaults(file: Path) -> None:
    file.write_text("inference: {temperature: 0.1, top_k: 1, top_p: 0.1, max_length: 1}")
    loaded = load_settings(
        file=file,
        env={"TUI_CHAT_INFERENCE__TEMPERATURE": "0.2", "TUI_CHAT_INFERENCE__TOP_K": "2"},
        flags={"inference.temperature": 0.3, "inference.max_length": 3, "inference.min_p": None},
    )
    inference = loaded.settings.inference
    assert (inference.temperature, inference.top_k, inference.top_p, inference.max_length) == (0.3, 2, 0.1, 3)
    assert loaded.origins["inference.temperature"] == "--temperature"
    assert loaded.origins["inference.top_k"] == "env TUI_CHAT_INFERENCE__TOP_K"
    assert loaded.origins["inference.top_p"] == f"file {file}"
    assert loaded.origins["inference.max_length"] == "--max-tokens"
    assert loaded.origins["inference.min_p"] == "default"
    assert tuple(loaded.origins) == setting_keys()


def test_the_file_in_the_configuration_directory_is_read_if_it_is_there() -> None:
    assert load_settings(file=None, env={}, flags={}).file is None
    paths.ensure_dir(paths.config_dir())
    paths.config_file().write_text("ui: {theme: darkroom}")
    loaded = load_settings(file=None, env={}, flags={})
    assert (loaded.settings.ui.theme, loaded.file) == ("darkroom", paths.config_file())


def test_the_environment_speaks_yaml_except_for_text() -> None:
    settings = load_settings(
        file=None,
        env={
            "TUI_CHAT_LLM__USE_MMAP": "false",
            "TUI_CHAT_LLM__FLASH_ATTN": "on",
            "TUI_CHAT_LLM__PATH": "~/model.gguf",
            "TUI_CHAT_INFERENCE__STOP": '["a", "b: c"]',
            "TUI_CHAT_INFERENCE__SYSTEM": "be brief: [always]",
            "TUI_CHAT_INFERENCE__ORDER": "top_k, temperature",
            "TUI_CHAT_INFERENCE__LOGIT_BIAS": "{5: -inf, 7: 1e-3}",
            "TUI_CHAT_UI__KEYS": "{stop: f8}",
            "TUI_CHAT_HOME": "not a setting",
            "OTHER__THING": "not ours",
        },
        flags={},
    ).settings
    assert settings.llm.use_mmap is False
    assert settings.llm.flash_attn == "on"
    assert settings.llm.path == Path.home() / "model.gguf"
    assert settings.inference.stop == ("a", "b: c")
    assert settings.inference.system == "be brief: [always]"
    assert settings.inference.order == ("top_k", "temperature")
    assert settings.inference.logit_bias == ((5, -math.inf), (7, 0.001))
    assert settings.ui.keys == {"stop": "f8"}


def test_scalars_follow_yaml_1_2(file: Path) -> None:
    file.write_text(
        "llm: {flash_attn: off, n_ctx: 010, n_batch: 0x10}\ninference: {min_p: 1e-3, top_p: .5, seed: 0o17}"
    )
    settings = load_settings(file=file, env={}, flags={}).settings
    assert (settings.llm.flash_attn, settings.llm.n_ctx, settings.llm.n_batch) == ("off", 10, 16)
    assert (settings.inference.min_p, settings.inference.top_p, settings.inference.seed) == (0.001, 0.5, 15)


def test_a_relative_model_path_in_a_file_counts_from_the_file(file: Path) -> None:
    file.write_text("llm: {path: models/a.gguf}")
    assert load_settings(file=file, env={}, flags={}).settings.llm.path == file.parent / "models/a.gguf"


def test_bans_become_infinitely_negative_biases() -> None:
    inference = InferenceSettings(ban=(3, " x"), logit_bias=((1, 0.5),))
    params = inference.sampling_params(0, resolve=lambda _text, ban=False: (9, 12))
    assert params.logit_bias == ((1, 0.5), (3, -math.inf), (" x", -math.inf))
    with pytest.raises(SamplingError, match="without a model ' x' is not a token"):
        inference.sampling_params(0)


def test_a_token_cannot_be_banned_and_biased() -> None:
    inference = InferenceSettings(ban=(" x",), logit_bias=((9, 0.5),))
    with pytest.raises(SamplingError, match="token 9 is banned by ' x' and biased by 9"):
        inference.sampling_params(0, resolve=lambda _text, ban=False: (9,))


def test_a_grammar_comes_from_a_name_a_text_or_a_file(tmp_path: Path) -> None:
    text = 'root ::= "yes" | "no"'
    (tmp_path / "answer.gbnf").write_text(text)
    for given in (text, str(tmp_path / "answer.gbnf")):
        assert InferenceSettings(grammar=given).sampling_params(0).grammar == text
    assert "object" in InferenceSettings(grammar="json").sampling_params(0).grammar
    assert "integral-part" in InferenceSettings(json_schema='{"type": "integer"}').sampling_params(0).grammar
    with pytest.raises(SamplingError, match="use one of them"):
        InferenceSettings(grammar="json", json_schema="{}").sampling_params(0)
    with pytest.raises(SamplingError, match="no-such-file: No such file"):
        InferenceSettings(grammar="no-such-file").sampling_params(0)


def test_load_options_carry_every_setting() -> None:
    llm = LlmSettings(
        n_ctx=1, n_batch=2, n_ubatch=7, n_threads=3, n_gpu_layers=4, flash_attn="on", type_k="f32", type_v="q8_0",
        use_mmap=False, use_mlock=True,
    )  # fmt: skip
    assert llm.load_options("<end>") == LoadOptions(
        n_ctx=1, n_batch=2, n_ubatch=7, n_threads=3, n_gpu_layers=4, flash_attn="on", type_k="f32", type_v="q8_0",
        use_mmap=False, use_mlock=True, eos_token="<end>",
    )  # fmt: skip


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().inference.temperature = 1.0  # type: ignore[misc]


def test_flag_names_belong_to_settings() -> None:
    assert FLAG_NAMES.keys() <= set(setting_keys())


class TestExampleFile:
    """config.example.yaml and the models say the same."""

    def test_it_holds(self) -> None:
        assert check_file(EXAMPLE) == ()

    def test_it_names_every_key_and_no_other(self) -> None:
        example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
        assert tuple(f"{section}.{key}" for section, values in example.items() for key in values) == setting_keys()

    def test_its_values_are_the_defaults(self) -> None:
        assert load_settings(file=EXAMPLE, env={}, flags={}).settings == Settings()

    def test_every_key_is_explained(self) -> None:
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
        for section in yaml.safe_load("\n".join(lines)):
            first = lines[lines.index(f"{section}:") + 1]
            assert first.startswith("  # "), f"the section {section} begins without a word about its first key"


def test_a_missing_file_is_an_error_only_when_it_was_named(tmp_path: Path) -> None:
    assert load_settings(file=None, env={}, flags={}).file is None
    with pytest.raises(ConfigError, match="no such settings file"):
        load_settings(file=tmp_path / "none.yaml", env={}, flags={})


def test_the_settings_shown_in_the_readme_hold(tmp_path: Path) -> None:
    readme = (EXAMPLE.parent / "README.md").read_text(encoding="utf-8")
    shown = tmp_path / "readme.yaml"
    shown.write_text(readme.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    assert check_file(shown) == ()
    assert "temperature" in shown.read_text(encoding="utf-8")
