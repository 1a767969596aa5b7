"""Going on from exact ids: one token is evaluated, and all is as if the answer had always begun so."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from tests.engine.test_engine import PARAMS, finished, ids, request, tokens
from tui_chat.engine.control import LiveParams
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    EngineEvent,
    GeneratedToken,
    GenerationRequest,
    LoadOptions,
    SettingsChanged,
    TokensGenerated,
)
from tui_chat.models.resolve import builtin_path


@pytest.fixture
def evaluated(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call of llama.cpp was given."""
    calls: list[int] = []
    decode = engine._native.decode

    def counting(ids: tuple[int, ...], position: int, *, logits: bool) -> bool:
        calls.append(len(ids))
        return decode(ids, position, logits=logits)

    monkeypatch.setattr(engine._native, "decode", counting)
    return calls


def forked(base: GenerationRequest, kept: list[GeneratedToken], forced: int, n: int = 8) -> GenerationRequest:
    return replace(
        base,
        prompt_ids=(*base.prompt_ids, *(token.id for token in kept), forced),
        n_prefilled=len(kept) + 1,
        kept=tuple(kept),
        limits=replace(base.limits, max_tokens=n),
    )


def test_a_fork_evaluates_one_token_and_not_the_prompt(engine: Engine, evaluated: list[int]) -> None:
    first = tokens(engine.generate(request()))
    evaluated.clear()
    done = finished(engine.generate(forked(request(), first[:5], 77, n=0)))
    assert evaluated == [1]
    assert done.usage.prompt - done.usage.reused == 1
    evaluated.clear()
    again = list(engine.generate(forked(request(), first[:5], 77, n=4)))
    assert evaluated == [1, 1, 1, 1]  # the forced one, and what was drawn; the last one is not evaluated
    got = tokens(again)
    assert got[:5] == first[:5] and [token is old for token, old in zip(got, first[:5], strict=False)] == [True] * 5
    assert got[5] == GeneratedToken(77, engine.vocab.piece(77), None, forced=True)
    assert not any(token.forced for token in got[6:])
    # The token that stood there before may be forced as well.
    evaluated.clear()
    list(engine.generate(forked(request(), first[:3], first[3].id, n=0)))
    assert evaluated == [1]


def test_a_fork_is_a_fresh_run_with_that_prefix(pocket: Engine) -> None:
    for n_prompt in (60, 400):
        base = request(range(300, 300 + n_prompt), n=20)
        first = tokens(pocket.generate(base))
        fork = tokens(pocket.generate(forked(base, first[:9], 77, n=12)))
        prefix = (*base.prompt_ids, *(token.id for token in first[:9]), 77)
        with Engine.load(builtin_path(), LoadOptions(n_ctx=512)) as fresh:
            alone = tokens(fresh.generate(request(prefix, n=12)))
            assert [token.id for token in fork[10:]] == [token.id for token in alone]
            for ours, theirs in zip(fork[10:], alone, strict=True):
                assert ours.trace is not None and theirs.trace is not None
                assert (ours.trace.top, ours.trace.logsumexp) == (theirs.trace.top, theirs.trace.logsumexp)
                assert ours.trace.u == theirs.trace.u
            whole = [*base.prompt_ids, *(token.id for token in fork)]
            assert np.array_equal(pocket.logits(whole), fresh.logits(whole))


@pytest.mark.parametrize("kv", ["f16", "f32", "q8_0"])
def test_logits_do_not_depend_on_the_pieces_a_text_was_read_in(kv: Literal["f16", "f32", "q8_0"]) -> None:
    ids = list(range(300, 800))
    with Engine.load(builtin_path(), LoadOptions(n_ctx=512, type_k=kv, type_v=kv)) as engine:
        whole = engine.logits(ids).copy()
        for cut in (1, 63, 64, 65, 190, 436, 499):
            engine.context.rewind(0)
            engine.logits(ids[:cut])
            assert np.array_equal(engine.logits(ids), whole), cut
        engine.context.rewind(350)
        for token in ids[350:]:  # as an answer is written
            assert engine.context.append(token)
        assert np.array_equal(engine.context.logits(), whole)


def test_the_chunks_say_how_the_cache_was_filled(engine: Engine) -> None:
    first = tokens(engine.generate(request()))
    done = finished(engine.generate(forked(request(), first[:5], 77, n=3)))
    assert done.usage.chunks == ((32, 1), (28, 1), (1, 6))
    assert list(engine.context.chunks) == [(32, 1), (28, 1), (1, 8)]
    engine.context.rewind(40)
    assert list(engine.context.chunks) == [(32, 1), (8, 1)]


