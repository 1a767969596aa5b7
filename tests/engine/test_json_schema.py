"""JSON schemas become grammars; what does not hold is named with its place."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from tui_chat.engine.engine import Engine
from tui_chat.engine.grammar import Grammar
from tui_chat.engine.json_schema import load_schema
from tui_chat.errors import GrammarError, SamplingError

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


@pytest.mark.parametrize(
    ("text", "obeys"), [('{"name":"Ada","age":36}', True), ('{"name":"Ada","age":"x', False), ('{"age"', False)]
)
def test_a_schema_says_what_may_be_written(pocket: Engine, tmp_path: Path, text: str, obeys: bool) -> None:
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON, indent=2))
    grammar = load_schema(str(file))
    assert grammar == load_schema(json.dumps(PERSON))
    answer = pocket.vocab.tokenize(text)
    with nullcontext() if obeys else pytest.raises(SamplingError, match="refuses"):
        Grammar(pocket.vocab, grammar, answer).close()


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ('{"type": }', 1, 10, "no JSON"),
        (
            '{"type": "object",\n "properties": {"a": {"type": "strang"}}}',
            2,
            31,
            '"strang" is no type: choose from',
        ),
        ('{"type": "intege"}', 1, 10, '"intege" is no type'),
        ('{"type": [\n"string", 5]}', 2, 11, "5 is no type"),
        ('{"type": "array",\n "items": {"$ref": "#/$defs/x"}}', 1, 1, "ref"),
        ("[1]", 1, 1, "a schema is a JSON object"),
        ('{"properties": {"a":\n {"enum": []}}}', 2, 2, "enum lists nothing, so no value is allowed"),
        ('{"anyOf": []}', 1, 1, "anyOf lists nothing"),
        ('{"type": []}', 1, 1, "type lists nothing"),
        ('{"type": "array", "minItems": 3, "maxItems": 1}', 1, 1, "minItems is 3, maxItems only 1"),
        ('{"type": "string", "pattern": "^[z-a]$"}', 1, 1, "the range z-a ends before it begins"),
    ],
)
def test_what_does_not_hold_is_named_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(GrammarError, match=f"JSON schema, line {line}, column {column}: .*{says}"):
        load_schema(text)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(GrammarError, match=r"no-such-schema\.json: No such file"):
        load_schema("no-such-schema.json")
