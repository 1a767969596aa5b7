"""`perplexity`: equal to single forward passes, exact where the answer is known, windows, and wrong input."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.commands.recorder import Recorder
from tests.engine.tiny_gguf import write_tiny
from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import LoadOptions
from tui_chat.errors import CancelledError, UsageError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.formulas import find_figure
from tui_chat.lessons.perplexity import perplexity
from tui_chat.lessons.report import HEAT, Flow, Tone
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.surprisal import read
from tui_chat.lessons.watch import Watch
from tui_chat.lessons.why import first_token
from tui_chat.models.resolve import builtin_path

TEXT = "A token is a small piece of text. The sky is 🚜 blue.\nWhy?"


@contextmanager
def scaled(folder: Path, factor: float) -> Iterator[Engine]:
    """A model of noise whose logits are multiplied by a factor, and whose vocabulary asks for BOS."""
    path = write_tiny(folder / "tiny.gguf", extra={"tokenizer.ggml.add_bos_token": True})
    tensors = gguf.GGUFReader(path, "r+").tensors
    next(tensor for tensor in tensors if tensor.name == "output_norm.weight").data[:] *= factor
    with Engine.load(path, LoadOptions(n_ctx=16, n_threads=1)) as engine:
        yield engine


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A model that finds every token equally likely."""
    with scaled(tmp_path_factory.mktemp("uniform"), 0) as engine:
        yield engine


def test_equals_the_sum_over_single_forward_passes(pocket: Engine) -> None:
    document = check("perplexity", perplexity(pocket, Watch(), TEXT).document)
    ids = pocket.vocab.tokenize(TEXT)
    nats = []
    with pocket.aside() as aside:
        for end in range(1, len(ids)):
            logits = aside.logits(ids[:end]).astype(np.float64)
            nats.append(math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[ids[end]])
    assert document["nll"] == pytest.approx(np.mean(nats), abs=1e-3)
    assert document["perplexity"] == pytest.approx(math.exp(document["nll"]))
    assert document["surprisals"] == [None, *(pytest.approx(value, abs=0.02) for value in nats)]
    assert (document["ids"], document["n_tokens"], document["n_text_tokens"]) == (ids, len(ids) - 1, len(ids))
    assert document["bits_per_byte"] == pytest.approx(
        sum(nats) / math.log(2) / (len(TEXT.encode()) - len(pocket.vocab.piece(ids[0]))), abs=1e-3
    )
    worst = document["least_expected"][0]
    assert worst["position"] == 1 + int(np.argmax(nats))
    assert worst["p"] == pytest.approx(math.exp(-worst["surprisal"]))


def test_agrees_with_why_of_an_answer(pocket: Engine) -> None:
    seen = first_token(pocket, Watch(), Scene().asking("What is a token?"))
    ids = [*(seen.prompt_ids or ()), *(token.id for token in seen.tokens)]
    nats = read(pocket, Watch(), ids, pocket.context.n_ctx).surprisal[-len(seen.tokens) :]
    assert find_figure("perplexity").work(seen).value == pytest.approx(math.exp(nats.mean()), rel=0.02)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(uniform: Engine) -> None:
    document = check("perplexity", perplexity(uniform, Watch(), "abcdef").document)
    n_vocab = uniform.info.n_vocab
    assert document["perplexity"] == pytest.approx(n_vocab, rel=1e-6)
    assert document["entropy"] == pytest.approx(math.log(n_vocab))
    assert document["bits_per_byte"] == pytest.approx(math.log2(n_vocab))
    assert (document["first_choice"], document["n_tokens"], document["bos"]) == (1.0, 6, True)


def test_with_bos_every_token_counts_even_a_single_one(uniform: Engine) -> None:
    assert perplexity(uniform, Watch(), "a").document["surprisals"] == [pytest.approx(math.log(uniform.info.n_vocab))]
    document = perplexity(uniform, Watch(), "a" * 31, n_ctx=16).document
    assert (document["windows"], document["n_tokens"], document["n_ctx"]) == (3, 31, 16)


