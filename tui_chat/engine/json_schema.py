"""JSON schemas as grammars: llama.cpp's own converter, and errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tui_chat.engine.gbnf import check
from tui_chat.errors import GrammarError


def load_schema(text: str) -> str:
    """The grammar of a JSON schema.

    Args:
        text: The schema, or the name of a file that holds it.

    Raises:
        GrammarError: It cannot be read, is no JSON, or asks for what a grammar cannot say; names line and column.
    """
    if text.lstrip().startswith(("{", "[")) or text.strip() in ("true", "false"):
        return schema_to_gbnf(text, "JSON schema")
    try:
        return schema_to_gbnf(Path(text).expanduser().read_text(encoding="utf-8"), text)
    except OSError as error:
        raise GrammarError(
            f"{error.strerror or error}: give a file, or the schema itself, which begins with {{", source=text
        ) from error
    except UnicodeDecodeError as error:
        raise GrammarError(f"it is not text (byte {error.start})", source=text) from error


@lru_cache(maxsize=16)
def schema_to_gbnf(text: str, source: str = "JSON schema") -> str:
    """The same for the text of a schema; `source` is what to call it in an error."""
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        raise GrammarError(
            f"this is no JSON: {error.msg}", line=error.lineno, column=error.colno, source=source
        ) from error
    except RecursionError as error:
        raise GrammarError("it is nested too deep", source=source) from error
    if not isinstance(schema, dict):
        raise GrammarError('a schema is a JSON object, such as {"type": "object"}', line=1, column=1, source=source)
    try:
        grammar = _convert(schema)
    except _Refused as error:
        line, column = _place(text, (*(_path(schema, error.part) or ()), *error.within))
        raise GrammarError(
            f"this part of the schema cannot be made a grammar: {error}", line=line, column=column, source=source
        ) from error
    try:
        check(grammar, source)
    except GrammarError as error:  # line and column are those of the grammar, which nobody sees
        raise GrammarError(
            f"the schema asks for what a grammar cannot say: in the one made of it, {error.message}",
            line=1,
            column=1,
            source=source,
        ) from error
    return grammar


def _allows_nothing(schema: Mapping[str, Any]) -> str:
    """Why no value is what a part of a schema describes; empty where there is one, as far as can be seen."""
    for name in ("enum", "anyOf", "oneOf", "type"):
        if schema.get(name) == []:
            return f"{name} lists nothing, so no value is allowed"
    for least, most in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
        low, high = schema.get(least), schema.get(most)
        if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
            return f"{least} is {low:g}, {most} only {high:g}, so no value is allowed"
    return ""


_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def _require_types(schema: Mapping[str, Any]) -> None:
    """Refuse a type that JSON does not have: the converter would show the whole part and not say what is wrong."""
    types = schema.get("type")
    for index, name in enumerate(types if isinstance(types, list) else [] if types is None else [types]):
        if name not in _TYPES:
            within = ("type", index) if isinstance(types, list) else ("type",)
            raise _Refused(f"{json.dumps(name)} is no type: choose from {', '.join(_TYPES)}", schema, within)


class _Refused(Exception):  # noqa: N818  # it goes no further than `schema_to_gbnf`
    """The converter has no grammar for a part of a schema.

    Args:
        message: Why.
        part: The innermost part it was looking at, the very object within the schema.
        within: Where in that part the value is that it stumbled over.
    """

    def __init__(self, message: str, part: object, within: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.part, self.within = part, within


def _convert(schema: dict[str, Any]) -> str:
    """GBNF; references to other documents are not followed."""
    from tui_chat.engine.llama import schema_converter  # settings are read before anybody needs llama.cpp

    base: Any = schema_converter()
    part: object = schema

    class Converter(base):  # type: ignore[misc]
        def visit(self, schema: Any, name: str) -> Any:
            nonlocal part
            outer, part = part, schema
            if isinstance(schema, dict) and (why := _allows_nothing(schema)):
                raise ValueError(why)
            if isinstance(schema, dict):
                _require_types(schema)
            rule = super().visit(schema, name)
            part = outer
            return rule

    try:
        converter = Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
        converter.visit(converter.resolve_refs(schema, "schema"), "")
        return str(converter.format_grammar())
    except RecursionError:
        raise _Refused("it is nested too deep", part) from None
    except _Refused:
        raise
    except Exception as error:  # it asserts, and looks up what may not be there
        raise _Refused(str(error).split(": {")[0] or type(error).__name__, part) from error


def _path(value: Any, part: object) -> tuple[str | int, ...] | None:
    """Where `part`, the very object, is in a document."""
    if value is part:
        return ()
    items: Sequence[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        if (found := _path(inner, part)) is not None:
            return (key, *found)
    return None


def _place(text: str, path: Sequence[str | int]) -> tuple[int, int]:
    """Line and column of the value at a path; JSON is YAML, whose parser keeps the places."""
    try:
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return 1, 1
    for key in path:
        if isinstance(node, yaml.MappingNode):
            node = next(value for name, value in node.value if name.value == key)
        else:
            node = node.value[key]
    return node.start_mark.line + 1, node.start_mark.column + 1
