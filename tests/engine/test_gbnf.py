"""Grammars are read before llama.cpp sees them: what does not hold is named with its place, and nothing is printed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.native_chain import lc
from tui_chat.engine.engine import Engine
from tui_chat.engine.gbnf import NAMED, check, load_grammar, named
from tui_chat.errors import GrammarError

WRONG = [
    ('root ::= "a', 1, 12, "the text ends"),
    ('root = "a"', 1, 6, "'::=' must follow"),
    ("root ::= foo", 1, 10, "no rule 'foo'"),
    ('root ::= "a"\nx ::= "b" | )', 2, 13, "cannot stand here"),
    ('root ::= root "a" | "b"', 1, 10, "calls itself"),
    ('root ::= a? root "x" | "b"\na ::= "q"', 1, 13, "calls itself"),
    ('root ::= a root "x" | "b"\na ::= c\nc ::= "q" |', 1, 12, "calls itself"),
    ('root ::= "a" root', 1, 1, "no text completes"),
    ('root ::= "a" | x\nx ::= "b" x', 2, 1, "no text completes the rule 'x'"),
    ('x ::= "a"', 1, 10, "no rule 'root'"),
    ('root ::= ("a"\n "b"', 2, 5, "not closed"),
    ('root ::= "\\q"', 1, 11, "no escape"),
    ("root ::= *", 1, 10, "nothing that '\\*' could repeat"),
    ('root ::= "a"{3,1}', 1, 13, "ends before it begins"),
    ('root ::= "a"{2', 1, 13, "a repetition is"),
    ("root ::= [a-z", 1, 14, "the text ends"),
    ("root ::= [az-a]", 1, 12, "the range z-a ends before it begins"),
    ('root ::= ("a"\n  [^\\x80-\\U0010FFFF\\x00-\\x7F])', 2, 3, "this class leaves out every character"),
    ('root ::= "a"\nroot ::= "b"', 2, 1, "twice"),
    ('root ::= ("c"{0,1500}){1500}', 1, 23, "more than 2000"),
    ("root ::= <think", 1, 10, "a token is written"),
    ("", 1, 1, "empty"),
    ('root ::= "a\0b"', 1, 12, "U\\+0000"),
    ("root ::= " + "(" * 70 + '"a"' + ")" * 70, 1, 74, "nested"),
]


@pytest.mark.parametrize(("text", "line", "column", "says"), WRONG)
def test_what_is_wrong_is_named_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(GrammarError, match=f"grammar, line {line}, column {column}: .*{says}"):
        check(text)


@pytest.mark.parametrize(
    "text", ["[^\\x01-\\U0010FFFF]", "[\\x00-\\U0010FFFF]", "[^a-]", "[\\]-a]", "[\\--\\-]", "[\t-\\r]"]
)
def test_classes_that_allow_something_hold(text: str) -> None:
    assert check(f"root ::= {text}").rules == ("root",)


@pytest.mark.parametrize("name", NAMED)
def test_the_grammars_that_come_along_hold(name: str) -> None:
    assert "root" in check(named(name)).rules
    assert load_grammar(name) == named(name)


def test_a_missing_file_lists_what_there_is() -> None:
    with pytest.raises(GrammarError, match="chess"):
        load_grammar("chses")


ODD = [*'"[]()*+?|\n \\a-^#.<!', "{2}", "{1,}", "::=", "root", "x"]


@settings(max_examples=2000, database=None)
@given(st.integers(0, 2**32))
def test_what_passes_llama_cpp_takes_in_silence(seed: int) -> None:
    r = random.Random(seed)
    text = r.choice([named(name) for name in NAMED] + ['root ::= x\nx ::= [a-z]+ ("b" | "c"){1,3} "\\n"?'])
    for _ in range(r.randint(0, 3)):
        at = r.randrange(len(text))
        text = text[:at] + r.choice([*ODD, ""]) + text[at + r.randint(0, 2) :]
    try:
        check(text)
    except GrammarError:
        return
    PASSED.append(text)


PASSED: list[str] = []


def test_those_that_passed_parse(pocket: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(PASSED) > 100
    for text in PASSED:
        handle = lc.llama_sampler_init_grammar(pocket.vocab.handle, text.encode(), b"root")
        # What has no grammar after all was said to the log, not to the terminal.
        if handle:
            lc.llama_sampler_free(handle)
    captured = capfd.readouterr()
    assert captured.err == "" and captured.out == ""
