"""The written corpus: the YAML files beside this package, read into frozen values.

Everything the built-in model has ever read comes from these files. They hold questions, answers and tables; the grammar
(`grammar.py`) makes dialogues of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tui_chat.errors import UsageError

CORPUS_DIR = Path(__file__).parent / "corpus"

Phrases = Mapping[str, tuple[str, ...]]
"""Lists of phrases by their name in the file."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Something the model can explain or talk about.

    Small talk has neither names nor follow-ups: its `one`, `many`, `more` and `example` are empty.
    """

    id: str
    ask: tuple[str, ...]
    held_out: tuple[str, ...]
    """Questions kept out of the training, for the evaluation."""
    answers: tuple[str, ...]
    one: tuple[str, ...] = ()
    """Names that stand after "what is"."""
    many: tuple[str, ...] = ()
    """Names that stand after "what are"."""
    more: tuple[str, ...] = ()
    example: tuple[str, ...] = ()
    think: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FactTable:
    """Pairs of a key and a value, and the ways to ask for them."""

    id: str
    ask: tuple[str, ...]
    held_out: tuple[str, ...]
    again: tuple[str, ...]
    answers: tuple[str, ...]
    think: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Theme:
    """Lines of a haiku; any first, second and third line go together."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    third: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hero:
    """Whom a story is about: how the user says it, the name, and what it is."""

    asked: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Sources:
    """All corpus files."""

    concepts: tuple[Topic, ...]
    program: tuple[Topic, ...]
    smalltalk: tuple[Topic, ...]
    lists: tuple[Topic, ...]
    facts: tuple[FactTable, ...]
    themes: tuple[Theme, ...]
    heroes: tuple[Hero, ...]
    plots: tuple[tuple[str, ...], ...]
    frames: Phrases
    haiku: Phrases
    stories: Phrases
    names: Phrases
    numbers: Phrases
    unknown: Phrases
    sha256: str
    """Over the bytes of all files in the order of their names."""

    @property
    def explained(self) -> tuple[Topic, ...]:
        """Topics with names and follow-ups."""
        return self.concepts + self.program

    @property
    def talked(self) -> tuple[Topic, ...]:
        """Topics that are only asked and answered."""
        return self.smalltalk + self.lists


def load_sources(directory: Path = CORPUS_DIR) -> Sources:
    """Read every corpus file below `directory`.

    Raises:
        UsageError: A file is missing or has not the form it should have.
    """
    haiku = _read(directory, "haiku")
    stories = _read(directory, "stories")
    try:
        return Sources(
            concepts=_topics(_read(directory, "concepts")),
            program=_topics(_read(directory, "program")),
            smalltalk=_topics(_read(directory, "smalltalk")),
            lists=_topics(_read(directory, "lists")),
            facts=tuple(_fact_table(entry) for entry in _read(directory, "facts")),
            themes=tuple(
                Theme(name, tuple(lines["first"]), tuple(lines["second"]), tuple(lines["third"]))
                for name, lines in haiku["themes"].items()
            ),
            heroes=tuple(Hero(asked, name, kind) for asked, (name, kind) in stories["heroes"].items()),
            plots=tuple(tuple(plot) for plot in stories["plots"]),
            frames=_phrases(_read(directory, "frames")),
            haiku=_phrases(haiku),
            stories=_phrases(stories),
            names=_phrases(_read(directory, "names")),
            numbers=_phrases(_read(directory, "numbers")),
            unknown=_phrases(_read(directory, "unknown")),
            sha256=_digest(directory),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{directory}: a corpus file has not the form it should have ({error})") from error


def _read(directory: Path, name: str) -> Any:
    path = directory / f"{name}.yaml"
    try:
        # The base loader reads every scalar as text: "no" is a word here, not a truth value.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: the corpus file cannot be read ({error})") from error


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.yaml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _topics(entries: list[dict[str, Any]]) -> tuple[Topic, ...]:
    return tuple(_topic(entry) for entry in entries)


def _topic(entry: dict[str, Any]) -> Topic:
    lists: dict[str, Any] = {key: _strings(value) for key, value in entry.items() if key != "id"}
    return Topic(id=entry["id"], **lists)


def _fact_table(entry: dict[str, Any]) -> FactTable:
    pairs = tuple((str(key), str(value)) for key, value in entry["pairs"].items())
    if entry.get("symmetric") == "true":
        pairs += tuple((value, key) for key, value in pairs)
    lists = {key: _strings(entry[key]) for key in ("ask", "held_out", "again", "answers", "think")}
    return FactTable(id=entry["id"], pairs=pairs, **lists)


def _phrases(entries: dict[str, Any]) -> Phrases:
    return {
        key: _strings(value)
        for key, value in entries.items()
        if isinstance(value, list) and all(isinstance(item, str) for item in value)
    }


def _strings(values: list[Any]) -> tuple[str, ...]:
    wrong = [value for value in values if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} must be text: put it in quotes")
    return tuple(values)
