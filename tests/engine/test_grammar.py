"""A grammar in the chain is exact, however few tokens it was asked about; and it never ends the process."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.native_chain import (
    N_CTX,
    BeyondFloat32Error,
    NativeChain,
    expected,
    random_logits,
    random_params,
    same,
)
from tui_chat.engine.engine import Engine
from tui_chat.engine.gbnf import NAMED, named
from tui_chat.engine.grammar import Grammar
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.tracing import Tracer
from tui_chat.engine.types import (
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    SamplingParams,
)
from tui_chat.errors import GrammarError, SamplingError

NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)
GRAMMARS = [*map(named, NAMED), "root ::= [^a]*", "root ::= .*", 'root ::= ("ä" | "é" | "日本")+ "!"']


def written(engine: Engine, grammar: str, r: random.Random) -> list[int]:
    """The beginning of a text that obeys a grammar."""
    found: list[int] = []
    walk = Grammar(engine.vocab, grammar)
    for _ in range(r.randint(0, 25)):
        allowed = [int(token) for token in walk.allowed() if token not in engine.vocab.eog_ids]
        if not allowed:
            break
        found.append(r.choice(allowed))
        walk.accept(found[-1])
    walk.close()
    return found


@pytest.fixture(scope="module")
def beginnings(pocket: Engine) -> list[tuple[str, list[int]]]:
    r = random.Random(5)
    return [(grammar, written(pocket, grammar, r)) for grammar in GRAMMARS for _ in range(12)]


def test_the_prefixes_find_what_llama_cpp_finds(pocket: Engine, beginnings: list[tuple[str, list[int]]]) -> None:
    everything = np.arange(pocket.vocab.n_vocab)
    counts = []
    for grammar, answer in beginnings:
        walk = Grammar(pocket.vocab, grammar, answer)
        allowed = walk.allowed()
        assert allowed.tolist() == everything[walk.allows(everything)].tolist()
        counts.append(len(allowed))
        walk.close()
    assert min(counts) < 10 and max(counts) > pocket.vocab.n_vocab / 2


@settings(max_examples=600, database=None)
@given(st.integers(0, 2**63 - 1))
def test_the_chain_with_a_grammar_equals_the_native_one(
    pocket: Engine, beginnings: list[tuple[str, list[int]]], seed: int
) -> None:
    r, rng = random.Random(seed), np.random.default_rng(seed)
    n_vocab = pocket.vocab.n_vocab
    grammar, answer = r.choice(beginnings)
    params = replace(random_params(r, n_vocab), grammar=grammar)
    logits = random_logits(rng, n_vocab)
    history = [*(r.randrange(50) for _ in range(20)), *answer]
    sampler = Sampler(params, n_vocab, N_CTX, history, vocab=pocket.vocab, n_answer=len(answer))
    try:
        choice = sampler.choose(logits, 7)
        plain = sampler.choose(logits, 7, prefilter=False)
    except SamplingError:  # the grammar refused all that the stages before it, in this order, had left
        return
    finally:
        sampler.close()
    if any(stage.note.startswith("it would have removed") for stage in choice.stages):
        return
    ours = dict(zip(choice.ids.tolist(), choice.p.tolist(), strict=True))
    try:
        theirs = expected(params, logits, history, pocket.vocab.handle, answer)
        assert any(same(ours, one) for one in theirs), params
    except BeyondFloat32Error:
        return
    assert choice.ids.tolist() == plain.ids.tolist() and choice.id == plain.id
    for quick, full in zip(choice.stages, plain.stages, strict=True):
        assert quick.survivors <= full.survivors if quick.at_least else quick.survivors == full.survivors


def test_what_a_grammar_took_away_is_exact_or_a_bound(pocket: Engine) -> None:
    n_vocab = pocket.vocab.n_vocab
    rng = np.random.default_rng(1)
    tracer = Tracer(n_vocab, 20)
    bounds = []
    for grammar, params in ((named("json"), SamplingParams()), ("root ::= [^a]*", SamplingParams())):
        logits = rng.normal(0, 3, n_vocab).astype(np.float32)
        sampler = Sampler(replace(params, grammar=grammar), n_vocab, N_CTX, vocab=pocket.vocab)
        choice = sampler.choose(logits, 0)
        trace = tracer.trace(logits, tracer.measure(logits), choice, 0, b"", 0)
        least, most = next(stage.lost for stage in trace.stages if stage.name == "grammar") or (2, -1)
        allowed = Grammar(pocket.vocab, grammar).allowed()
        exact = 1 - np.exp(logits[allowed].astype(np.float64) - trace.logsumexp).sum()
        assert least - 1e-6 <= exact <= most + 1e-6
        bounds.append(most - least)
        sampler.close()
    assert bounds[0] == 0 and 0 < bounds[1] < 1


def test_a_finished_text_lets_only_the_end_come(pocket: Engine) -> None:
    answer = pocket.vocab.tokenize('{"a":1}')
    walk = Grammar(pocket.vocab, named("json"), answer)
    assert set(walk.allowed().tolist()) == pocket.vocab.eog_ids
    walk.accept(min(pocket.vocab.eog_ids))
    walk.close()


def test_a_grammar_no_token_obeys_is_an_error_at_once(pocket: Engine) -> None:
    params = replace(NEUTRAL, grammar="root ::= [\\U00400000-\\U01FFFFFF]")  # no UTF-8
    sampler = Sampler(params, pocket.vocab.n_vocab, N_CTX, vocab=pocket.vocab)
    with pytest.raises(SamplingError, match="allows no token of this model as token 4 of the"):
        sampler.choose(np.zeros(pocket.vocab.n_vocab, np.float32), 3)
    sampler.close()


def test_bans_and_a_grammar_that_contradict_each_other_are_an_error(pocket: Engine) -> None:
    yes = Grammar(pocket.vocab, 'root ::= "yes"').allowed().tolist()
    params = replace(NEUTRAL, grammar='root ::= "yes"', logit_bias=tuple((token, -np.inf) for token in yes))
    for order in (params.order, ("grammar", "logit_bias")):
        sampler = Sampler(replace(params, order=order), pocket.vocab.n_vocab, N_CTX, vocab=pocket.vocab)
        for prefilter in (True, False):
            with pytest.raises(SamplingError, match="allows only banned tokens as token 4 of the"):
                sampler.choose(np.zeros(pocket.vocab.n_vocab, np.float32), 3, prefilter=prefilter)
        sampler.close()


def test_a_refused_token_is_an_error_and_changes_nothing(pocket: Engine) -> None:
    walk = Grammar(pocket.vocab, 'root ::= "yes" | "no"')
    no, maybe = (pocket.vocab.tokenize(text)[0] for text in ("no", "!"))
    before = walk.allowed().tolist()
    with pytest.raises(SamplingError, match="refuses '!' as token 1 of the answer"):
        walk.accept(maybe)
    assert walk.allowed().tolist() == before
    walk.accept(no)
    walk.close()
    with pytest.raises(SamplingError, match="token 2 of the answer"):
        Grammar(pocket.vocab, 'root ::= "no"', [no, maybe])


def test_a_token_named_whole_must_be_one(pocket: Engine) -> None:
    walk = Grammar(pocket.vocab, 'root ::= <think> "x"')
    assert walk.allowed().tolist() == [pocket.vocab.find("<think>")]
    walk.close()
    with pytest.raises(GrammarError, match="line 1, column 10: <thought> is no token"):
        Grammar(pocket.vocab, "root ::= <thought>")


def test_an_answer_obeys_and_ends_by_itself(pocket: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    ids = tuple(pocket.vocab.tokenize("What is a token?"))
    params = SamplingParams(grammar='root ::= "{" [a-z ]{3,20} "}"', seed=3)
    request = GenerationRequest(prompt_ids=ids, params=params, limits=Limits(max_tokens=60))
    tokens: list[GeneratedToken] = []
    for event in pocket.generate(request):
        tokens += getattr(event, "tokens", ())
        if isinstance(event, GenerationFinished):
            assert event.reason is FinishReason.EOS
    text = b"".join(token.piece for token in tokens).decode()
    assert text[0] == "{" and text[-1] == "}" and 3 <= len(text) - 2 <= 20
    # From the middle on, the grammar goes on where the answer stands.
    half = tuple(token.id for token in tokens[: len(tokens) // 2])
    again = GenerationRequest(prompt_ids=ids + half, n_prefilled=len(half), params=params, limits=Limits(max_tokens=60))
    rest = [token for event in pocket.generate(again) for token in getattr(event, "tokens", ())]
    assert [token.id for token in rest] == [token.id for token in tokens]
    assert capfd.readouterr().err == ""


def test_without_a_model_a_grammar_is_refused() -> None:
    with pytest.raises(SamplingError, match="without a model"):
        Sampler(replace(NEUTRAL, grammar='root ::= "a"'), 5, N_CTX)


def test_the_reference_knows_the_grammar(pocket: Engine) -> None:
    params = replace(NEUTRAL, grammar='root ::= "yes"')
    chain = NativeChain(params, pocket.vocab.n_vocab, (), pocket.vocab.handle)
    assert 0 < len(chain.apply(np.zeros(pocket.vocab.n_vocab, np.float32))) < 5
    chain.close()
