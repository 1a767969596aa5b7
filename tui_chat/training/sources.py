"""The written corpus: the YAML files beside this package, read into frozen values.

Everything the built-in model has ever read comes from these files. They hold questions, answers and tables; the grammar
(`grammar.py`) makes dialogues of them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tui_chat.errors import UsageError

CORPUS_DIR = Path(__file__).parent / "corpus"

OTHER_LANGUAGES = ("es", "pt")
"""Folders of the corpus beside English."""

N_HELD_OUT = 2
"""Questions of a topic that are kept out of the training."""

_ALWAYS_TAUGHT = 6
"""The first, plainest questions of a topic are never kept out: people ask them."""

Phrases = Mapping[str, tuple[str, ...]]
"""Lists of phrases by their name in the file."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Something the model can explain or talk about.

    Small talk has neither names nor follow-ups: its `one`, `many`, `more` and `example` are empty.
    """

    id: str
    """Unique over all languages: `token`, `es.token`."""
    subject: str
    """The same in every language: `token`."""
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
class Language:
    """What is said in one language. Only English has a `program` and `lists`."""

    code: str
    concepts: tuple[Topic, ...]
    smalltalk: tuple[Topic, ...]
    themes: tuple[Theme, ...]
    frames: Phrases
    haiku: Phrases
    unknown: Phrases
    program: tuple[Topic, ...] = ()
    lists: tuple[Topic, ...] = ()

    @property
    def explained(self) -> tuple[Topic, ...]:
        """Topics with names and follow-ups."""
        return self.concepts + self.program

    @property
    def talked(self) -> tuple[Topic, ...]:
        """Topics that are only asked and answered."""
        return self.smalltalk + self.lists

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All of them."""
        return self.explained + self.talked


@dataclass(frozen=True, slots=True)
class Sources:
    """All corpus files."""

    english: Language
    others: tuple[Language, ...]
    facts: tuple[FactTable, ...]
    heroes: tuple[Hero, ...]
    plots: tuple[tuple[str, ...], ...]
    stories: Phrases
    names: Phrases
    numbers: Phrases
    json: Phrases
    categories: Phrases
    """Things of a kind, always in the same order: fruits, animals."""
    repeat: Phrases
    sha256: str
    """Over the bytes of all files in the order of their names."""

    @property
    def languages(self) -> tuple[Language, ...]:
        """English first."""
        return (self.english, *self.others)


def ways(phrases: Phrases, key: str, held_out: bool) -> tuple[str, ...]:
    """The wordings under `key`, those for training or those kept out of it.

    The latter stand under `KEY_held_out`, or under `held_out` alone where a file has a single list of them.
    """
    if not held_out:
        return phrases[key]
    return phrases.get(f"{key}_held_out") or phrases["held_out"]


def normalised(text: str) -> str:
    """The words alone: no case, no punctuation, no accents."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[\w/+=-]+", bare))


def load_sources(directory: Path = CORPUS_DIR) -> Sources:
    """Read every corpus file below `directory`.

    Raises:
        UsageError: A file is missing or has not the form it should have.
    """
    stories, answers = _read(directory, "stories"), _read(directory, "json")
    try:
        return Sources(
            english=replace(
                _language(directory, "en", _read_all(directory, "concepts")),
                program=_topics(_read_all(directory, "program")),
                lists=_topics(_read(directory, "lists")),
            ),
            others=tuple(
                _language(directory / code, code, _read(directory / code, "concepts")) for code in OTHER_LANGUAGES
            ),
            facts=tuple(_fact_table(entry) for entry in _read(directory, "facts")),
            heroes=tuple(Hero(asked, name, kind) for asked, (name, kind) in stories["heroes"].items()),
            plots=tuple(tuple(plot) for plot in stories["plots"]),
            stories=_phrases(stories),
            names=_phrases(_read(directory, "names")),
            numbers=_phrases(_read(directory, "numbers")),
            json=_phrases(answers),
            categories=_phrases(answers["categories"]),
            repeat=_phrases(_read(directory, "repeat")),
            sha256=_digest(directory),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{directory}: a corpus file has not the form it should have ({error})") from error


def _language(directory: Path, code: str, concepts: list[dict[str, Any]]) -> Language:
    haiku = _read(directory, "haiku")
    prefix = "" if code == "en" else f"{code}."
    return Language(
        code=code,
        concepts=_topics(concepts, prefix),
        smalltalk=_topics(_read(directory, "smalltalk"), prefix),
        themes=tuple(
            Theme(name, tuple(lines["first"]), tuple(lines["second"]), tuple(lines["third"]))
            for name, lines in haiku["themes"].items()
        ),
        frames=_phrases(_read(directory, "frames")),
        haiku=_phrases(haiku),
        unknown=_phrases(_read(directory, "unknown")),
    )


def _read_all(directory: Path, folder: str) -> list[dict[str, Any]]:
    return [entry for path in sorted((directory / folder).glob("*.yaml")) for entry in _read(path.parent, path.stem)]


def _read(directory: Path, name: str) -> Any:
    path = directory / f"{name}.yaml"
    try:
        # The base loader reads every scalar as text: "no" is a word here, not a truth value.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: the corpus file cannot be read ({error})") from error


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.yaml")):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _topics(entries: list[dict[str, Any]], prefix: str = "") -> tuple[Topic, ...]:
    return tuple(_topic(entry, prefix) for entry in entries)


def _topic(entry: dict[str, Any], prefix: str) -> Topic:
    lists: dict[str, Any] = {key: _strings(value) for key, value in entry.items() if key not in ("id", "ask")}
    identity = f"{prefix}{entry['id']}"
    ask, held_out = _split(identity, _strings(entry["ask"]))
    return Topic(id=identity, subject=entry["id"], ask=ask, held_out=held_out, **lists)


def _split(identity: str, questions: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The questions of a topic for training, and those kept out of it.

    A hash chooses the latter among all but the first few, so nobody picks easy or hard ones. Questions of the same
    words go the same way.
    """
    different = list(dict.fromkeys(normalised(question) for question in questions))
    chosen = sorted(
        different[_ALWAYS_TAUGHT:], key=lambda words: hashlib.sha256(f"{identity} {words}".encode()).digest()
    )[:N_HELD_OUT]
    trained = tuple(question for question in questions if normalised(question) not in chosen)
    spoken = {normalised(question): question for question in reversed(questions)}
    return trained, tuple(spoken[words] for words in chosen)


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
