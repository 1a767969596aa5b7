"""From the four sources to the effective settings, with the origin of every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tui_chat import paths
from tui_chat.config.explain import describe, explain, unknown_key
from tui_chat.config.models import SECTIONS, Settings, setting_keys
from tui_chat.errors import ConfigError

ENV_PREFIX = "TUI_CHAT_"
"""Settings in the environment are named TUI_CHAT_SECTION__KEY."""

FLAG_NAMES: Mapping[str, str] = {
    "inference.dry_allowed_length": "--dry-allowed-length",
    "inference.max_length": "--max-tokens",
    "inference.time_limit_s": "--time-limit",
    "llm.n_threads": "--threads",
    "llm.type_k": "--kv-type",
    "llm.type_v": "--kv-type",
    "ui.language": "--lang",
}
"""Flags that are not simply the setting's own name with dashes."""

_TEXT_SETTINGS = frozenset(
    f"{section}.{key}"
    for section, model in SECTIONS.items()
    for key, field in model.model_fields.items()
    if field.annotation in (str, str | None)
)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings and where each came from."""

    settings: Settings
    origins: Mapping[str, str]
    """Dotted name to `default`, `file PATH`, `env NAME` or `--flag`, for every setting."""
    file: Path | None
    """The settings file that was read, if there is one."""


def load_settings(*, file: Path | None, env: Mapping[str, str], flags: Mapping[str, object]) -> LoadedSettings:
    """Bring the sources together: flags win over the environment, that over the file, that over the defaults.

    Args:
        file: Settings file; None reads the one in the user's configuration directory if it is there.
        env: Environment; only names with a section and two underscores (`TUI_CHAT_LLM__N_CTX`) are looked at.
        flags: Dotted name to value; None means that the flag was not given.

    Raises:
        ConfigError: A source cannot be read, or a setting in it does not hold.
    """
    merged = _Merged()
    found = file if file is not None else _default_file()
    if found is not None:
        _add_file(merged, found)
    _add_environment(merged, env)
    for key, value in flags.items():
        if value is not None:
            flag = FLAG_NAMES.get(key) or "--" + key.partition(".")[2].replace("_", "-")
            merged.put(key, value, origin=flag, source=flag)
    settings = merged.validate()
    if merged.problems:
        raise _first_of(merged.problems, found)
    assert settings is not None
    origins = {key: merged.origins.get(key, "default") for key in setting_keys()}
    return LoadedSettings(settings, origins, found)


def check_file(path: Path) -> tuple[ConfigError, ...]:
    """All problems of a settings file, in the order of their lines; empty when it holds."""
    merged = _Merged()
    try:
        _add_file(merged, path)
    except ConfigError as error:
        return (error,)
    merged.validate()
    return tuple(sorted(merged.problems, key=lambda problem: _line(problem.source or "")))


def parse_setting(key: str, text: str) -> object:
    """The value of one setting that is written as in an environment variable.

    Args:
        key: Dotted name.
        text: YAML, except for settings that are text.

    Raises:
        ConfigError: There is no such setting, or it does not take that value.
    """
    merged = _Merged()
    _add_text(merged, key, text, origin="", source="")
    settings = merged.validate()
    if merged.problems:
        raise merged.problems[0]
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


class _Merged:
    """The raw values of all sources, the strongest of each key, and what was wrong on the way."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self.origins: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.problems: list[ConfigError] = []

    def put(self, key: str, value: object, *, origin: str, source: str) -> None:
        section, _, name = key.partition(".")
        self.values.setdefault(section, {})[name] = value
        self.origins[key] = origin
        self.sources[key] = source

    def complain(self, key: str, message: str, source: str) -> None:
        self.problems.append(ConfigError(message, source=source, key=key))

    def validate(self) -> Settings | None:
        try:
            settings = Settings.model_validate(self.values)
            for name, message in settings.inference.contradictions().items():
                key = f"inference.{name}"
                self.complain(key, f"{key}: {message}", self.sources[key])
            return settings
        except ValidationError as error:
            for key, message in explain(error):
                self.complain(key, message, self.sources[key])
            return None


def _default_file() -> Path | None:
    path = paths.config_file()
    return path if path.exists() else None


def _add_file(merged: _Merged, path: Path) -> None:
    # Only here: parsing YAML costs 25 ms of the start, and most starts have no file.
    from tui_chat.config.yaml_source import read_yaml

    document = read_yaml(path)
    merged.problems.extend(document.problems)
    for section, content in document.data.items():
        source = f"{path}:{document.lines.get(section, 1)}"
        if section not in SECTIONS:
            merged.complain(section, unknown_key(section), source)
        elif isinstance(content, Mapping):
            for name, value in content.items():
                key = f"{section}.{name}"
                source = f"{path}:{document.lines.get(key, document.lines.get(section, 1))}"
                merged.put(key, _beside(path, key, value), origin=f"file {path}", source=source)
        elif content is not None:
            merged.complain(
                section, f"{section} must be a section with settings below it, not {describe(content)}", source
            )


def _beside(file: Path, key: str, value: object) -> object:
    """A relative model path in a file counts from that file, so that it means the same wherever one stands."""
    if key == "llm.path" and isinstance(value, str) and value and "\0" not in value:
        return file.parent.absolute() / Path(value).expanduser()
    return value


def _add_environment(merged: _Merged, env: Mapping[str, str]) -> None:
    for name, key in _named(env):
        _add_text(merged, key, env[name], origin=f"env {name}", source=f"environment variable {name}")


def _add_text(merged: _Merged, key: str, text: str, *, origin: str, source: str) -> None:
    if key not in setting_keys():
        merged.complain(key, unknown_key(key), source)
        return
    value: object = text
    if key not in _TEXT_SETTINGS:
        from tui_chat.config.yaml_source import parse_scalar

        try:
            value = parse_scalar(text)
        except ConfigError as error:
            merged.complain(key, f"{key} {error}", source)
            return
    merged.put(key, value, origin=origin, source=source)


def _named(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(env):
        section, separator, key = name.removeprefix(ENV_PREFIX).partition("__")
        if name.startswith(ENV_PREFIX) and separator:
            yield name, f"{section.lower()}.{key.lower()}"


def _first_of(problems: list[ConfigError], file: Path | None) -> ConfigError:
    first = problems[0]
    more = len(problems) - 1
    if not more:
        return first
    noun = "problem" if more == 1 else "problems"
    remedy = f"; tui-chat config --check {file} lists them" if file else ""
    return ConfigError(f"{first} (and {more} more {noun}{remedy})", key=first.key)


def _line(source: str) -> int:
    line = source.rpartition(":")[2]
    return int(line) if line.isdigit() else 0
