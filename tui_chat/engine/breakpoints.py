"""Where a run stops by itself: a small language of conditions on the coming token.

    condition   = all ("or" all)*
    all         = test ("and" test)*
    test        = "(" condition ")" | figure comparison number | "text" ("~" | "!~") pattern
    figure      = "entropy" | "surprisal" | "rank" | "p(top)" | "p(chosen)"
    comparison  = "<" | "<=" | ">" | ">=" | "=" | "!="
    number      = 3 | .4 | 1e-3 | 40% | -1
    pattern     = one word, brackets in pairs | "a text" | 'a text'

The figures are those of the inspector, of the model's own distribution before the chain: entropy and surprisal in
nats, probabilities from 0 to 1, rank 1 for the best token. `chosen` is the token that is about to be drawn. A pattern
is a regular expression (Python's `re`) searched for in the token's text: a plain word finds the tokens that hold it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from tui_chat.engine.types import TokenTrace
from tui_chat.errors import BreakpointError

FIGURES: Mapping[str, Callable[[TokenTrace], float]] = {
    "entropy": lambda trace: trace.entropy,
    "surprisal": lambda trace: trace.surprisal,
    "rank": lambda trace: trace.rank,
    "p(top)": lambda trace: math.exp(trace.top[0][1] - trace.logsumexp),
    "p(chosen)": lambda trace: trace.p,
}
"""What a breakpoint may compare with a number."""

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}

_TOKEN = re.compile(
    r"\s*(?:(?P<figure>p\s*\(\s*\w*\s*\))|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?%?(?!\w))"
    r"|(?P<sign><=|>=|==|!=|!~|[<>=~])|(?P<bracket>[()])|(?P<word>[^\W\d]\w*))",
    re.IGNORECASE,
)
_BARE = r"""(?:\\\S|[^\s()"'\\])"""
_PAIR = rf"\({_BARE}*(?:\({_BARE}*\){_BARE}*)*\)"
_PATTERN = re.compile(rf"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>(?:{_BARE}|{_PAIR})+))""")

_Test = Callable[[TokenTrace], bool]


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A condition on the coming token; `parse_breakpoint` makes it."""

    source: str
    """As it was written."""
    _test: _Test

    def hit(self, trace: TokenTrace) -> bool:
        """Whether the run stops before this token."""
        return self._test(trace)


def parse_breakpoint(source: str) -> Breakpoint:
    """The breakpoint that `source` describes.

    Raises:
        BreakpointError: It does not parse; tells the column.
    """
    return Breakpoint(source, _Parser(source).whole())


class _Found(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent over one condition."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0

    def whole(self) -> _Test:
        test = self._any()
        rest = self._peek()
        if rest.kind != "end":
            self._fail(f"{rest.text!r} cannot follow here: join conditions with 'and' or 'or'", rest.at)
        return test

    def _any(self) -> _Test:
        tests = [self._all()]
        while self._takes("or"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda trace: any(test(trace) for test in tests)

    def _all(self) -> _Test:
        tests = [self._one()]
        while self._takes("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda trace: all(test(trace) for test in tests)

    def _one(self) -> _Test:
        found = self._next()
        if found.text == "(":
            inner = self._any()
            closing = self._next()
            if closing.text != ")":
                self._fail(f"a ')' must close the '(' of column {found.at + 1}", closing.at)
            return inner
        if found.text == "text":
            return self._text()
        name = re.sub(r"\s", "", found.text)
        if name not in FIGURES:
            shown = "the condition ends" if found.kind == "end" else f"{found.text!r} is none"
            self._fail(f"a figure must stand here, and {shown}: choose from {', '.join(FIGURES)}, text", found.at)
        return self._comparison(FIGURES[name])

    def _comparison(self, figure: Callable[[TokenTrace], float]) -> _Test:
        sign = self._next()
        if sign.text not in _COMPARISONS:
            self._fail(f"a comparison must stand here: {' '.join(_COMPARISONS)}", sign.at)
        number = self._next()
        if number.kind != "number":
            self._fail("a number must stand here, such as 3, .4 or 40%", number.at)
        compare = _COMPARISONS[sign.text]
        limit = float(number.text.rstrip("%")) / (100 if number.text.endswith("%") else 1)
        return lambda trace: compare(figure(trace), limit)

    def _text(self) -> _Test:
        sign = self._next()
        if sign.text not in ("~", "!~"):
            self._fail("'~' (holds) or '!~' (does not hold) must follow 'text'", sign.at)
        match = _PATTERN.match(self._source, self._at)
        if match is None or match.lastgroup is None:
            self._fail("a pattern must stand here: a word, or a text in quotes", self._skip_space())
        start = match.start(match.lastgroup)
        self._at = match.end()
        try:
            pattern = re.compile(match[match.lastgroup])
        except re.error as error:
            self._fail(f"the pattern is no regular expression: {error.msg}", start + (error.pos or 0))
        wanted = sign.text == "~"
        return lambda trace: (pattern.search(trace.piece.decode("utf-8", "replace")) is not None) is wanted

    def _takes(self, word: str) -> bool:
        if self._peek().text != word:
            return False
        self._next()
        return True

    def _peek(self) -> _Found:
        at = self._at
        found = self._next()
        self._at = at
        return found

    def _next(self) -> _Found:
        start = self._skip_space()
        if start == len(self._source):
            return _Found("end", "", start)
        match = _TOKEN.match(self._source, start)
        if match is None or match.lastgroup is None:
            self._fail(f"{self._source[start]!r} has no meaning here", start)
        self._at = match.end()
        return _Found(match.lastgroup, match[match.lastgroup].lower(), start)

    def _skip_space(self) -> int:
        return self._at + len(self._source[self._at :]) - len(self._source[self._at :].lstrip())

    def _fail(self, message: str, at: int) -> NoReturn:
        raise BreakpointError(message, column=at + 1)