def test_windows_do_not_overlap_and_begin_anew(pocket: Engine) -> None:
    ids = pocket.vocab.tokenize(TEXT * 2)[:23]
    whole = read(pocket, Watch(), ids, 8)
    assert whole.n_windows == 3
    assert np.flatnonzero(whole.rank == 0).tolist() == [0, 8, 16]
    assert np.flatnonzero(np.isnan(whole.surprisal)).tolist() == [0, 8, 16]
    for start in (0, 8, 16):
        alone = read(pocket, Watch(), ids[start : start + 8], 8)
        assert np.array_equal(alone.surprisal, whole.surprisal[start : start + 8], equal_nan=True)
    # A token left over for the last window has nothing before it.
    assert np.flatnonzero(read(pocket, Watch(), ids[:17], 8).rank == 0).tolist() == [0, 8, 16]


def test_a_window_has_512_tokens_unless_the_context_holds_fewer(uniform: Engine) -> None:
    with Engine.load(builtin_path(), LoadOptions(n_ctx=600, n_threads=1)) as larger:
        document = perplexity(larger, Watch(), "word " * 520).document
    assert (document["n_ctx"], document["windows"]) == (512, 2)
    assert perplexity(uniform, Watch(), "a" * 300).document["n_ctx"] == uniform.context.n_ctx < 512


def test_the_conversations_cache_stays_as_it_is(pocket: Engine) -> None:
    pocket.logits((5, 6, 7))
    perplexity(pocket, Watch(), TEXT)
    assert list(pocket.context.ids) == [5, 6, 7]


def test_every_token_is_on_the_map_with_its_tone_and_mark(pocket: Engine) -> None:
    report = perplexity(pocket, Watch(), TEXT)
    legend, flow = (block for block in report.blocks if isinstance(block, Flow))
    assert [span.tone for span in legend.spans[::2]] == [*HEAT, Tone.DIM]
    marks = {span.tone: span.text[-1] for span in legend.spans[::2]}
    document = report.document
    ids, values = document["ids"], document["surprisals"]
    assert isinstance(ids, list) and isinstance(values, list)
    bounds = [0.5, 0.1, 0.01, 0.0001]
    for span, token, nats in zip(flow.spans, ids, values, strict=True):
        level = None if nats is None else sum(math.exp(-nats) < bound for bound in bounds)
        assert span.tone == (Tone.DIM if level is None else HEAT[level])
        bare = span.text if level == 0 else span.text.replace(marks[span.tone], "", 1)
        piece = pocket.vocab.piece(token)
        assert bare == piece.decode() if piece.isascii() else "⟨" in bare


def test_of_a_long_text_the_beginning_and_the_most_telling_part_are_shown(pocket: Engine) -> None:
    report = perplexity(
        pocket, Watch(), "the same words again and " * 60 + "zq 7!x Kö" * 10 + "the same words " * 40, n_ctx=256
    )
    values = report.document["surprisals"]
    assert isinstance(values, list) and len(values) > 400
    nats = np.array([value or 0.0 for value in values])
    start = max(range(200, len(nats) - 119), key=lambda at: nats[at : at + 120].sum())
    text = "\n".join(text_of(line) for line in draw(report.blocks, 100))
    assert "the beginning, tokens 1 to 200" in text
    assert f"surprised most: tokens {start + 1:,} to {start + 120:,}" in text
    _legend, first, second = (block for block in report.blocks if isinstance(block, Flow))
    assert (len(first.spans), len(second.spans)) == (200, 120)
    assert f"read in {report.document['windows']} windows of at most 256 tokens" in text.replace("\n", " ")


def test_says_what_a_figure_beyond_the_vocabulary_means(uniform: Engine, tmp_path: Path) -> None:
    def text(engine: Engine) -> str:
        lines = draw(perplexity(engine, Watch(), "zq7x").blocks, 100)
        return " ".join(" ".join(map(text_of, lines)).split())

    with scaled(tmp_path, 1e4) as sure:
        assert "inf: worse than guessing among all" in text(sure)
        assert check("perplexity", perplexity(sure, Watch(), "zq7x").document)["perplexity"] is None
    unsure = text(uniform)
    assert "every token of the text counts" in unsure
    assert f"like guessing among so many equally likely tokens; the vocabulary has {uniform.info.n_vocab}" in unsure


