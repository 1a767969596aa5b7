"""`replay` and `generate --trace FILE`: the same again on the built-in model, and every kind of difference."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.trace_file import PERIODS, AnswerTrace, params_document, read_trace, write_trace
from tui_chat.cli.program import run
from tui_chat.engine.gguf import fingerprint
from tui_chat.engine.types import GeneratedToken
from tui_chat.models.resolve import builtin_path

Told = tuple[int, str, str]

pytestmark = pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def call(*arguments: object) -> Told:
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of an answer of the built-in model that ends by itself."""
    path = tmp_path_factory.mktemp("traces") / "answer.jsonl"
    assert run(["generate", "What is a token?", "--seed", "3", "--trace", str(path), "--model", "builtin"]) == 0
    return path


def altered(written: Path, tmp_path: Path, change: Callable[[AnswerTrace], AnswerTrace]) -> Path:
    path = tmp_path / f"altered-{len(list(tmp_path.iterdir()))}.jsonl"
    write_trace(path, change(read_trace(written)))
    return path


def with_token(trace: AnswerTrace, index: int, **changes: object) -> AnswerTrace:
    """The trace with other figures of one token."""
    tokens = list(trace.tokens)
    old = tokens[index]
    assert old.trace is not None
    new = replace(old.trace, **changes)  # type: ignore[arg-type]
    tokens[index] = GeneratedToken(new.id, old.piece, new)
    return replace(trace, tokens=tuple(tokens))


def difference(tell: Callable[..., Told], path: Path, *more: object) -> dict[str, Any]:
    status, out, err = tell("replay", path, "--json", *more)
    assert (status, err) == (1, "")
    document = json.loads(out)
    assert document["same"] is False
    return document["difference"]  # type: ignore[no-any-return]


def test_a_trace_holds_what_made_the_answer(written: Path, tell: Callable[..., Told], tmp_path: Path) -> None:
    trace = read_trace(written)
    status, out, _ = tell("generate", "What is a token?", "--seed", 3, "--json", "--model", "builtin")
    told = json.loads(out)
    assert status == 0
    assert [token.id for token in trace.tokens] == told["ids"]
    assert (trace.text, str(trace.finish_reason)) == (told["text"], told["finish_reason"]) and told[
        "finish_reason"
    ] == "eos"
    assert len(trace.prompt_ids) == told["usage"]["prompt"] and trace.chunks == ((len(trace.prompt_ids), 1),)
    assert trace.end is not None and trace.end.trace is not None
    ((first, params),) = trace.periods
    assert (first, params.seed) == (0, 3)
    assert trace.model.sha256 == fingerprint(builtin_path())
    assert [token.trace.u for token in trace.tokens if token.trace] == [token["u"] for token in told["tokens"]]


def test_replay_finds_all_the_same(written: Path, tell: Callable[..., Told]) -> None:
    status, out, err = tell("replay", written, "--tolerance", 0)
    assert (status, err) == (0, "")
    assert out.startswith("The same: every id")
    status, out, _ = tell("replay", written, "--json")
    document = json.loads(out)
    assert status == 0 and document["same"] and document["difference"] is None
    assert document["compared"] == document["tokens"] + 1  # the end token was drawn too
    assert (document["given"], document["largest_difference"]) == (0, 0.0)


