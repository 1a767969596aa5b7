"""GBNF, llama.cpp's notation of grammars: read here first, to say where it is wrong.

llama.cpp's parser (`llama_grammar_parser`, src/llama-grammar.cpp) writes what it dislikes to the process's stderr,
which belongs to the screen, and names no place. This one reads the same language, so that only text that parses gets
that far. It also finds what llama.cpp would only show while it writes: rules that call themselves before they have read
a character (it would expand them without end), and rules no text can ever complete.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import NoReturn

from tui_chat.errors import GrammarError

NAMED: tuple[str, ...] = ("arithmetic", "chess", "json", "list")
"""Grammars that come along."""

_MAX_CHARS = 1 << 18
_MAX_RULES = 4000
_MAX_DEPTH = 64
_MAX_REPETITIONS = 2000
"""`MAX_REPETITION_THRESHOLD` of llama.cpp."""


def named(name: str) -> str:
    """The text of one of `NAMED`."""
    return resources.files("tui_chat.engine").joinpath("grammars", f"{name}.gbnf").read_text(encoding="utf-8")


def load_grammar(text: str) -> str:
    """The grammar that is meant, checked.

    Args:
        text: GBNF, one of `NAMED`, or the name of a file.

    Raises:
        GrammarError: It cannot be read or does not hold.
    """
    if text in NAMED:
        return named(text)
    if "::=" in text:
        check(text)
        return text
    try:
        content = Path(text).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise GrammarError(
            f'{error.strerror or error}: give a file, a grammar such as \'root ::= "yes" | "no"\', '
            f"or one of {', '.join(NAMED)}",
            source=text,
        ) from error
    except UnicodeDecodeError as error:
        raise GrammarError(f"it is not text (byte {error.start})", source=text) from error
    check(content, text)
    return content


@dataclass(frozen=True, slots=True)
class TokenRef:
    """A token that a grammar names whole, as in `<think>` or `<[42]>`."""

    text: str
    """What stands there; the id is None then."""
    id: int | None
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class GrammarFacts:
    """What was found in a grammar that parses."""

    rules: tuple[str, ...]
    tokens: tuple[TokenRef, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """One element of a sequence. A character has neither name nor group."""

    name: str = ""
    at: int = 0
    group: tuple[tuple[_Item, ...], ...] | None = None
    optional: bool = False


_Rule = tuple[tuple[_Item, ...], ...]


@lru_cache(maxsize=16)
def check(text: str, source: str = "grammar") -> GrammarFacts:
    """Read a grammar.

    Args:
        text: GBNF.
        source: What to call it in an error.

    Raises:
        GrammarError: It does not parse, or cannot be obeyed; names line and column.
    """
    return _Parser(text, source).facts()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._text, self._source = text, source
        self._pos = 0
        self._rules: dict[str, _Rule] = {}
        self._starts: dict[str, int] = {}
        self._refs: list[_Item] = []
        self._tokens: list[TokenRef] = []
        self._symbols = 0

    def facts(self) -> GrammarFacts:
        if len(self._text) > _MAX_CHARS:
            self._fail(f"it has {len(self._text):,} characters; at most {_MAX_CHARS:,} can be read")
        for odd in re.finditer("[\0\ud800-\udfff]", self._text):
            self._fail(f"the character U+{ord(odd[0]):04X} cannot stand here", odd.start())
        self._space(newlines=True)
        while self._peek():
            self._rule()
        if not self._rules:
            self._fail("it is empty: give at least a rule such as root ::= [0-9]+")
        for item in self._refs:
            if item.name not in self._rules:
                self._fail(f"there is no rule {item.name!r}", item.at)
        if "root" not in self._rules:
            self._fail("there is no rule 'root', with which every text begins")
        self._refuse_left_recursion()
        self._refuse_endless()
        return GrammarFacts(tuple(self._rules), tuple(self._tokens))

    # What the rules mean.

    def _refuse_left_recursion(self) -> None:
        nullable = _least(self._rules, chars=False)
        first: dict[str, list[_Item]] = {
            name: [i for sequence in rule for i in _leftmost(sequence, nullable)] for name, rule in self._rules.items()
        }
        done: set[str] = set()
        for start in self._rules:
            path: list[tuple[str, Iterator[_Item]]] = [(start, iter(first[start]))]
            under_way = {start}
            while path and start not in done:
                item = next(path[-1][1], None)
                if item is None:
                    name = path.pop()[0]
                    under_way.discard(name)
                    done.add(name)
                elif item.name in under_way:
                    self._fail(f"the rule {item.name!r} calls itself before it has read a character", item.at)
                elif item.name not in done:
                    under_way.add(item.name)
                    path.append((item.name, iter(first[item.name])))

    def _refuse_endless(self) -> None:
        complete = _least(self._rules, chars=True)
        reached, queue = {"root"}, ["root"]
        while queue:
            name = queue.pop()
            if name not in complete:
                self._fail(
                    f"no text completes the rule {name!r}: every way through it comes back to it", self._starts[name]
                )
            for sequence in self._rules[name]:
                for item in _references(sequence):
                    if item.name not in reached:
                        reached.add(item.name)
                        queue.append(item.name)

    # How they are written.

    def _rule(self) -> None:
        start = self._pos
        name = self._word("a rule begins with its name, as in root ::= [0-9]+")
        self._space()
        if not self._text.startswith("::=", self._pos):
            self._fail(f"'::=' must follow the name {name!r}")
        if name in self._rules:
            self._fail(f"the rule {name!r} is there twice: write its ways with | between them", start)
        if len(self._rules) == _MAX_RULES:
            self._fail(f"there are more than {_MAX_RULES:,} rules", start)
        self._pos += 3
        self._space(newlines=True)
        self._rules[name], self._starts[name] = self._alternatives(0), start
        if self._peek() not in ("", "\r", "\n"):
            self._fail(f"{self._peek()!r} cannot stand here")
        self._space(newlines=True)

    def _alternatives(self, depth: int) -> _Rule:
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self._pos += 1
            self._space(newlines=True)
            found.append(self._sequence(depth))
        return tuple(found)

    def _sequence(self, depth: int) -> tuple[_Item, ...]:
        items: list[_Item] = []
        last, size = 0, 1  # where the last symbol begins in `items`, and how many rules it stands for
        while char := self._peek():
            begins = len(items)
            at = self._pos
            if char == '"':
                self._pos += 1
                while self._peek() != '"':
                    self._char("a quotation mark")
                    items.append(_Item(at=at))
                self._pos += 1
                last, size = begins, 1
            elif char == "[":
                self._class()
                items += [_Item(at=at)] * (not _is_empty_class(self._text[at : self._pos]))
                last, size = begins, 1
            elif char in "<!":
                self._token()
                items.append(_Item(at=at))
                last, size = begins, 1
            elif _WORD.match(char):
                items.append(_Item(name=self._word(""), at=at))
                self._refs.append(items[-1])
                last, size = begins, 1
            elif char == "(":
                if depth >= _MAX_DEPTH:
                    self._fail(f"brackets are nested more than {_MAX_DEPTH} deep")
                before = self._symbols
                self._symbols += 1
                self._pos += 1
                self._space(newlines=True)
                items.append(_Item(at=at, group=self._alternatives(depth + 1)))
                if self._peek() != ")":
                    self._fail(f"the bracket of line {self._place(at)[0]} is not closed")
                self._pos += 1
                last, size = begins, max(1, self._symbols - before)
            elif char == ".":
                self._pos += 1
                items.append(_Item(at=at))
                last, size = begins, 1
            elif char in "*+?{":
                low, high = self._repetition(char)
                if last == len(items):
                    self._fail(f"there is nothing that {char!r} could repeat", at)
                times = high or low or 1
                if size * times > _MAX_REPETITIONS:
                    self._fail(f"this stands for more than {_MAX_REPETITIONS} rules: repeat it less often", at)
                self._symbols += 1 if high is None else high - low
                size *= times
                if low == 0:
                    items[last:] = [_Item(at=at, group=(tuple(items[last:]),), optional=True)]
            else:
                break
            self._space(newlines=depth > 0)
        return tuple(items)

    def _repetition(self, char: str) -> tuple[int, int | None]:
        """How often: at least, and at most (None without end)."""
        if char != "{":
            self._pos += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        match = _BRACES.match(self._text, self._pos)
        if match is None:
            self._fail("a repetition is {2}, {2,} or {2,5}")
        low = int(match[1])
        high = None if match[2] and not match[3] else int(match[3] or low)
        if low > _MAX_REPETITIONS:
            self._fail(f"at most {_MAX_REPETITIONS} repetitions can be asked for")
        if high is not None and high < low:
            self._fail(f"{{{low},{high}}} ends before it begins")
        self._pos = match.end()
        return low, None if high is not None and high > _MAX_REPETITIONS else high

    def _class(self) -> None:
        start = self._pos
        self._pos += 1
        negated = self._peek() == "^"
        self._pos += negated
        ranges: list[tuple[int, int]] = []
        while self._peek() != "]":
            at = self._pos
            low = high = self._char("a closing bracket ]")
            if self._peek() == "-" and self._peek(1) != "]":
                self._pos += 1
                high = self._char("the end of the range")
            if high < low:
                self._fail(f"the range {self._text[at : self._pos]} ends before it begins", at)
            ranges.append((low, high))
        self._pos += 1
        if negated and _is_everything(ranges):
            self._fail("this class leaves out every character, so no text is allowed here", start)

    def _char(self, awaited: str) -> int:
        char = self._peek()
        if not char:
            self._fail(f"the text ends where {awaited} must come")
        if char != "\\":
            self._pos += 1
            return ord(char)
        match = _ESCAPE.match(self._text, self._pos)
        if match is None:
            self._fail(f'\\{self._peek(1)} is no escape: there are \\n \\r \\t \\\\ \\" \\[ \\] \\- \\x41 \\u0041')
        self._pos = match.end()
        name = match[0][1]
        return int(match[0][2:], 16) if name in "xuU" else ord({"n": "\n", "r": "\r", "t": "\t"}.get(name, name))

    def _token(self) -> None:
        start = self._pos
        self._pos += self._peek() == "!"
        match = _TOKEN.match(self._text, self._pos)
        if match is None:
            self._fail("a token is written <text> or <[id]>")
        self._pos = match.end()
        number = match[1]
        if number is None and match[0].startswith("<["):
            self._fail("a token is written <text> or <[id]>", start)
        self._tokens.append(TokenRef(match[0], int(number) if number else None, *self._place(start)))

    def _word(self, message: str) -> str:
        match = _WORD.match(self._text, self._pos)
        if match is None:
            self._fail(message)
        self._pos = match.end()
        return match[0]

    def _space(self, *, newlines: bool = False) -> None:
        match = (_ALL_SPACE if newlines else _SPACE).match(self._text, self._pos)
        assert match is not None
        self._pos = match.end()

    def _peek(self, ahead: int = 0) -> str:
        return self._text[self._pos + ahead : self._pos + ahead + 1]

    def _place(self, at: int) -> tuple[int, int]:
        return self._text.count("\n", 0, at) + 1, at - self._text.rfind("\n", 0, at)

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        line, column = self._place(self._pos if at is None else at)
        raise GrammarError(message, line=line, column=column, source=self._source)


_WORD = re.compile(r"[A-Za-z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_ALL_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_BRACES = re.compile(r"\{[ \t]*([0-9]{1,9})[ \t]*(?:(,)[ \t]*(?:([0-9]{1,9})[ \t]*)?)?\}")
_ESCAPE = re.compile(r'\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[trn\\"\[\]-])')
_TOKEN = re.compile(r"<\[([0-9]{1,9})\]>|<[^>]*>")


def _is_empty_class(text: str) -> bool:
    """llama.cpp reads [] and [^] as nothing at all."""
    return text in ("[]", "[^]")


def _is_everything(ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether they hold every character there is."""
    missing = 0
    for low, high in sorted(ranges):
        if low > missing:
            return False
        missing = max(missing, high + 1)
    return missing > sys.maxunicode


