"""Scores of a text: equal to float64 arithmetic, to one pass a token, and the same in whatever batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.engine import Engine
from tui_chat.engine.scoring import Scores, most_outputs, score_rows
from tui_chat.errors import CancelledError, DecodeError, PromptTooLongError

IDS = tuple(range(40, 110))


def surprisals(engine: Engine, n_outputs: int) -> np.ndarray:
    with engine.aside(128, n_outputs=n_outputs) as aside:
        return np.concatenate([scores.surprisal for scores in aside.score(IDS)])


@given(st.integers(1, 6), st.integers(2, 500), st.integers(0, 2**32 - 1), st.floats(0.01, 12))
def test_matches_float64(n: int, n_vocab: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (n, n_vocab)).astype(np.float32)
    targets = rng.integers(0, n_vocab, n)
    exact = logits.astype(np.float64)
    log_p = exact - exact.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    scores = score_rows(logits, targets)
    mine = exact[np.arange(n), targets]
    assert scores.surprisal == pytest.approx(-log_p[np.arange(n), targets], abs=2e-5)
    assert scores.entropy == pytest.approx(-(np.exp(log_p) * log_p).sum(axis=1), abs=5e-5)
    assert scores.rank.tolist() == (1 + (exact > mine[:, None]).sum(axis=1)).tolist()
    assert scores.best.tolist() == exact.argmax(axis=1).tolist()


def test_small_cases_by_hand() -> None:
    scores = score_rows(np.log(np.array([[1, 2, 1], [1, 1, 1]], np.float32)), np.array([0, 2]))
    assert scores.surprisal == pytest.approx([np.log(4), np.log(3)])
    assert scores.entropy == pytest.approx([1.5 * np.log(2), np.log(3)])
    assert (scores.rank.tolist(), scores.best.tolist()) == ([2, 1], [1, 0])


def test_what_the_model_rules_out_is_infinitely_surprising() -> None:
    scores = score_rows(np.array([[0, -np.inf, 0]], np.float32), np.array([1]))
    assert (scores.surprisal[0], scores.rank[0]) == (np.inf, 3)
    assert scores.entropy == pytest.approx([np.log(2)])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_are_named(broken: float) -> None:
    with pytest.raises(DecodeError, match=f"{broken} as a logit at position 8, for token 1"):
        score_rows(np.array([[0, 0, 1], [0, broken, 1]], np.float32), np.array([0, 0]), 7)


def test_batches_of_any_size_give_the_same_as_one_pass_a_token(engine: Engine) -> None:
    alone = []
    for end in range(1, len(IDS)):
        logits = engine.logits(IDS[:end]).astype(np.float64)
        alone.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[IDS[end]])
    for n_outputs in (1, 7, 32, 1000):
        assert surprisals(engine, n_outputs) == pytest.approx(alone, abs=1e-4)


def test_the_cache_is_emptied_and_too_much_is_refused(engine: Engine) -> None:
    with engine.aside(64, n_outputs=16) as aside:
        first, again = ([scores.surprisal.tolist() for scores in aside.score(IDS[:20])] for _ in range(2))
        assert first == again
        assert [len(batch) for batch in first] == [16, 3]
        assert list(aside.score(IDS[:1])) == []
        with pytest.raises(PromptTooLongError):
            aside.score(range(aside.context.n_ctx + 1))


def test_it_can_be_stopped_between_batches(engine: Engine) -> None:
    cancel = CancelFlag()
    with engine.aside(128, n_outputs=8) as aside:
        batches = aside.score(IDS, cancel)
        assert isinstance(next(batches), Scores)
        cancel.set()
        with pytest.raises(CancelledError):
            next(batches)


def test_logits_of_a_batch_take_at_most_64_megabytes() -> None:
    assert most_outputs(4096) == 256
    assert most_outputs(151_936) == 110
    assert most_outputs(1 << 28) == 1