def test_the_same_chunks_give_the_same_bits(engine: Engine) -> None:
    base = request()
    first = tokens(engine.generate(base))
    fork = forked(base, first[:5], 77, n=8)
    events = list(engine.generate(fork))
    engine.context.rewind(0)
    done = 0
    for size, count in finished(events).usage.chunks:
        for _ in range(count):
            done += size
            for _ in engine.context.prefill(fork.prompt_ids[:done]):
                pass
    again = tokens(engine.generate(fork))
    for ours, theirs in zip(again[6:], tokens(events)[6:], strict=True):
        assert ours.trace is not None and theirs.trace is not None
        assert (ours.id, ours.trace.top, ours.trace.logsumexp) == (theirs.id, theirs.trace.top, theirs.trace.logsumexp)


def test_forking_without_another_token_draws_the_same_again(pocket: Engine) -> None:
    prompt = pocket.vocab.tokenize(
        "<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n", parse_special=True
    )
    params = replace(PARAMS, repeat_penalty=1.2, dry_multiplier=0.5, xtc_probability=0.5)
    base = request(prompt, n=40, params=params)
    first = list(pocket.generate(base))
    for cut in (1, 7, 39):
        kept = tokens(first)[:cut]
        again = replace(
            base,
            prompt_ids=(*base.prompt_ids, *(t.id for t in kept)),
            n_prefilled=cut,
            kept=tuple(kept),
            limits=replace(base.limits, max_tokens=40 - cut),
        )
        events = list(pocket.generate(again))
        assert ids(events) == ids(first)
        assert text(events) == text(first)
    pocket.context.rewind(3)
    assert ids(pocket.generate(base)) == ids(first)
    with Engine.load(builtin_path(), LoadOptions(n_ctx=512, n_threads=1)) as restarted:
        assert ids(restarted.generate(base)) == ids(first)


def test_settings_undone_in_the_middle_leave_no_mark(pocket: Engine) -> None:
    params = replace(PARAMS, repeat_penalty=1.2)
    base = request(range(300, 340), n=40, params=params)
    plain = ids(pocket.generate(base))
    live = LiveParams()
    changes: list[SettingsChanged] = []
    undone = False
    again: list[int] = []
    for event in pocket.generate(base, live=live):
        if isinstance(event, SettingsChanged):
            changes.append(event)
        if isinstance(event, TokensGenerated):
            again += [token.id for token in event.tokens]
            # Changed and changed back before the next token is drawn: at no place did other settings hold.
            live.params = replace(params, temperature=0.0)
            live.params = replace(params)
            undone = True
    assert undone and again == plain and not changes


def test_what_was_drawn_with_other_settings_can_be_drawn_again_behind_the_same_prefix(pocket: Engine) -> None:
    base = request(range(300, 340), n=60)
    live = LiveParams()
    greedy = replace(PARAMS, temperature=0.0)
    seen: list[int] = []
    changes: list[SettingsChanged] = []
    for event in pocket.generate(base, live=live):
        if isinstance(event, SettingsChanged):
            changes.append(event)
        elif isinstance(event, TokensGenerated):
            seen += [token.id for token in event.tokens]
            live.params = greedy if len(changes) % 2 == 0 else replace(PARAMS)
    assert changes and changes[0].params == greedy
    # The events say exactly from where on what held.
    ends = [change.index for change in changes[1:]] + [60]
    assert ids(pocket.generate(request(range(300, 340), n=changes[0].index))) == seen[: changes[0].index]
    for change, end in zip(changes, ends, strict=True):
        prefix = (*range(300, 340), *seen[: change.index])
        if end > change.index:
            assert (
                ids(pocket.generate(request(prefix, n=end - change.index, params=change.params)))
                == seen[change.index : end]
            )


def test_stop_strings_reach_across_the_place_of_the_fork(engine: Engine) -> None:
    h, e = engine.vocab.tokenize("h")[0], engine.vocab.tokenize("e")[0]
    always_h = replace(PARAMS, temperature=0, logit_bias=((h, 600.0),))
    base = request(params=always_h, n=5, stop=("heh",))
    start = replace(base, prompt_ids=(*base.prompt_ids, h, e), n_prefilled=2)
    events = list(engine.generate(start))
    assert (text(events), str(finished(events).reason)) == ("", "stop")
    # A stop string that was put there on purpose ends nothing.
    whole = replace(base, prompt_ids=(*base.prompt_ids, h, e, h), n_prefilled=3)
    events = list(engine.generate(whole))
    assert text(events) == "heh" + "h" * 5
    # What was held back is not lost where the answer is stopped before it goes on.
    held = list(engine.generate(replace(start, limits=replace(start.limits, max_tokens=0))))
    assert text(held) == "he"


def text(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokensGenerated))
