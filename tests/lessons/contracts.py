"""The JSON contracts, held against the schemas kept beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from tui_chat.lessons.documents import dump

SCHEMAS = Path(__file__).parent / "schemas"


def check(name: str, document: Mapping[str, object] | str) -> dict[str, Any]:
    """The document, read back from its JSON, if it keeps the contract of the lesson `name`."""
    text = document if isinstance(document, str) else dump(document)
    value: dict[str, Any] = json.loads(text)
    jsonschema.validate(value, json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))
    return value
