"""How long does it take to ask what other settings would have made of an answer? And what does keeping the logits cost?

    python -m tests.benchmarks.what_if [--vocab N] [--tokens N] [--rounds N]

Answers are drawn from made-up distributions: a bell of noise with a few hundred tokens above it, some 1.5 to 5 nats of
entropy. Nothing is decoded. Three figures, each the median of the rounds in milliseconds by the clock on the wall and
of the processor's time (all is done on one thread, so on a busy machine that is what an idle one would take), and the
latter's share of what the design allows:

- waterfall: the table of one token over the whole vocabulary and forty rows of it, at most 16 ms;
- marks: what each token of the answer would have been, the newest 256 from full logits, at most 150 ms for 500;
- keep: a row put into the ring, beside a plain copy of the logits.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.recent import CAPACITY, RecentLogits, prefix_key
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.selection import select
from tui_chat.engine.tracing import Tracer
from tui_chat.engine.types import GeneratedToken, SamplingParams
from tui_chat.engine.waterfall import Basis
from tui_chat.engine.whatif import Outcome, Written, waterfall_at, what_if

N_CTX = 4096
WATERFALL_S, MARKS_S = 0.016, 0.150
DEFAULT = SamplingParams()
SETTINGS: dict[str, SamplingParams] = {
    "default, warmer": replace(DEFAULT, temperature=1.1),
    "repeat penalty": replace(DEFAULT, repeat_penalty=1.1, frequency_penalty=0.2),
    "top-k off": replace(DEFAULT, top_k=0, temperature=1.1),
    "min-p alone": replace(DEFAULT, top_k=0, top_p=1),
    "temperature alone": replace(DEFAULT, top_k=0, top_p=1, min_p=0),
    "all but top-k": replace(
        DEFAULT,
        top_k=0,
        typical_p=0.9,
        top_n_sigma=3,
        xtc_probability=0.5,
        repeat_penalty=1.1,
        dry_multiplier=0.5,
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    written, recent = answer(options.vocab, options.tokens)
    print(f"{options.tokens} tokens, vocabulary {options.vocab:,}, {options.rounds} rounds")
    print(f"  a full ring: {recent.size_bytes / 1e6:.1f} MB")
    keeping(options.vocab, options.rounds)
    for name, params in SETTINGS.items():
        waterfall = timed(partial(shown, written, params, recent), options.rounds)
        marks = timed(partial(asked, written, params, recent), options.rounds)
        outcomes = asked(written, params, recent)
        full = sum(outcome.basis is not Basis.TRUNCATED for outcome in outcomes)
        print(
            f"  {name:<18} waterfall {figures(waterfall, WATERFALL_S)}   "
            f"marks {figures(marks, MARKS_S * options.tokens / 500)}, "
            f"{full} from full logits, {sum(outcome.differs for outcome in outcomes)} differ"
        )


def distribution(rng: np.random.Generator, n_vocab: int) -> NDArray[np.float32]:
    """Raw logits, (n_vocab,)."""
    logits = rng.normal(0, 1.7, n_vocab)
    likely = rng.choice(n_vocab, 200, replace=False)
    logits[likely] += 6 + rng.uniform(8, 16) * rng.random(200) ** 2
    return logits.astype(np.float32)


def answer(n_vocab: int, n_tokens: int) -> tuple[Written, RecentLogits]:
    """An answer drawn with the default settings, and what is kept of it."""

    def make(params: SamplingParams, history: Sequence[int]) -> Sampler:
        return Sampler(params, n_vocab, N_CTX, history)

    rng = np.random.default_rng(0)
    before = rng.integers(0, n_vocab, 300).tolist()
    ids, tokens, tracer, recent = list(before), [], Tracer(n_vocab, 20), RecentLogits(n_vocab)
    sampler = make(DEFAULT, before)
    for _ in range(n_tokens):
        logits = distribution(rng, n_vocab)
        choice = sampler.choose(logits, len(ids))
        selection = recent.put(prefix_key(ids), logits, choice.selection)
        trace = tracer.trace(logits, tracer.measure(logits, selection), choice, len(ids), b"", 0.0)
        tokens.append(GeneratedToken(choice.id, b"", trace))
        sampler.accept(choice.id)
        ids.append(choice.id)
    sampler.close()
    return Written(before, tokens, [DEFAULT] * n_tokens, n_vocab, make), recent


def shown(written: Written, params: SamplingParams, recent: RecentLogits) -> None:
    """What a slider has to have done before the next frame."""
    table = waterfall_at(written, len(written.tokens) - 3, params, recent)
    assert table is not None
    table.rows(0, 40)


def asked(written: Written, params: SamplingParams, recent: RecentLogits) -> list[Outcome]:
    """All marks."""
    return list(what_if(written, params, recent))


def keeping(n_vocab: int, rounds: int) -> None:
    """Put rows into a ring of their own, in turns with copies."""
    logits, ring = distribution(np.random.default_rng(1), n_vocab), RecentLogits(n_vocab)
    selection = select(logits, 40)
    for key in range(CAPACITY):  # the first time round, the memory itself is fetched
        ring.put(-key, logits, selection)
    keys, target = itertools.count(1), np.empty_like(logits)
    puts = timed(lambda: ring.put(next(keys), logits, selection), rounds * CAPACITY)
    copies = timed(lambda: np.copyto(target, logits), rounds * CAPACITY)
    print(f"  keep: {puts[1] * 1e6:.1f} µs a token; a copy {copies[1] * 1e6:.1f} µs")


def timed(turn: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds by the clock on the wall and of the processor; a first turn does not count."""
    turn()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        turn()
        seconds[0].append(time.perf_counter() - wall)
        seconds[1].append(time.process_time() - processor)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def figures(seconds: tuple[float, float], allowed_s: float) -> str:
    """Both clocks, and the share of what is allowed."""
    wall, processor = seconds
    return f"{wall * 1e3:7.1f} {processor * 1e3:7.1f} ms ({processor / allowed_s:5.2f} of {allowed_s * 1e3:.0f} ms)"


if __name__ == "__main__":
    main()
