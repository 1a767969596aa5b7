"""Presets: settings of the sampler chain under one name. Four come along; a user's own are in a YAML file.

A preset sets all of the chain that shapes a distribution (`PRESET_FIELDS`), so that it means the same whatever stood
there before; what it does not name has the program's default. Seed, grammar, biases, bans and limits stay as they are:
they belong to the task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tui_chat import paths
from tui_chat.config.explain import explain, unknown_key
from tui_chat.config.models import InferenceSettings, Settings
from tui_chat.engine.types import SAMPLING_FIELDS
from tui_chat.errors import ConfigError, StorageError, UsageError
from tui_chat.language import N_, _

PRESET_FIELDS: tuple[str, ...] = tuple(
    name for name in SAMPLING_FIELDS if name not in ("seed", "grammar", "logit_bias")
)
"""The settings that a preset sets."""

_DEFAULTS = InferenceSettings()
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_RESERVED = frozenset({"save", "off", "default"})


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings under a name."""

    name: str
    values: Mapping[str, object]
    """Those that differ from the program's defaults."""
    why: str = ""
    """What it is good for, of those that come along; to be translated."""

    def settings(self) -> dict[str, object]:
        """All of `PRESET_FIELDS` as it sets them."""
        return {name: self.values.get(name, getattr(_DEFAULTS, name)) for name in PRESET_FIELDS}

    def holds(self, settings: InferenceSettings) -> bool:
        """Whether the settings are those of the preset."""
        return all(getattr(settings, name) == value for name, value in self.settings().items())


BUILT_IN: tuple[Preset, ...] = (
    Preset(
        "precise",
        {"temperature": 0.2, "top_k": 40, "top_p": 0.9, "min_p": 0.1},
        N_("For facts, sums and code: nearly the best token each time, with a way out of loops that greedy has not."),
    ),
    Preset(
        "balanced",
        {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
        N_("For talking: the temperature chat models are tuned for, with llama.cpp's cuts against odd words."),
    ),
    Preset(
        "creative",
        {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.1},
        N_("For verse and ideas: a hot draw, but only among tokens with a tenth of the best one's probability."),
    ),
    Preset(
        "chaos",
        {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
        N_("To see what temperature does when nothing is cut: words come apart within a line."),
    ),
)
"""The presets that come along."""


def presets_file() -> Path:
    """Where the user's own presets are."""
    return paths.config_dir() / "presets.yaml"


def all_presets() -> dict[str, Preset]:
    """Name to preset, those that come along first.

    Raises:
        ConfigError: The file of the user's own does not hold; names the line.
    """
    return {preset.name: preset for preset in (*BUILT_IN, *_own().values())}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UsageError: There is none.
        ConfigError: The file of the user's own does not hold.
    """
    presets = all_presets()
    if name not in presets:
        raise UsageError(
            _("there is no preset {name}: choose from {names}").format(name=name, names=", ".join(presets))
        )
    return presets[name]


def save_preset(name: str, settings: InferenceSettings) -> Path:
    """Keep the settings as the user's own preset, in place of one of that name; gives the file.

    Raises:
        UsageError: A preset cannot be called so.
        ConfigError: The file does not hold, so that it cannot be added to.
        StorageError: The file cannot be written.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            _("a preset cannot be called {name!r}: use up to 32 small letters, digits and hyphens").format(name=name)
        )
    if any(preset.name == name for preset in BUILT_IN):
        raise UsageError(_("{name} comes along and stays as it is: choose another name").format(name=name))
    import yaml

    differing = {
        field: list(value) if isinstance(value := getattr(settings, field), tuple) else value
        for field in PRESET_FIELDS
        if getattr(settings, field) != getattr(_DEFAULTS, field)
    }
    kept = {preset.name: _plain(preset.values) for preset in _own().values()}
    text = "# Presets of tui-chat: what differs from its defaults, under a name.\n"
    text += yaml.safe_dump({**kept, name: differing}, sort_keys=False, allow_unicode=True)
    path = paths.ensure_dir(presets_file().parent) / presets_file().name
    beside = path.with_suffix(".tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise StorageError(f"the presets cannot be written to {path} ({error.strerror})") from error
    _read.clear()
    return path


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


_read: dict[tuple[Path, int], dict[str, Preset]] = {}
"""What the file held when it was last read, by its time: completion asks at every key."""


def _own() -> dict[str, Preset]:
    path = presets_file()
    try:
        key = path, path.stat().st_mtime_ns
    except OSError:
        return {}
    if key not in _read:
        found = _parse(path)
        _read.clear()
        _read[key] = found
    return _read[key]


def _parse(path: Path) -> dict[str, Preset]:
    from tui_chat.config.yaml_source import read_yaml

    document = read_yaml(path)
    if document.problems:
        raise document.problems[0]
    found = {}
    for name, values in document.data.items():
        source = f"{path}:{document.lines.get(name, 1)}"
        if not _NAME.fullmatch(name) or name in _RESERVED or any(preset.name == name for preset in BUILT_IN):
            raise ConfigError(f"a preset cannot be called {name!r}: choose another name", source=source)
        if not isinstance(values, Mapping):
            raise ConfigError(f"the preset {name} must hold settings, such as 'temperature: 0.5'", source=source)
        for field in values:
            if field not in PRESET_FIELDS:
                line = f"{path}:{document.lines.get(f'{name}.{field}', 1)}"
                known = field in InferenceSettings.model_fields
                reason = f"{field} is not part of a preset" if known else unknown_key(f"inference.{field}")
                raise ConfigError(f"preset {name}: {reason}", source=line)
        try:
            # As a section of the settings, so that a value that does not hold is explained as there.
            settings = Settings.model_validate({"inference": dict(values)}).inference
            settings.model_copy(update={"seed": 0}).sampling_params(0)
        except ValidationError as error:
            key, message = explain(error)[0]
            line = f"{path}:{document.lines.get(key.replace('inference', name, 1), 1)}"
            raise ConfigError(f"preset {name}: {message}", source=line) from error
        except UsageError as error:
            raise ConfigError(f"preset {name}: {error}", source=source) from error
        found[name] = Preset(name, {field: getattr(settings, field) for field in values})
    return found
