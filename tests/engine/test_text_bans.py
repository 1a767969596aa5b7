"""Bans of texts: none is ever completed, whatever the cut into tokens, and nothing else is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_chat.engine.engine import Engine
from tui_chat.engine.generation import make_sampler
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.text_bans import TextBans
from tui_chat.engine.types import GenerationRequest, Limits, SamplingParams, TokensGenerated
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.engine.waterfall import cascade
from tui_chat.engine.whatif import Written, waterfall_at, what_if
from tui_chat.errors import SamplingError
from tui_chat.lessons.recording import recorded
from tui_chat.lessons.replay import replay
from tui_chat.lessons.watch import Watch

NEUTRAL = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


def banning(*texts: str, **values: object) -> SamplingParams:
    return replace(NEUTRAL, logit_bias=tuple((text, -math.inf) for text in texts), **values)  # type: ignore[arg-type]


def completing(vocab: Vocabulary, answer: list[int], text: str) -> set[int]:
    """By trying every token: those that make the text stand once more in the answer."""
    before, needle = vocab.detokenize(answer), text.encode()
    tail = before[max(0, len(before) - len(needle) + 1) :]
    return {token for token, piece in enumerate(pieces_of(vocab)) if needle in tail + piece} - set(vocab.eog_ids)


@cache
def pieces_of(vocab: Vocabulary) -> list[bytes]:
    return [vocab.visible(token) for token in range(vocab.n_vocab)]


WORDS = ("the", "yes", " token", "aa", "aba", "model", "é", "日本", ". ", "e")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True), st.data())
def test_exactly_the_tokens_that_would_complete_a_text_are_refused(
    pocket: Engine, texts: list[str], data: st.DataObject
) -> None:
    vocab = pocket.vocab
    letters = [token for token in range(vocab.n_vocab) if len(vocab.piece(token)) < 3 and not vocab.is_control(token)]
    parts = [part for text in texts for part in vocab.tokenize(text)]
    spelled = [token for token in letters if any(vocab.piece(token) in text.encode() for text in texts)]
    answer = data.draw(st.lists(st.sampled_from(spelled + parts + letters[:20]), max_size=6))
    begun = data.draw(st.integers(0, len(answer)))
    bans = TextBans(vocab, texts, answer[:begun])
    for token in answer[begun:]:
        bans.accept(token)
    expected = set().union(*(completing(vocab, answer, text) for text in texts))
    assert set(bans.refused.tolist()) == expected


def test_a_banned_text_does_not_come_by_another_cut(pocket: Engine) -> None:
    vocab = pocket.vocab
    prompt = vocab.tokenize("say it: ")
    params = banning("yes", grammar='root ::= "yes" | "yet"', temperature=0.0)
    request = GenerationRequest(prompt_ids=tuple(prompt), params=params, limits=Limits(max_tokens=6))
    text = "".join(event.text for event in pocket.generate(request) if isinstance(event, TokensGenerated))
    assert text == "yet"
    only = replace(request, params=replace(params, grammar='root ::= "yes"'))
    with pytest.raises(SamplingError, match="the grammar allows only banned tokens as token 3 of the answer: lift"):
        list(pocket.generate(only))


def test_no_answer_holds_a_banned_text_at_any_temperature(pocket: Engine) -> None:
    prompt = tuple(pocket.vocab.tokenize("the "))
    for seed in range(3):
        params = banning("e", "to", temperature=1.5, top_k=50, seed=seed)
        limits = Limits(max_tokens=40, ignore_eos=True)
        request = GenerationRequest(prompt_ids=prompt, params=params, limits=limits)
        tokens = [t.id for e in pocket.generate(request) if isinstance(e, TokensGenerated) for t in e.tokens]
        text = pocket.vocab.detokenize(tokens)
        assert len(tokens) == 40 and b"e" not in text and b"to" not in text


@pytest.mark.parametrize("order", [NEUTRAL.order, ("grammar", "penalties", "logit_bias", "top_k", "temperature")])
def test_the_shortcut_leaves_what_the_whole_vocabulary_leaves(pocket: Engine, order: tuple[str, ...]) -> None:
    vocab, rng = pocket.vocab, np.random.default_rng(5)
    answer = [vocab.tokenize("on the")[0], vocab.find("t") or 0, vocab.find("h") or 0]
    for values in ({"top_k": 5}, {"min_p": 0.1}, {"top_p": 0.6}):
        params = banning("the", "an", "token", order=order, **values)
        sampler = Sampler(params, vocab.n_vocab, 512, answer, vocab=vocab, n_answer=3)
        try:
            for position in range(20):
                logits = rng.normal(0, 3, vocab.n_vocab).astype(np.float32)
                logits[[vocab.find("e") or 0, vocab.find(" the") or 0]] = 20
                quick = sampler.choose(logits, position)
                whole = sampler.choose(logits, position, prefilter=False)
                assert (quick.id, quick.ids.tolist()) == (whole.id, whole.ids.tolist())
                assert [s.survivors for s in quick.stages] == [s.survivors for s in whole.stages]
                assert not set(quick.ids.tolist()) & {vocab.find("e"), vocab.find(" the")}
        finally:
            sampler.close()


def test_the_waterfall_names_the_text(pocket: Engine) -> None:
    vocab = pocket.vocab
    answer = [token for letter in "ye" if (token := vocab.find(letter)) is not None]
    logits = np.zeros(vocab.n_vocab, np.float32)
    params = replace(banning("yes"), logit_bias=(("yes", -math.inf), (7, -math.inf)))
    sampler = Sampler(params, vocab.n_vocab, 64, answer, vocab=vocab, n_answer=2)
    try:
        table = cascade(sampler, logits, answer)
    finally:
        sampler.close()
    assert str(table.row(vocab.find("s") or 0).reason) == "banned: it would complete 'yes'"
    assert str(table.row(7).reason) == "banned"
    assert table.row(vocab.find("e") or 0).removed is None


def test_control_tokens_are_met_by_their_own_text_alone(pocket: Engine) -> None:
    end = pocket.vocab.find("<|im_end|>")
    assert end not in pocket.vocab.resolve("im", ban=True)
    assert pocket.vocab.resolve("<|im_end|>", ban=True) == (end,)


def test_an_answer_under_a_ban_can_be_asked_about_and_replayed(pocket: Engine) -> None:
    prompt = tuple(pocket.vocab.tokenize("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", parse_special=True))
    params = banning("the", "a ", top_k=20, seed=4)
    request = GenerationRequest(prompt_ids=prompt, params=params, limits=Limits(max_tokens=12, ignore_eos=True))
    tokens = [t for e in pocket.generate(request) if isinstance(e, TokensGenerated) for t in e.tokens]

    def make(asked: SamplingParams, history: object) -> Sampler:
        ids = list(history)  # type: ignore[call-overload]
        info = pocket.info
        n = len(ids) - len(prompt)
        return make_sampler(asked, request.limits, info, info.n_ctx, ids, vocab=pocket.vocab, n_answer=n)

    written = Written(prompt, tokens, [params] * len(tokens), pocket.info.n_vocab, make)
    free = replace(params, logit_bias=())
    marks = list(what_if(written, replace(params, top_k=19), pocket.recent))
    assert len(marks) == len(tokens)
    for index, token in enumerate(tokens):
        table = waterfall_at(written, index, params, pocket.recent)
        assert table is not None and token.trace is not None and table.picked == token.id
        assert [c.survivors for c in table.columns[1:]] == [s.survivors for s in token.trace.stages]
        assert waterfall_at(written, index, free, pocket.recent) is not None
    trace = recorded(
        pocket.info, prompt_ids=prompt, periods=[(0, params)], tokens=tokens, text="", usage=None, ignore_eos=True
    )
    assert replay(pocket, Watch(), trace, "t").document["same"]


def test_a_text_cannot_be_biased_and_needs_a_model() -> None:
    with pytest.raises(SamplingError, match="without a model 'x' is not a token"):
        Sampler(banning("x"), 5, 8)
    for wrong in (("x", 1.0), ("", -math.inf)):
        with pytest.raises(SamplingError, match="cannot be biased"):
            Sampler(replace(NEUTRAL, logit_bias=(wrong,)), 5, 8)
