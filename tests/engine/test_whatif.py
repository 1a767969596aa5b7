"""What other settings would have made of an answer: the same as choosing again from the same logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.generation import make_sampler
from tui_chat.engine.recent import RecentLogits, prefix_key
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.tracing import Tracer
from tui_chat.engine.types import (
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.engine.waterfall import Basis
from tui_chat.engine.whatif import Written, waterfall_at, what_if
from tui_chat.errors import SamplingError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine

N_CTX = 256
PROMPT = (5, 6, 7)
OFF = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)

SETTINGS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5]),
    top_k=st.sampled_from([0, 5, 40]),
    top_p=st.sampled_from([0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.3]),
    repeat_penalty=st.sampled_from([1.0, 1.3]),
    dry_multiplier=st.sampled_from([0.0, 0.8]),
    seed=st.sampled_from([0, 3]),
)


def written_by(
    params: SamplingParams, n: int = 20, n_vocab: int = 600, seed: int = 0, spread: float = 3, forced: int | None = None
) -> tuple[Written, list[np.ndarray], RecentLogits]:
    """An answer drawn from random distributions, the distributions, and what is kept of them."""
    rng = np.random.default_rng(seed)
    rows = [rng.normal(0, spread, n_vocab).astype(np.float32) for _ in range(n)]

    def make(params: SamplingParams, history: Sequence[int]) -> Sampler:
        return Sampler(params, n_vocab, N_CTX, history)

    tracer, recent = Tracer(n_vocab, 20), RecentLogits(n_vocab)
    ids, tokens, sampler = list(PROMPT), [], make(params, PROMPT)
    for index, row in enumerate(rows):
        choice = sampler.choose(row, len(ids))
        selection = recent.put(prefix_key(ids), row, choice.selection)
        trace = tracer.trace(row, tracer.measure(row, selection), choice, len(ids), b"", 0.0)
        tokens.append(GeneratedToken(choice.id, b"", trace, index == forced))
        sampler.accept(choice.id)
        ids.append(choice.id)
    sampler.close()
    return Written(PROMPT, tokens, [params] * n, n_vocab, make), rows, recent


def chosen_again(written: Written, rows: list[np.ndarray], params: SamplingParams) -> list[int]:
    """What these settings pick at every place, from the very logits."""
    picked = []
    for index, row in enumerate(rows):
        history = written.history(index)
        sampler = written.make_sampler(params, history)
        picked.append(sampler.choose(row, len(history)).id)
        sampler.close()
    return picked


@settings(max_examples=60)
@given(SETTINGS, SETTINGS, st.integers(0, 1000))
def test_exact_answers_are_what_choosing_again_gives(old: SamplingParams, new: SamplingParams, seed: int) -> None:
    written, rows, recent = written_by(old, seed=seed)
    expected = chosen_again(written, rows, new)
    outcomes = list(what_if(written, new, recent))
    assert [o.index for o in outcomes] == list(range(len(rows)))
    assert [o.would for o in outcomes if o.basis is Basis.EXACT] == [
        expected[o.index] for o in outcomes if o.basis is Basis.EXACT
    ]
    assert all(o.basis is not Basis.TRUNCATED for o in outcomes)
    assert all(o.differs == (o.would != written.tokens[o.index].id) for o in outcomes)
    if old == new:
        assert not any(o.differs for o in outcomes)


def test_with_its_own_settings_every_token_comes_out_as_it_did_even_far_down_the_tail() -> None:
    chaos = replace(OFF, temperature=2.0)
    written, _, recent = written_by(chaos, n=60, n_vocab=4000, spread=0.5)
    assert not any(o.differs for o in what_if(written, chaos, recent))
    for index in range(0, 60, 7):
        table = waterfall_at(written, index, chaos, recent)
        assert table is not None
        assert (table.picked, table.basis) == (written.tokens[index].id, Basis.EXACT)
        other = waterfall_at(written, index, replace(chaos, temperature=1.9), recent)
        assert other is not None
        assert other.basis is Basis.ROUNDED


def test_older_tokens_answer_from_their_best_and_say_so() -> None:
    written, rows, _ = written_by(SamplingParams(top_k=10), n=60)
    for new in (SamplingParams(top_k=10, temperature=1.4), SamplingParams(top_k=5), SamplingParams(temperature=0)):
        expected = chosen_again(written, rows, new)
        outcomes = list(what_if(written, new))
        assert {o.basis for o in outcomes} == {Basis.TRUNCATED}
        # With a top-k no larger than what a trace holds, nothing was lost with the rest.
        assert [o.would for o in outcomes] == expected


def test_what_is_beyond_the_known_tokens_is_not_named() -> None:
    written, rows, _ = written_by(replace(OFF, temperature=0.5), n=80, spread=1)
    new = replace(OFF, temperature=3)
    expected = chosen_again(written, rows, new)
    outcomes = list(what_if(written, new))
    for outcome in outcomes:
        trace = written.tokens[outcome.index].trace
        assert trace is not None
        assert outcome.would in {None, trace.id, *(token for token, _ in trace.top)}
    unknown = [o for o in outcomes if o.would is None]
    assert len(unknown) > 40
    beyond = [
        expected[o.index] not in {token for token, _ in written.tokens[o.index].trace.top}  # type: ignore[union-attr]
        for o in unknown
    ]
    assert np.mean(beyond) > 0.9


def test_a_truncated_waterfall_shows_the_known_tokens_alone() -> None:
    written, _, _ = written_by(SamplingParams())
    trace = written.tokens[4].trace
    assert trace is not None
    table = waterfall_at(written, 4, SamplingParams())
    assert table is not None
    assert (table.basis, table.n_rows, table.picked) == (
        Basis.TRUNCATED,
        len(dict(trace.top) | {trace.id: 0}),
        trace.id,
    )
    assert set(table.order(0, 100).tolist()) == {trace.id, *(token for token, _ in trace.top)}
    p = dict(zip([row.id for row in table.rows(0, 100)], [row.p[0] for row in table.rows(0, 100)], strict=True))
    for token, logit in trace.top:
        assert p[token] == pytest.approx(np.exp(logit - trace.logsumexp), abs=1e-4)


def test_the_penalties_of_a_token_see_the_old_prefix() -> None:
    written, rows, recent = written_by(SamplingParams(temperature=0), n=30, n_vocab=60)
    new = SamplingParams(temperature=0, repeat_penalty=5, repeat_last_n=-1)
    outcomes = list(what_if(written, new, recent))
    assert [o.would for o in outcomes] == chosen_again(written, rows, new)
    assert any(o.differs for o in outcomes)


def test_forced_tokens_are_not_asked_but_stand_in_the_prefix() -> None:
    written, _, recent = written_by(SamplingParams(), forced=3)
    outcomes = list(what_if(written, SamplingParams(temperature=1.5), recent))
    assert [o.index for o in outcomes] == [0, 1, 2, *range(4, 20)]
    assert all(o.basis is not Basis.TRUNCATED for o in outcomes)


def test_it_can_be_stopped() -> None:
    written, _, recent = written_by(SamplingParams())
    cancel = CancelFlag()
    asked = what_if(written, SamplingParams(top_k=1), recent, cancel)
    next(asked)
    cancel.set()
    assert list(asked) == []


def test_settings_that_leave_no_token_say_that_none_would_have_come() -> None:
    written, _, recent = written_by(SamplingParams(), n_vocab=50)
    nothing = SamplingParams(logit_bias=tuple((token, -np.inf) for token in range(50)))
    assert {o.would for o in what_if(written, nothing, recent)} == {None}


def answer_of(engine: Engine, params: SamplingParams, n: int = 40) -> tuple[list[int], list[GeneratedToken]]:
    prompt = engine.vocab.tokenize("A token is a piece")
    request = GenerationRequest(
        prompt_ids=tuple(prompt), params=params, limits=Limits(max_tokens=n, ignore_eos=True), top_n=20
    )
    tokens: list[GeneratedToken] = []
    for event in engine.generate(request):
        if isinstance(event, TokensGenerated):
            tokens += event.tokens
        assert not isinstance(event, GenerationFinished) or event.usage.generated == n
    return prompt, tokens


def test_a_real_answer_is_asked_and_its_waterfall_is_its_trace(pocket: Engine) -> None:
    params = SamplingParams(temperature=1.2, repeat_penalty=1.1)
    prompt, tokens = answer_of(pocket, params)
    make = partial(_make, pocket)
    written = Written(prompt, tokens, [params] * len(tokens), pocket.info.n_vocab, make)
    recent = pocket.recent
    assert recent is not None
    assert not any(o.differs for o in what_if(written, params, recent))
    for index, token in enumerate(tokens):
        table, trace = waterfall_at(written, index, params, recent), token.trace
        assert table is not None
        assert trace is not None
        assert (table.picked, table.u, table.basis) == (trace.id, trace.u, Basis.EXACT)
        assert [(c.name, c.survivors) for c in table.columns[1:]] == [(s.name, s.survivors) for s in trace.stages]
        for (token_id, p), shown in zip(trace.final, table.rows(0, len(trace.final)), strict=True):
            assert shown.id == token_id
            assert shown.p[-1] == pytest.approx(p, abs=1e-6)
        interval = table.row(trace.id).interval
        assert interval is not None
        assert interval[0] <= (trace.u or 0) < interval[1]
        assert table.columns[0].logsumexp == pytest.approx(trace.logsumexp, abs=1e-3)


def test_the_first_mark_is_where_a_real_run_with_the_new_settings_turns_off(pocket: Engine) -> None:
    old, new = SamplingParams(temperature=0.9), SamplingParams(temperature=1.3, top_p=0.8)
    prompt, tokens = answer_of(pocket, old)
    written = Written(prompt, tokens, [old] * len(tokens), pocket.info.n_vocab, partial(_make, pocket))
    mark = next(o for o in what_if(written, new, pocket.recent) if o.differs)
    _, again = answer_of(pocket, new)
    assert [t.id for t in again[: mark.index]] == [t.id for t in tokens[: mark.index]]
    assert again[mark.index].id == mark.would


def _make(engine: Engine, params: SamplingParams, before: Sequence[int]) -> Sampler:
    return make_sampler(params, Limits(ignore_eos=True), engine.info, engine.info.n_ctx, before)


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_learns_from_what_was_written(pocket: Engine, version: int) -> None:
    old = SamplingParams(temperature=1.0, mirostat=version, mirostat_tau=3)
    new = replace(old, mirostat_tau=1.5)
    prompt, tokens = answer_of(pocket, old, 60)
    written = Written(prompt, tokens, [old] * len(tokens), pocket.info.n_vocab, partial(_make, pocket))
    assert not any(o.differs for o in what_if(written, old, pocket.recent))
    table, trace = waterfall_at(written, 30, replace(old, seed=old.seed), pocket.recent), tokens[30].trace
    assert table is not None
    assert trace is not None
    assert [(c.name, c.survivors, c.note) for c in table.columns[1:]] == [
        (s.name, s.survivors, s.note) for s in trace.stages
    ]
    mark = next(o for o in what_if(written, new, pocket.recent) if o.differs)
    _, again = answer_of(pocket, new, 60)
    assert [t.id for t in again[: mark.index]] == [t.id for t in tokens[: mark.index]]
    assert again[mark.index].id == mark.would


def test_what_mirostat_learnt_from_truncated_tokens_is_marked() -> None:
    params = replace(OFF, mirostat=2, mirostat_tau=3)
    written, _, recent = written_by(params)
    kept = RecentLogits(written.n_vocab, 5)
    for index in range(15, 20):
        key = prefix_key(written.history(index))
        row = recent.get(key)
        assert row is not None
        kept.put(key, row.logits, None)
    outcomes = list(what_if(written, replace(params, mirostat_tau=4), kept))
    assert {o.basis for o in outcomes} == {Basis.TRUNCATED}


def test_how_a_prompt_was_expected_is_read_in_one_pass(pocket: Engine) -> None:
    ids = pocket.vocab.tokenize("What is a token? A token is a small piece of text that a model reads.")
    pocket.logits(ids[:3])
    cached = list(pocket.context.ids)
    traces = [trace for chunk in pocket.read(ids) for trace in chunk]
    assert list(pocket.context.ids) == cached
    assert [(t.position, t.id) for t in traces] == list(enumerate(ids))[1:]
    for trace in traces[::5]:
        logits = pocket.logits(ids[: trace.position])
        exact = logits.astype(np.float64)
        logsumexp = np.log(np.exp(exact - exact.max()).sum()) + exact.max()
        assert trace.surprisal == pytest.approx(logsumexp - exact[trace.id], abs=1e-3)
        assert trace.rank == 1 + np.count_nonzero(logits > logits[trace.id])
        assert [token for token, _ in trace.top[:3]] == np.argsort(-logits)[:3].tolist()
    middle = [trace for chunk in pocket.read(ids, 4, 9, top_n=3) for trace in chunk]
    assert [(t.position, t.id) for t in middle] == [(t.position, t.id) for t in traces[3:8]]
    assert [t.surprisal for t in middle] == pytest.approx([t.surprisal for t in traces[3:8]], abs=1e-3)
    assert {len(t.top) for t in middle} == {3}
    assert list(pocket.read(ids, 0, 1)) == []


def test_a_grammar_is_obeyed_at_every_place_up_to_the_first_token_it_refuses(pocket: Engine) -> None:
    prompt, tokens = answer_of(pocket, SamplingParams(temperature=0))
    letters = SamplingParams(temperature=0, grammar='root ::= [a-zA-Z ]* "."')

    def make(params: SamplingParams, before: Sequence[int]) -> Sampler:
        return Sampler(params, pocket.info.n_vocab, pocket.info.n_ctx, before, vocab=pocket.vocab)

    written = Written(prompt, tokens, [SamplingParams(temperature=0)] * len(tokens), pocket.info.n_vocab, make)
    outcomes = list(what_if(written, letters, pocket.recent))
    assert 0 < len(outcomes) < len(tokens)
    last = outcomes[-1]
    assert not any(o.differs for o in outcomes[:-1])
    assert last.differs
    table = waterfall_at(written, last.index, letters, pocket.recent)
    assert table is not None
    assert table.picked == last.would
    refused = table.row(last.id)
    assert refused.removed is not None
    assert (table.columns[refused.removed].name, str(refused.reason)) == (
        "grammar",
        "the grammar does not allow it here",
    )
    with pytest.raises(SamplingError, match="refuses"):
        waterfall_at(written, last.index + 1, letters, pocket.recent)