@pytest.mark.parametrize("flags", [("--temperature", 0), ("--repeat-penalty", 1.3, "--xtc-probability", 0.5)])
def test_other_settings_and_limits_replay_too(
    flags: tuple[object, ...], tell: Callable[..., Told], tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    limits = ("--max-tokens", 30, "--ignore-eos", "--n-ctx", 256, "--kv-type", "f32", "--flash-attn", "off")
    assert tell("generate", "hi", "--seed", 1, "--trace", path, "--model", "builtin", *flags, *limits)[0] == 0
    assert len(read_trace(path).tokens) == 30
    assert tell("replay", path, "--tolerance", 0)[0] == 0


def test_the_first_difference_is_named(written: Path, tell: Callable[..., Told], tmp_path: Path) -> None:
    trace = read_trace(written)
    token = trace.tokens[4].trace
    assert token is not None
    moved = altered(written, tmp_path, lambda t: with_token(t, 4, logsumexp=token.logsumexp + 0.01))
    found = difference(tell, moved)
    assert (found["index"], found["position"], found["figure"]) == (4, token.position, "logsumexp")
    assert found["recorded"] - found["replayed"] == pytest.approx(0.01)
    assert tell("replay", moved, "--tolerance", 0.1)[0] == 0
    best, logit = token.top[2]
    top = (*token.top[:2], (best, logit - 1.0), *token.top[3:])
    found = difference(tell, altered(written, tmp_path, lambda t: with_token(t, 4, top=top)))
    assert found["figure"] == f"logit of {best}"
    assert difference(tell, altered(written, tmp_path, lambda t: with_token(t, 6, u=0.123)))["figure"] == "u"
    other = next(i for i, _ in token.top if i != token.id)
    swapped = altered(written, tmp_path, lambda t: with_token(t, 4, id=other, logit=dict(token.top)[other]))
    found = difference(tell, swapped)
    assert (found["figure"], found["recorded"], found["replayed"]) == ("id", other, token.id)
    status, out, _ = tell("replay", swapped)
    assert status == 1 and f"token 5 of the answer on (position {token.position}" in out
    longer = altered(written, tmp_path, lambda t: replace(t, tokens=(*t.tokens, t.tokens[-1]), end=None))
    assert difference(tell, longer)["index"] == len(trace.tokens)


def test_a_trace_of_another_model_is_refused(
    written: Path, noise_path: Path, tell: Callable[..., Told], tmp_path: Path
) -> None:
    status, out, err = tell("replay", written, "--model", noise_path)
    assert (status, out) == (1, "")
    assert "is a trace of another model: pocket" in err and err.count("\n") == 1
    # The same shape and header with other weights is another model too.
    other = tmp_path / "other.gguf"
    shutil.copyfile(builtin_path(), other)
    with other.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(b"\x55" * 100)
    assert fingerprint(other) != fingerprint(builtin_path())
    assert tell("replay", written, "--model", other)[0] == 1


def test_a_model_that_moved_is_asked_for_and_the_built_in_one_is_found(
    written: Path, tell: Callable[..., Told], tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.gguf")
    moved = altered(written, tmp_path, lambda t: replace(t, model=replace(t.model, path=gone)))
    assert tell("replay", moved)[0] == 0
    # What a stranger's trace names is never fetched.
    unknown = altered(
        written, tmp_path, lambda t: replace(t, model=replace(t.model, path="someone/repo:file.gguf", sha256="0" * 64))
    )
    status, _, err = tell("replay", unknown)
    assert status == 1 and "is not at someone/repo:file.gguf: name its file with --model" in err
    assert tell("replay", moved, "--model", builtin_path())[0] == 0


def test_a_token_that_the_model_does_not_have_is_told(written: Path, tell: Callable[..., Told], tmp_path: Path) -> None:
    for broken in (
        altered(written, tmp_path, lambda t: replace(t, prompt_ids=(*t.prompt_ids[:-1], 10**6))),
        altered(written, tmp_path, lambda t: with_token(t, 1, id=-1)),
    ):
        status, _, err = tell("replay", broken)
        assert status == 1 and f"{broken} is damaged: it names token" in err and "the vocabulary ends at" in err


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (r'"chunks": \[\[\d+, 1\]\]', '"chunks": [[9, -1]]'),
        (r'"chunks": \[\[\d+, 1\]\]', '"chunks": [[0, 1]]'),
        (r'"n_given": 0', '"n_given": 999'),
        (r'"logsumexp": [\d.]+', '"logsumexp": "nan"'),
        (r'"logsumexp": [\d.]+', '"logsumexp": 1e999'),
        (r'"logit": [\d.]+', '"logit": NaN'),
        (r'"top": \[\[(\d+), [\d.]+\]', r'"top": [[\1, "nan"]'),
        (r'"u": [\d.]+', '"u": "nan"'),
    ],
)
def test_figures_that_are_none_are_damage(
    written: Path, tell: Callable[..., Told], tmp_path: Path, was: str, now: str
) -> None:
    broken = tmp_path / "broken.jsonl"
    text, n = re.subn(was, now, written.read_text(encoding="utf-8"), count=1)
    assert n == 1
    broken.write_text(text, encoding="utf-8")
    status, out, err = tell("replay", broken)
    assert (status, out) == (1, "") and "damaged" in err and "line " in err


