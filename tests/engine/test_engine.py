"""The engine on a real, if senseless, model: caching, rewinding, limits, reproducible draws."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    LoadOptions,
    PrefillProgressed,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.errors import CancelledError, DecodeError, ModelLoadError, ModelMemoryError, PromptTooLongError

PROMPT = tuple(range(40, 100))
PARAMS = SamplingParams(temperature=1.0, top_k=50, seed=11)


def request(
    prompt: Iterable[int] = PROMPT, *, n: int = 12, params: SamplingParams = PARAMS, **limits: object
) -> GenerationRequest:
    limit = Limits(**{"max_tokens": n, "ignore_eos": True, **limits})  # type: ignore[arg-type]
    return GenerationRequest(prompt_ids=tuple(prompt), params=params, limits=limit)


def tokens(events: Iterable[EngineEvent]) -> list[GeneratedToken]:
    return [token for event in events if isinstance(event, TokensGenerated) for token in event.tokens]


def ids(events: Iterable[EngineEvent]) -> list[int]:
    return [token.id for token in tokens(events)]


def finished(events: Iterable[EngineEvent]) -> GenerationFinished:
    last = list(events)[-1]
    assert isinstance(last, GenerationFinished)
    return last


def test_tokenizes_bytes_and_special_tokens(engine: Engine) -> None:
    vocab = engine.vocab
    found = vocab.tokenize("<|im_start|>the the\u20ac", parse_special=True)
    assert found[0] == vocab.find("<|im_start|>")
    assert b"".join(vocab.piece(token) for token in found) == "<|im_start|>the the\u20ac".encode()
    assert vocab.detokenize(found) == "the the\u20ac".encode()
    assert len(vocab.tokenize("<|im_start|>")) > 1
    assert vocab.find("no such token") is None
    assert vocab.is_control(found[0]) and not vocab.is_control(vocab.find("<think>") or 0)
    assert vocab.is_special(vocab.find("<think>") or 0)
    assert len(vocab.pieces()) == vocab.n_vocab == 600
    with pytest.raises(IndexError):
        vocab.piece(600)


def test_every_token_has_a_trace_that_explains_it(engine: Engine) -> None:
    events = list(engine.generate(request()))
    assert finished(events).usage.generated == 12
    for number, token in enumerate(tokens(events)):
        trace = token.trace
        assert trace is not None
        assert (trace.position, trace.id) == (len(PROMPT) + number, token.id)
        exact = engine.logits([*PROMPT, *(t.id for t in tokens(events)[:number])]).astype(np.float64)
        assert trace.logit == pytest.approx(exact[token.id], abs=1e-4)
        assert trace.rank == 1 + int((exact > exact[token.id]).sum())
        assert trace.u is not None
        cumulative = np.cumsum([p for _, p in trace.final])
        place = [t for t, _ in trace.final].index(token.id) if token.id in dict(trace.final) else None
        if place is not None:
            assert (cumulative[place - 1] if place else 0.0) <= trace.u < cumulative[place] + 1e-9


def test_a_second_turn_evaluates_only_what_is_new(engine: Engine) -> None:
    first = list(engine.generate(request(n=5)))
    answer = ids(first)
    longer = (*PROMPT, *answer, *range(10))
    second = list(engine.generate(request(longer, n=1)))
    # The last token of an answer is drawn but not evaluated until something follows it.
    assert finished(second).usage.reused == len(PROMPT) + 4
    assert finished(first).usage.reused == 0


def test_prefill_reports_chunks(engine: Engine) -> None:
    progress = [e for e in engine.generate(request(range(100), n=1)) if isinstance(e, PrefillProgressed)]
    assert [e.done for e in progress] == [0, 32, 64, 96, 100]
    assert {e.total for e in progress} == {100}


def test_same_seed_and_prefix_give_the_same_tokens_however_one_got_there(engine: Engine, noise_path: Path) -> None:
    original = ids(engine.generate(request()))
    assert ids(engine.generate(request())) == original
    engine.context.rewind(10)
    assert ids(engine.generate(request())) == original
    assert ids(engine.generate(request((*PROMPT, *original[:4]), n=8))) == original[4:]
    with Engine.load(noise_path, LoadOptions(n_ctx=256, type_k="f32", type_v="f32")) as fresh:
        assert ids(fresh.generate(request())) == original
    assert ids(engine.generate(request(params=replace(PARAMS, seed=12)))) != original


def test_continuing_a_prefix_has_the_logits_of_a_fresh_run(engine: Engine, noise_path: Path) -> None:
    spliced = [*PROMPT, 5, 6, 7]
    list(engine.generate(request(n=20)))
    after_rewind = engine.logits(spliced)
    with Engine.load(noise_path, LoadOptions(n_ctx=256, type_k="f32", type_v="f32")) as fresh:
        assert np.abs(after_rewind - fresh.logits(spliced)).max() < 1e-4


def test_changed_settings_act_at_the_next_token(engine: Engine) -> None:
    live = LiveParams(replace(PARAMS, temperature=1.0))
    greedy_from = None
    seen: list[GeneratedToken] = []
    for event in engine.generate(request(n=40), live=live):
        if isinstance(event, TokensGenerated):
            seen += event.tokens
            if greedy_from is None:
                greedy_from = len(seen)
                live.params = replace(PARAMS, temperature=0)
    assert greedy_from is not None
    traces = [token.trace for token in seen]
    assert all(trace and trace.u is not None for trace in traces[:greedy_from])
    assert all(trace and trace.u is None and trace.rank == 1 for trace in traces[greedy_from:])


def test_settings_changed_and_changed_back_leave_no_mark(engine: Engine) -> None:
    params = replace(PARAMS, repeat_penalty=1.3, frequency_penalty=0.2)
    plain = ids(engine.generate(request(n=30, params=params)))
    live = LiveParams(params)
    again: list[int] = []
    for event in engine.generate(request(n=30, params=params), live=live):
        if isinstance(event, TokensGenerated):
            again += [token.id for token in event.tokens]
            live.params = replace(params)
    assert again == plain


def test_ends_at_max_tokens_and_at_the_end_of_the_context(engine: Engine) -> None:
    assert finished(engine.generate(request(n=3))).reason is FinishReason.LENGTH
    full = list(engine.generate(request(range(250), n=100)))
    assert finished(full).reason is FinishReason.LENGTH
    assert finished(full).usage.generated == 6


def test_ends_at_the_end_of_generation_token(engine: Engine) -> None:
    eos = engine.info.eos_id
    assert eos is not None
    wants_eos = replace(PARAMS, logit_bias=((eos, 1000.0),))
    end = finished(engine.generate(request(params=wants_eos, ignore_eos=False)))
    assert (end.reason, end.usage.generated) == (FinishReason.EOS, 0)
    assert end.end is not None and end.end.id == eos and end.end.trace is not None
    banned = ids(engine.generate(request(params=wants_eos, n=5)))
    assert len(banned) == 5 and eos not in banned


def test_the_configured_eos_token_ends_an_answer_too(noise_path: Path) -> None:
    with Engine.load(noise_path, LoadOptions(n_ctx=64, eos_token=" the")) as engine:
        the = engine.vocab.find(" the")
        assert the in engine.info.eog_ids
        forced = replace(PARAMS, logit_bias=((the or 0, 1000.0),))
        assert finished(engine.generate(request([1], params=forced, ignore_eos=False))).reason is FinishReason.EOS


def test_an_eos_token_the_vocabulary_lacks_is_an_error(noise_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"no token '</s>'.*tokenizer.eos_token"):
        Engine.load(noise_path, LoadOptions(eos_token="</s>"))


def test_stop_strings_across_token_borders(engine: Engine) -> None:
    h, e = engine.vocab.tokenize("h")[0], engine.vocab.tokenize("e")[0]
    params = replace(PARAMS, temperature=0, logit_bias=((h, 600.0), (e, 560.0)), presence_penalty=80, repeat_last_n=1)
    events = list(engine.generate(request(params=params, n=30, stop=("heh",))))
    assert finished(events).reason is FinishReason.STOP
    assert "".join(ev.text for ev in events if isinstance(ev, TokensGenerated)) == ""
    assert finished(events).usage.generated == 3


def test_time_and_confidence_limits(engine: Engine) -> None:
    assert finished(engine.generate(request(time_limit_s=0.0, n=100))).reason is FinishReason.TIME
    unsure = list(engine.generate(request(min_confidence=0.999)))
    assert (finished(unsure).reason, ids(unsure)) == (FinishReason.CONFIDENCE, [])
    assert finished(engine.generate(request(min_confidence=1e-9, n=4))).reason is FinishReason.LENGTH


def test_stops_in_decode_and_in_prefill(engine: Engine) -> None:
    cancel = CancelFlag()
    seen = []
    for event in engine.generate(request(n=1000), cancel=cancel):
        seen.append(event)
        if isinstance(event, TokensGenerated):
            cancel.set()
    assert finished(seen).reason is FinishReason.CANCELLED
    cancel.clear()
    seen = []
    for event in engine.generate(request(range(200, 400)), cancel=cancel):
        seen.append(event)
        if isinstance(event, PrefillProgressed) and event.done == 64:
            cancel.set()
    assert finished(seen).reason is FinishReason.CANCELLED
    assert list(engine.context.ids) == list(range(200, 264))
    assert len(ids(engine.generate(request(range(200, 400), n=3)))) == 3


def test_the_abort_flag_stops_llama_cpp_inside_a_batch(engine: Engine) -> None:
    cancel = CancelFlag()
    cancel.set()
    engine._native.abort_with(cancel)
    assert engine._native.decode(range(30), 0, logits=True) is False
    engine._native.abort_with(None)
    assert engine._native.decode(range(30), 0, logits=True) is True


def test_a_prompt_too_long_gives_both_numbers(engine: Engine) -> None:
    with pytest.raises(PromptTooLongError, match=r"300 tokens.*holds 256"):
        list(engine.generate(request(range(300))))
    assert len(ids(engine.generate(request(n=2)))) == 2


def test_loading_can_be_given_up(noise_path: Path) -> None:
    with pytest.raises(CancelledError):
        Engine.load(noise_path, LoadOptions(), on_progress=lambda _: False)


def test_memory_stays_flat_over_twenty_loads(noise_path: Path) -> None:
    process = psutil.Process()

    def cycle() -> None:
        with Engine.load(noise_path, LoadOptions(n_ctx=512)) as engine:
            list(engine.generate(request(n=3)))

    for _ in range(5):
        cycle()
    gc.collect()
    before = process.memory_info().rss
    for _ in range(20):
        cycle()
    gc.collect()
    assert process.memory_info().rss - before < 4 << 20


def test_text_of_split_characters_arrives_whole(engine: Engine) -> None:
    euro = engine.vocab.tokenize("\u20ac")
    params = replace(
        PARAMS, temperature=0, logit_bias=tuple((t, 600.0 - 20 * i) for i, t in enumerate(euro)), presence_penalty=90
    )
    events = list(engine.generate(request(params=params, n=3)))
    assert ids(events) == euro
    assert "".join(ev.text for ev in events if isinstance(ev, TokensGenerated)) == "\u20ac"


def test_a_context_that_memory_cannot_hold_is_refused_with_both_sizes(noise_path: Path) -> None:
    with pytest.raises(ModelMemoryError, match=r"2000000000 tokens needs .* GiB .* are free: lower n_ctx"):
        Engine.load(noise_path, LoadOptions(n_ctx=2_000_000_000))


def test_the_abort_flag_of_a_finished_answer_is_forgotten(engine: Engine) -> None:
    cancel = CancelFlag()
    list(engine.generate(request(n=2), cancel=cancel))
    cancel.set()
    engine.bare_decode(range(30), batch=1)
    assert engine.logits(PROMPT).shape == (600,)


def test_broken_logits_are_named_before_a_confidence_limit_is_applied(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.context, "logits", lambda: np.full(600, np.nan, np.float32))
    with pytest.raises(DecodeError, match="nan"):
        list(engine.generate(request(min_confidence=0.5)))
