"""Reading a settings file: strict YAML with the line of every key.

Scalars follow YAML 1.2: `on` and `yes` are text, `1e-3` is a number, `010` is ten. A key that stands twice is an error
instead of the later one winning in silence.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tui_chat.errors import ConfigError

MAX_BYTES = 1 << 20
"""A settings file larger than this is taken for something else."""


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a settings file says, and where."""

    data: Mapping[str, object]
    """The top-level mapping; keys that are not text have become text."""
    lines: Mapping[str, int]
    """Dotted name of each key of the first two levels to its line, from 1."""
    problems: tuple[ConfigError, ...]
    """Keys that stand twice."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave the merge key of YAML 1.1 alone: in 1.2 it is a key like any other."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    try:
        return int(text, base)
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, "the number is too long", node.start_mark) from error


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).replace(".inf", "inf").replace(".nan", "nan").lower())


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse_scalar(text: str) -> object:
    """The value a line of YAML would give, for settings written in an environment variable.

    Raises:
        ConfigError: `text` is not YAML; without a source, which the caller knows.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"is not a value in YAML: {_say(error)}") from error


def read_yaml(path: Path) -> YamlDocument:
    """Read a settings file.

    Raises:
        ConfigError: The file is missing, unreadable, not YAML, or not a mapping at the top.
    """
    text = _read_text(path)
    try:
        return _parse(text, path)
    except yaml.YAMLError as error:
        raise ConfigError(f"this is not valid YAML: {_say(error)}", source=f"{path}{_place(error)}") from error
    except RecursionError as error:
        raise ConfigError("is nested too deeply for a settings file", source=str(path)) from error


def _parse(text: str, path: Path) -> YamlDocument:
    loader = _Loader(text)
    root = loader.get_single_node()
    if root is None or _is_null(root):
        return YamlDocument({}, {}, ())
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            "must hold sections with settings below them, such as 'inference:' and then '  temperature: 0.7'",
            source=f"{path}:{root.start_mark.line + 1}",
        )
    doubles = tuple(_doubles(root, path))
    lines = dict(_lines(root))
    data = loader.construct_document(root)
    return YamlDocument({str(key): value for key, value in data.items()}, lines, doubles)


def _read_text(path: Path) -> str:
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError("no such settings file: check the path", source=source) from error
    except IsADirectoryError as error:
        raise ConfigError("this is a directory: name a YAML file in it", source=source) from error
    except OSError as error:
        raise ConfigError(
            f"the settings file cannot be read ({error.strerror}): change its permissions or name another",
            source=source,
        ) from error
    except ValueError as error:
        raise ConfigError("this is not a path", source=source) from error
    if len(content) > MAX_BYTES:
        raise ConfigError("this is larger than 1 MiB, so hardly a settings file: name another", source=source)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"this is not UTF-8 text (byte {error.start} is 0x{content[error.start]:02x}): save it as UTF-8",
            source=source,
        ) from error


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _entries(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            yield key.value, key, value


def _lines(root: yaml.MappingNode) -> Iterator[tuple[str, int]]:
    for section, key, value in _entries(root):
        yield section, key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            for name, inner, _ in _entries(value):
                yield f"{section}.{name}", inner.start_mark.line + 1


def _doubles(root: yaml.MappingNode, path: Path) -> Iterator[ConfigError]:
    # Aliases make the tree a graph, possibly with cycles: each node is visited once.
    seen: set[int] = set()
    todo: list[tuple[str, yaml.Node]] = [("", root)]
    while todo:
        prefix, node = todo.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo.extend((prefix, item) for item in node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[Hashable, int] = {}
        for name, key, value in _entries(node):
            line = key.start_mark.line + 1
            dotted = f"{prefix}{name}"
            if name in first:
                yield ConfigError(
                    f"{dotted} is set twice, the first time in line {first[name]}: remove one of them",
                    source=f"{path}:{line}",
                    key=dotted,
                )
            first.setdefault(name, line)
            todo.append((f"{dotted}.", value))


def _place(error: yaml.YAMLError) -> str:
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _say(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        parts = (error.context, error.problem)
        return ", ".join(part for part in parts if part) or "it cannot be parsed"
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1} is a control character"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "it cannot be parsed"