def _least(rules: Mapping[str, _Rule], *, chars: bool) -> set[str]:
    """The rules that hold for some sequence, where a character does or does not: the smallest such set."""
    holds: set[str] = set()
    open_rules = list(rules)
    while True:
        open_rules.reverse()  # a rule mostly stands before those it uses; where not, the next pass runs the other way
        for name in open_rules:
            if _holds(rules[name], holds, chars):
                holds.add(name)
        left = [name for name in open_rules if name not in holds]
        if len(left) == len(open_rules):
            return holds
        open_rules = left


def _holds(rule: _Rule, holds: set[str], chars: bool) -> bool:
    return any(all(_item_holds(item, holds, chars) for item in sequence) for sequence in rule)


def _item_holds(item: _Item, holds: set[str], chars: bool) -> bool:
    if item.optional:
        return True
    if item.group is not None:
        return _holds(item.group, holds, chars)
    return item.name in holds if item.name else chars


def _leftmost(sequence: tuple[_Item, ...], nullable: set[str]) -> Iterator[_Item]:
    """References that may come before any character of the sequence."""
    for item in sequence:
        if item.group is not None:
            for inner in item.group:
                yield from _leftmost(inner, nullable)
        elif item.name:
            yield item
        if not _item_holds(item, nullable, False):
            return


def _references(sequence: tuple[_Item, ...]) -> Iterator[_Item]:
    for item in sequence:
        if item.group is not None:
            for inner in item.group:
                yield from _references(inner)
        elif item.name:
            yield item
