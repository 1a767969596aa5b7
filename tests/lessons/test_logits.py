"""`logits`: the figures of one forward pass, and that it leaves the conversation's cache alone."""

from __future__ import annotations

import math
import os
import sys

import numpy as np
import pytest

from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.errors import CancelledError, PromptTooLongError, UsageError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.logits import logits
from tui_chat.lessons.watch import Watch


def ids_of(engine: Engine, text: str) -> tuple[int, ...]:
    return tuple(engine.vocab.tokenize(text, add_special=True, parse_special=True))


def test_figures_are_those_of_the_models_own_distribution(pocket: Engine) -> None:
    ids = ids_of(pocket, "What is a")
    document = check("logits", logits(pocket, Watch(), ids, n=7).document)
    values = pocket.logits(ids).astype(np.float64)
    logsumexp = values.max() + math.log(np.exp(values - values.max()).sum())
    p = np.exp(values - logsumexp)
    assert document["logsumexp"] == pytest.approx(logsumexp, abs=1e-4)
    assert document["entropy"] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    best = np.argsort(-values, kind="stable")[:7]
    assert [entry["id"] for entry in document["top"]] == best.tolist()
    assert [entry["rank"] for entry in document["top"]] == list(range(1, 8))
    assert [entry["p"] for entry in document["top"]] == pytest.approx(p[best].tolist(), abs=1e-5)
    assert document["greedy"]["id"] == best[0]
    assert (document["prompt_tokens"], document["prompt_ids"]) == (len(ids), list(ids))


def test_the_conversations_cache_stays_as_it_is(pocket: Engine) -> None:
    pocket.logits(ids_of(pocket, "one two three"))
    before, values = list(pocket.context.ids), pocket.context.logits().copy()
    logits(pocket, Watch(), ids_of(pocket, "something else"))
    assert list(pocket.context.ids) == before
    assert np.array_equal(pocket.context.logits(), values)
    assert pocket.context.append(before[-1])


def test_the_softmax_is_written_out_with_the_shown_figures(pocket: Engine) -> None:
    report = logits(pocket, Watch(), ids_of(pocket, "What is"))
    text = "\n".join(text_of(line) for line in draw(report.blocks, 100))
    p = report.document["top"][0]["p"]  # type: ignore[index]
    assert f"= {p:.4f}" in text and "e^(" in text
    assert "4,096 tokens" in text


def test_a_backtick_in_a_token_does_not_end_the_formula(pocket: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket.vocab, "piece", lambda token: b"a`b")
    text = "\n".join(text_of(line) for line in draw(logits(pocket, Watch(), (5,)).blocks, 100))
    assert "p(a'b) = e^(" in text


def test_bad_input(pocket: Engine) -> None:
    with pytest.raises(UsageError, match="no prompt"):
        logits(pocket, Watch(), ())
    with pytest.raises(UsageError, match="from 1 to 1000, not 0"):
        logits(pocket, Watch(), (1,), n=0)
    with pytest.raises(PromptTooLongError):
        logits(pocket, Watch(), (1,) * pocket.context.n_ctx)
    stopped = Watch()
    stopped.cancel.set()
    with pytest.raises(CancelledError):
        logits(pocket, stopped, (1, 2, 3))


def test_piped_in(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_chat.cli.scenes.PIPE_WAIT_S", 0.01)
    for content, prompt in ((b"Counting 1, 2\n", "Counting 1, 2"), (b"a\n\n", "a\n"), (b"", None), (None, None)):
        read, write = os.pipe()
        if content is not None:
            os.write(write, content)
            os.close(write)
        with open(read, encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert run(["logits", "--json"]) == 0
        if content is None:
            os.close(write)
        document = check("logits", capfd.readouterr().out)
        if prompt is None:
            assert "What is a token?" in document["prompt"] and document["prompt_tokens"] > 4
        else:
            assert document["prompt"] == prompt


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["logits", "What is", "-n", "3", "--json"]) == 0
    assert len(check("logits", capsys.readouterr().out)["top"]) == 3
    assert run(["logits", "What is"]) == 0
    assert "softmax" in capsys.readouterr().out
    for columns, widest in (("40", 40), ("400", 100), ("x", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(["logits", "What is"]) == 0
        longest = max(map(len, capsys.readouterr().out.splitlines()))
        assert widest - 15 < longest <= widest, columns
    assert run(["logits", ""]) == 2
    assert "the prompt is empty" in capsys.readouterr().err
    assert run(["logits", "a", "-n", "0"]) == 2
    assert run(["logits", "1 2 3 4 5", "--json"]) == 0
    document = check("logits", capsys.readouterr().out)
    assert document["prompt"] == "1 2 3 4 5" and len(document["top"]) == 5
    assert run(["logits", "--json"]) == 0
    raw = check("logits", capsys.readouterr().out)
    assert raw["prompt_tokens"] > 4
