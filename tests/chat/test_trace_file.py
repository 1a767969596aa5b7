"""Trace files: what is written comes back, without a model, and what is no trace is named."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chat.test_store import some_trace
from tui_chat.chat.trace_file import (
    VERSION,
    AnswerTrace,
    ModelMark,
    params_document,
    params_from,
    read_trace,
    write_trace,
)
from tui_chat.engine.types import FinishReason, GeneratedToken, SamplingParams, StageTrace, TokenTrace
from tui_chat.errors import TraceError

MARK = ModelMark(
    name="pocket",
    path="/m/pocket.gguf",
    sha256="ab" * 32,
    n_ctx=512,
    n_batch=512,
    n_ubatch=63,
    n_threads=1,
    n_gpu_layers=0,
    devices=("CPU",),
    flash_attn="on",
    type_k="f16",
    type_v="f16",
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
ids = st.integers(0, 2**31 - 1)
counts = st.integers(1, 2**31 - 1)
logits = numbers | st.just(-math.inf)
traces = st.builds(
    TokenTrace,
    position=ids,
    id=ids,
    piece=st.binary(max_size=12),
    logit=logits,
    logsumexp=numbers,
    rank=ids,
    entropy=numbers,
    top=st.lists(st.tuples(ids, logits), max_size=5).map(tuple),
    stages=st.lists(st.builds(StageTrace, st.text(max_size=9), ids), max_size=4).map(tuple),
    final=st.lists(st.tuples(ids, numbers), max_size=5).map(tuple),
    u=st.none() | st.floats(0, 1, exclude_max=True),
    seconds=numbers,
)
tokens = traces.flatmap(lambda t: st.builds(GeneratedToken, st.just(t.id), st.just(t.piece), st.just(t), st.booleans()))
bare = st.builds(GeneratedToken, ids, st.binary(max_size=9), st.none(), st.booleans())
answers = st.builds(
    AnswerTrace,
    program=st.just("0.1.0"),
    library=st.text(max_size=20),
    created=st.text(max_size=20),
    model=st.just(MARK),
    prompt_ids=st.lists(ids, max_size=8).map(tuple),
    chunks=st.lists(st.tuples(counts, counts), max_size=3).map(tuple),
    periods=st.just(
        (
            (0, SamplingParams()),
            (3, SamplingParams(temperature=0, logit_bias=((4, -math.inf), (5, 1.5)), seed=2**64 - 1)),
        )
    ),
    ignore_eos=st.booleans(),
    tokens=st.lists(tokens | bare, max_size=4).map(tuple),
    text=st.text(max_size=30),
    finish_reason=st.none() | st.sampled_from(FinishReason),
    end=st.none() | tokens,
).flatmap(lambda a: st.builds(replace, st.just(a), n_given=st.integers(0, len(a.tokens))))


@settings(max_examples=60)
@given(answers)
def test_what_is_written_comes_back(trace: AnswerTrace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        write_trace(path, trace)
        assert read_trace(path) == trace
        assert [entry.name for entry in Path(folder).iterdir()] == ["t.jsonl"]
        for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    token = GeneratedToken(5, b"x", some_trace(5, id=5, piece=b"x"))
    write_trace(
        path,
        AnswerTrace(
            program="0.1.0",
            library="llama-cpp-python 0.3.36",
            created="2026-01-01T00:00:00+00:00",
            model=MARK,
            prompt_ids=(1, 2),
            periods=((0, SamplingParams()),),
            tokens=(token, token),
            text="xx",
        ),
    )
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "is no trace"),
        (lambda text: "hello\n", "is no trace"),
        (lambda text: '{"a": 1}\n', "is no trace"),
        (lambda text: "[1]\n", "is no trace"),
        (lambda text: text.replace('"version": 1', f'"version": {VERSION + 1}'), f"reads version {VERSION}"),
        (lambda text: text[:-20], "not whole, or damaged: line 4"),
        (lambda text: text.rpartition('{"text"')[0][:-20], "not whole, or damaged: line 3"),
        (lambda text: text.rpartition('{"text"')[0], "cut off after 1 tokens"),
        (lambda text: "".join(line + "\n" for line in text.splitlines() if '"id"' not in line), "not whole"),
        (lambda text: text.replace('"rank"', '"rnak"', 1), "damaged in line 2"),
        (lambda text: text.replace('"temperature": 0.7', '"temperature": -1'), "damaged in line 1"),
        (lambda text: text.replace('"temperature"', '"warmth"'), "no sampling setting 'warmth'"),
        (lambda text: text.replace('"bytes": "78"', '"bytes": "7"', 1), "damaged in line 2"),
        (lambda text: text.replace('"logsumexp": 2.5', '"logsumexp": NaN', 1), "line 2 is no JSON"),
        (lambda text: text.replace('"entropy": 0.5', '"entropy": -Infinity', 1), "line 2 is no JSON"),
    ],
)
def test_what_is_no_whole_trace_is_told(path: Path, change: Callable[[str], str], says: str) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert caught.value.exit_code == 1


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        read_trace(tmp_path / "none")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "binary")


def test_a_place_that_cannot_be_written_is_told(path: Path, tmp_path: Path) -> None:
    trace = read_trace(path)
    with pytest.raises(TraceError, match="cannot be written"):
        write_trace(tmp_path / "no" / "such" / "folder.jsonl", trace)


def test_settings_come_back_from_json() -> None:
    params = SamplingParams(temperature=1.5, logit_bias=((3, -math.inf), (4, 0.25)), order=("top_k", "temperature"))
    assert params_from(json.loads(json.dumps(params_document(params)))) == SamplingParams(
        temperature=1.5, logit_bias=((3, -math.inf), (4, 0.25)), order=("top_k", "temperature")
    )
