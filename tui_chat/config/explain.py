"""What is wrong with a settings value, in one sentence that says what to write instead."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from tui_chat.config.models import SECTIONS, setting_keys

_EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "dict_type": "a mapping of names to values",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "is_instance_of": "a path",
    "model_attributes_type": "a section with settings below it",
    "model_type": "a section with settings below it",
    "path_type": "a path",
    "string_type": "text",
    "too_long": "a pair of a token id and a bias",
    "missing": "a pair of a token id and a bias",
    "tuple_type": "a list",
}

_BOUNDS: Mapping[str, str] = {
    "greater_than": "must be greater than",
    "greater_than_equal": "must be at least",
    "less_than": "must be less than",
    "less_than_equal": "must be at most",
}

_OTHER_NAMES: Mapping[str, str] = {
    "context_length": "llm.n_ctx",
    "ctx_size": "llm.n_ctx",
    "gpu_layers": "llm.n_gpu_layers",
    "kv_type": "llm.type_k and llm.type_v",
    "max_new_tokens": "inference.max_length",
    "max_tokens": "inference.max_length",
    "model": "llm.path",
    "model_path": "llm.path",
    "n_predict": "inference.max_length",
    "repetition_penalty": "inference.repeat_penalty",
    "revision": "llm.branch",
    "system_prompt": "inference.system",
    "temp": "inference.temperature",
    "threads": "llm.n_threads",
    "typical": "inference.typical_p",
}
"""Names other programs use for settings of ours."""


def explain(error: ValidationError) -> list[tuple[str, str]]:
    """The problems of a settings tree.

    Returns:
        (dotted key, sentence without its source) for each, at most one a key.
    """
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        path = item["loc"]
        key = ".".join(str(part) for part in path[:2])
        found.setdefault(key, _sentence(key, path, item["type"], item["input"], item.get("ctx", {})))
    return list(found.items())


def unknown_key(key: str) -> str:
    """A sentence about a setting or section that does not exist, with what was probably meant."""
    section, _, name = key.partition(".")
    if not name:
        return _unknown_section(section)
    if section not in SECTIONS:
        return _unknown_section(section)
    suggestion = _suggest(name, section)
    if suggestion:
        return f"{key} is not a setting: did you mean {suggestion}?"
    return f"{key} is not a setting: the section {section} has {_listed(tuple(SECTIONS[section].model_fields))}"


def describe(value: object) -> str:
    """A value named by its kind, short enough for a sentence."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() | float():
            return _short(repr(value))
        case str():
            return f"the text {_short(repr(value))}"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case datetime.date():
            return "a date"
    return f"a value of type {type(value).__name__}"


def _unknown_section(name: str) -> str:
    sections = ", ".join(SECTIONS)
    inside = [key for key in setting_keys() if key.partition(".")[2] == name]
    if inside:
        return f"{name} stands outside its section: write it below '{inside[0].partition('.')[0]}:'"
    near = difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.6)
    if near:
        return f"{name} is not a section: did you mean {near[0]}?"
    if name in _OTHER_NAMES:
        return f"{name} is not a section: did you mean {_OTHER_NAMES[name]}?"
    return f"{_short(name)} is not a section: choose from {sections}"


def _suggest(name: str, section: str) -> str | None:
    plain = name.strip().lower().replace("-", "_")
    own = tuple(SECTIONS[section].model_fields)
    if plain in own:
        return f"{section}.{plain}"
    for other, model in SECTIONS.items():
        if plain in model.model_fields:
            return f"{other}.{plain}"
    if plain in _OTHER_NAMES:
        return _OTHER_NAMES[plain]
    near = difflib.get_close_matches(plain, own, n=1, cutoff=0.6)
    if near:
        return f"{section}.{near[0]}"
    everywhere = {key.partition(".")[2]: key for key in setting_keys()}
    near = difflib.get_close_matches(plain, everywhere, n=1, cutoff=0.75)
    return everywhere[near[0]] if near else None


def _sentence(key: str, path: Sequence[int | str], kind: str, value: Any, context: Mapping[str, Any]) -> str:
    if kind == "extra_forbidden":
        return unknown_key(key)
    where = key if len(path) < 3 else f"an entry of {key}"
    if kind == "value_error":
        text = str(context["error"])
        return f"{key} {text}" if text.startswith(("must", "holds", "gives")) else f"{key}: {text}"
    if kind in _BOUNDS:
        return f"{where} {_BOUNDS[kind]} {next(iter(context.values()))}, not {describe(value)}"
    if kind == "literal_error":
        return f"{where} must be {_either(str(context['expected']))}, not {describe(value)}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{where} cannot be {describe(value)}: config.example.yaml shows what it takes"
    if value is None:
        return f"{where} has no value: write {expected}, or remove the line"
    return f"{where} must be {expected}, not {describe(value)}"


def _either(expected: str) -> str:
    return expected.replace("'", "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
