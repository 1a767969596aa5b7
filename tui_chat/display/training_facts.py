"""How a model was trained, as people read it: the facts of a checkpoint, or of a file that was made of one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from tui_chat.display.figures import rate, span

_RATES = ("tokens_per_s", "tokens_per_second")

_DIGITS_OF_A_HASH = 16


def training_facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Gives name and text of every fact; what is not set is left out.

    Args:
        facts: Plain values by name; `settings` may be the JSON text that a GGUF file has in its metadata.
    """
    for name, value in facts.items():
        if value not in (None, "", [], ()):
            yield name, _text(name, _object(value) if name == "settings" else value)


def _object(value: Any) -> Any:
    """What the JSON text of an object says; the value itself where it is none."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return value
    return found if isinstance(found, dict) else value


def _text(name: str, value: Any) -> str:
    match value:
        case dict():
            return " · ".join(f"{member.replace('_', ' ')} {text}" for member, text in _members(value))
        case list() | tuple():
            return ", ".join(f'"{item}"' if isinstance(item, str) else _text("", item) for item in value)
        case bool():
            return "yes" if value else "no"
        case int() | float() if name == "seconds":
            return span(value)
        case int() | float() if name in _RATES:
            return rate(value)
        case float():
            return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"
        case int() if name != "seed":
            return f"{value:,}"
        case str() if name.endswith("sha256"):
            return f"{value[:_DIGITS_OF_A_HASH]}…"
    return str(value)


def _members(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, inner in training_facts(value):
        yield name, f"({inner})" if isinstance(value[name], dict) else inner
