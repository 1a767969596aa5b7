"""Corpora: what a model learns from, read and checked before anything is computed.

a text file     one document, or several with `<|endoftext|>` alone on a line between them
a folder        every .txt, .md and .text file below it, in the order of their names
a .jsonl file   conversations, one a line (`conversations.py`)
builtin         the written corpus of the built-in model; a grammar makes dialogues of it
"""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tui_chat.errors import UsageError
from tui_chat.training.conversations import read_conversations
from tui_chat.training.dialogue import END_OF_TEXT, Dialogue
from tui_chat.training.sources import CORPUS_DIR, Sources, load_sources

BUILTIN = "builtin"
"""Name of the corpus that comes with the program."""

TEXT_SUFFIXES = (".txt", ".md", ".text")
"""Files a folder is searched for, in any case of letters."""

CONVERSATION_SUFFIXES = (".jsonl", ".ndjson")
"""Files that hold conversations."""

MIN_CHARACTERS = 200
"""Least text there is anything to learn from: a row of some tokens to train on and some tokens to validate with."""

MIN_DIALOGUES = 2
"""One to train on and one to validate with."""

_SEPARATOR = re.compile(rf"^[ \t]*{re.escape(END_OF_TEXT)}[ \t]*(?:\n|\Z)", re.MULTILINE)


class CorpusKind(StrEnum):
    """What a model learns to do from a corpus."""

    TEXT = "text"
    """Continue text."""
    CHAT = "chat"
    """Answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus as it was read. What it holds depends on its kind."""

    kind: CorpusKind
    name: str
    """For people: the path as it was given, or "builtin"."""
    sha256: str
    """Over the content; of a single file as `sha256sum` gives it."""
    documents: tuple[str, ...] = ()
    """Of a text corpus, none of them empty, lines ended by "\\n"."""
    dialogues: tuple[Dialogue, ...] = ()
    """Of conversations from a file."""
    sources: Sources | None = None
    """Of the built-in corpus: what the grammar makes dialogues of."""
    n_files: int = 1
    """Files that were read."""
    n_ignored: int = 0
    """Files of a folder that are no text files by their names."""
    n_empty: int = 0
    """Text files of a folder with nothing in them."""

    @property
    def n_characters(self) -> int:
        """In all documents, or in all conversations of a file as they are written in ChatML."""
        return sum(map(len, self.documents)) + sum(len(dialogue.text) for dialogue in self.dialogues)

    @property
    def summary(self) -> str:
        """What was read, in a line for people."""
        if self.sources is not None:
            return "the built-in corpus"
        if self.kind is CorpusKind.CHAT:
            return f"{len(self.dialogues):,} conversations"
        parts = [_count(len(self.documents), "document"), f"{self.n_characters:,} characters"]
        if self.n_files > 1:
            parts.insert(0, _count(self.n_files, "file"))
        if self.n_ignored:
            parts.append(f"{_count(self.n_ignored, 'other file')} ignored")
        if self.n_empty:
            parts.append(f"{_count(self.n_empty, 'empty file')} passed over")
        return ", ".join(parts)


def read_corpus(source: str | Path) -> Corpus:
    """Read the corpus `source`: a text file, a folder, a .jsonl file, or "builtin".

    Raises:
        UsageError: It is not there, cannot be decoded, is no conversation where one should be, or is too small; the
            text names file and place.
    """
    if str(source) == BUILTIN:
        sources = load_sources(CORPUS_DIR)
        return Corpus(kind=CorpusKind.CHAT, name=BUILTIN, sha256=sources.sha256, sources=sources)
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return _read_folder(path, str(source))
        if path.suffix.lower() in CONVERSATION_SUFFIXES:
            return _read_conversations(path, str(source))
        return _read_file(path, str(source))
    except FileNotFoundError as error:
        raise UsageError(
            f"{source}: there is no such file or folder; give a text file, a folder of them, a .jsonl file of "
            f'conversations, or "{BUILTIN}"'
        ) from error
    except OSError as error:
        raise UsageError(
            f"{error.filename or source} cannot be read ({error.strerror}): check its permissions"
        ) from error


def _read_file(path: Path, name: str) -> Corpus:
    content = path.read_bytes()
    documents = _documents(_decoded(content, path))
    _check_size(documents, name)
    digest = hashlib.sha256(content).hexdigest()
    return Corpus(kind=CorpusKind.TEXT, name=name, sha256=digest, documents=documents)


def _read_conversations(path: Path, name: str) -> Corpus:
    content = path.read_bytes()
    dialogues = tuple(read_conversations(_decoded(content, path), str(path)))
    if len(dialogues) < MIN_DIALOGUES:
        raise UsageError(
            f"{name} holds {_count(len(dialogues), 'conversation')}: at least {MIN_DIALOGUES} different ones are "
            "needed, one to learn from and one to validate with"
        )
    digest = hashlib.sha256(content).hexdigest()
    return Corpus(kind=CorpusKind.CHAT, name=name, sha256=digest, dialogues=dialogues)


def _read_folder(path: Path, name: str) -> Corpus:
    files = sorted(
        (file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path))),
        key=lambda file: file.relative_to(path).as_posix(),
    )
    chosen = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    if not chosen:
        conversations = [file for file in files if file.suffix.lower() in CONVERSATION_SUFFIXES]
        remedy = f"; give {conversations[0]} itself" if conversations else ""
        raise UsageError(f"{name} has no {', '.join(TEXT_SUFFIXES)} file in it or below it{remedy}")
    digest = hashlib.sha256()
    documents: list[str] = []
    n_empty = 0
    for file in chosen:
        content = file.read_bytes()
        # Names and lengths too, so that text moved from one file to another is another corpus.
        digest.update(
            f"{file.relative_to(path).as_posix()}\0{len(content)}\0".encode(errors="surrogateescape") + content
        )
        found = _documents(_decoded(content, file))
        n_empty += not found
        documents += found
    _check_size(documents, name)
    return Corpus(
        kind=CorpusKind.TEXT,
        name=name,
        sha256=digest.hexdigest(),
        documents=tuple(documents),
        n_files=len(chosen),
        n_ignored=len(files) - len(chosen),
        n_empty=n_empty,
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _decoded(content: bytes, path: Path) -> str:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16")):
        if content.startswith(mark):
            raise UsageError(f"{path} is not UTF-8 at byte 0: by its first bytes it is {encoding}; save it as UTF-8")
    zero = content.find(b"\0")
    if zero >= 0:
        raise UsageError(f"{path} has a zero byte at byte {zero}: it is no text file; remove it or the byte")
    start = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    try:
        return content[start:].decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        place = start + error.start
        raise UsageError(
            f"{path} is not UTF-8 at byte {place} (0x{content[place]:02x}): save it as UTF-8 or remove it"
        ) from error


def _documents(text: str) -> tuple[str, ...]:
    return tuple(part for part in _SEPARATOR.split(text) if part.strip())


def _check_size(documents: list[str] | tuple[str, ...], name: str) -> None:
    n_characters = sum(map(len, documents))
    if n_characters < MIN_CHARACTERS:
        there = f"holds only {_count(n_characters, 'character')}" if n_characters else "is empty"
        raise UsageError(
            f"{name} {there}: give at least {MIN_CHARACTERS} characters of text (a model that writes sentences "
            "needs some thousands)"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