def test_chunks_that_do_not_fit_are_not_unrolled(written: Path, tell: Callable[..., Told], tmp_path: Path) -> None:
    huge = altered(written, tmp_path, lambda trace: replace(trace, chunks=((9, 10**9),)))
    assert tell("replay", huge)[0] == 0


def test_what_an_interrupted_fork_kept_is_not_drawn_again(written: Path) -> None:
    """The run that was stopped left no counts: how much was kept says where it began."""
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import GenerationRequest, Limits, LoadOptions, SamplingParams, TokensGenerated
    from tui_chat.lessons.recording import recorded_message
    from tui_chat.lessons.replay import replay
    from tui_chat.lessons.watch import Watch

    trace = read_trace(written)
    cold = SamplingParams(seed=3, temperature=0.0)
    with Engine.load(builtin_path(), LoadOptions(n_threads=1)) as engine:
        put_in = GeneratedToken(70, engine.vocab.piece(70), None, forced=True)
        kept = (*trace.tokens[:5], put_in)
        ids = (*trace.prompt_ids, *(token.id for token in kept))
        request = GenerationRequest(prompt_ids=ids, n_prefilled=6, kept=kept, params=cold, limits=Limits(max_tokens=4))
        tokens = [t for e in engine.generate(request) if isinstance(e, TokensGenerated) for t in e.tokens]
        fork = Message(
            id="m", role=Role.ASSISTANT, text="", ids=tuple(token.id for token in tokens), prompt_ids=trace.prompt_ids,
            model=engine.info.name, n_kept=5, settings={PERIODS: [[0, params_document(cold)]]},
        )  # fmt: skip
        again = recorded_message(engine.info, fork, tokens)
        assert (again.n_given, len(again.tokens)) == (6, 10)
        assert replay(engine, Watch(), again, "t").document["same"]


def test_another_version_is_told(written: Path, tell: Callable[..., Told], tmp_path: Path) -> None:
    newer = tmp_path / "newer.jsonl"
    newer.write_text(written.read_text(encoding="utf-8").replace('"version": 1', '"version": 2', 1), encoding="utf-8")
    status, out, err = tell("replay", newer)
    assert (status, out) == (1, "") and "a trace of version 2" in err
    older = altered(written, tmp_path, lambda t: replace(t, library="llama-cpp-python 0.3.1"))
    status, out, _ = tell("replay", older)
    assert status == 0 and "recorded by tui-chat" in out and "0.3.1" in " ".join(out.split())
    assert tell("replay", tmp_path / "none.jsonl")[0] == 1


def test_trace_keeps_its_meaning_without_a_file(tell: Callable[..., Told], noise_path: Path, tmp_path: Path) -> None:
    more = ("--max-tokens", 3, "--ignore-eos", "--seed", 1, "--model", noise_path)
    after = tell("generate", "x", *more, "--trace")
    before = tell("generate", "--trace", "x", *more)
    assert after == before and after[0] == 0 and "entropy" in after[1]
    path = tmp_path / "t.jsonl"
    status, out, err = tell("generate", "--trace", path, "x", *more, "--json")
    assert (status, err) == (0, "") and len(json.loads(out)["ids"]) == 3
    assert len(read_trace(path).tokens) == 3
    status, out, _ = tell("generate", "x", *more, f"--trace={path}")
    assert status == 0 and "entropy" not in out
    assert tell("generate", *more)[0] == tell("generate", "--trace")[0] == 2
    status, out, err = tell("generate", "x", *more, "--trace", tmp_path / "no" / "t.jsonl")
    assert status == 1 and "cannot be written" in err


def test_the_report_is_one_for_all_readers(written: Path) -> None:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import LoadOptions
    from tui_chat.lessons.replay import replay
    from tui_chat.lessons.watch import Watch

    with Engine.load(builtin_path(), LoadOptions(n_threads=1)) as engine:
        engine.logits([1, 2, 3])
        report = replay(engine, Watch(), read_trace(written), "t")
        assert report.document["same"] is True
        assert list(engine.context.ids) == [1, 2, 3]