def test_progress_is_told_and_it_can_be_stopped(pocket: Engine) -> None:
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        watch.cancel.set()

    watch = Watch(on_progress=say)
    with pytest.raises(CancelledError):
        perplexity(pocket, watch, TEXT * 4, n_ctx=16)
    assert len(told) == 1 and told[0].startswith("16 of ")


def test_bad_input(pocket: Engine) -> None:
    for text, n_ctx, words in (
        ("", None, "text is empty"),
        ("a", None, "single token"),
        (TEXT, 1, "from 2 to 512 tokens"),
        (TEXT, 513, "--n-ctx"),
    ):
        with pytest.raises(UsageError, match=words):
            perplexity(pocket, Watch(), text, n_ctx=n_ctx)


def test_on_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    assert run(["perplexity", str(file), "--ctx", "8", "--json"]) == 0
    from_file = check("perplexity", capsys.readouterr().out)
    assert from_file["n_ctx"] == 8
    assert run(["perplexity", "--text", TEXT, "--ctx", "8", "--json"]) == 0
    assert check("perplexity", capsys.readouterr().out)["nll"] == from_file["nll"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert run(["perplexity", "-"]) == 0
    assert "Where" not in (out := capsys.readouterr().out) and "What it expected least" in out


def test_a_window_is_not_the_context(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    load = Engine.load

    def note(*arguments: Any, **more: Any) -> Engine:
        loaded.append((engine := load(*arguments, **more)).info.n_ctx)
        return engine

    monkeypatch.setattr(Engine, "load", note)
    for n in (257, 1):
        assert run(["perplexity", "--text", TEXT, "--n-ctx", "256", "--ctx", str(n)]) == 2
        assert f"from 2 to 256 tokens, which the model's context was loaded with, not {n}" in capsys.readouterr().err
    assert run(["perplexity", "--text", TEXT, "--n-ctx", "256", "--ctx", "16", "--json"]) == 0
    assert check("perplexity", capsys.readouterr().out)["n_ctx"] == 16
    assert loaded == [256, 256, 256]


def test_what_is_no_text_is_refused_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "text.txt"

    def refusal(*arguments: str) -> str:
        assert run(["perplexity", *arguments]) == 2
        return capsys.readouterr().err

    file.write_bytes(b"ab\xffc")
    assert f"{file} is not UTF-8 text at byte 2 (0xff)" in refusal(str(file))
    file.write_bytes(b"GGUF\x03\x00\x00")
    assert "byte 5 is zero" in refusal(str(file))
    file.write_bytes(b"")
    assert f"{file} is empty" in refusal(str(file))
    for name in ("missing.txt", "the cat sat", "the cat sat " * 100):
        words = refusal(name)
        assert "there is no file '" in words and "put --text before it" in words and len(words) < 200
    assert "the text is empty" in refusal("")
    assert "name one text" in refusal()
    assert "name one text" in refusal("a.txt", "--text", "b")


def test_the_slash_command_takes_a_file_or_a_text(pocket: Engine, tmp_path: Path) -> None:
    registry, context = default_registry(), Recorder(engine=pocket)
    file = tmp_path / "my text.txt"
    file.write_text(TEXT, encoding="utf-8")
    for line in (f"/perplexity {file}", f"/perplexity '{file}'", f"/perplexity {TEXT}", "/perplexity 'and/or'"):
        registry.execute(line, context)
    nll = [report.document["nll"] for report in context.reports]
    assert nll[0] == nll[1] == nll[2] != nll[3]
    for line, words in (
        ("/perplexity", "name a file or give a text"),
        (f"/perplexity {tmp_path}/missing.txt", "is no file"),
        ("/perplexity missing.txt", "put quotes around it"),
    ):
        with pytest.raises(UsageError, match=words):
            registry.execute(line, context)
