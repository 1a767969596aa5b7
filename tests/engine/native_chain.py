"""The reference: a chain of llama.cpp's own samplers over the whole vocabulary, built without any of our code."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np

from tui_chat.engine.types import DEFAULT_ORDER, SamplingParams

lc: Any = native
N_CTX = 64
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
TRUNCATING = ("top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc")


def window(last_n: int) -> int:
    return N_CTX if last_n < 0 else min(last_n, N_CTX)


def makers(params: SamplingParams, n_vocab: int, vocab: Any) -> dict[str, Callable[[], Any]]:
    """Stage to a function that makes llama.cpp's sampler for it."""
    p = params
    bias = (lc.llama_logit_bias * max(1, len(p.logit_bias)))(*[lc.llama_logit_bias(t, b) for t, b in p.logit_bias])
    return {
        "logit_bias": lambda: lc.llama_sampler_init_logit_bias(n_vocab, len(p.logit_bias), bias),
        "grammar": lambda: lc.llama_sampler_init_grammar(vocab, p.grammar.encode(), b"root"),
        "penalties": lambda: lc.llama_sampler_init_penalties(
            n_vocab, window(p.repeat_last_n), p.repeat_penalty, p.frequency_penalty, p.presence_penalty
        ),
        "dry": lambda: lc.llama_sampler_init_dry(
            None, p.dry_multiplier, p.dry_base, p.dry_allowed_length, window(p.dry_penalty_last_n), None, 0
        ),
        "top_n_sigma": lambda: lc.llama_sampler_init_top_n_sigma(p.top_n_sigma),
        "top_k": lambda: lc.llama_sampler_init_top_k(p.top_k),
        "typical": lambda: lc.llama_sampler_init_typical(p.typical_p, 1),
        "top_p": lambda: lc.llama_sampler_init_top_p(p.top_p, 1),
        "min_p": lambda: lc.llama_sampler_init_min_p(p.min_p, 1),
        "xtc": lambda: lc.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, 0),
        "temperature": lambda: lc.llama_sampler_init_temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent),
        "mirostat": lambda: (
            lc.llama_sampler_init_mirostat(n_vocab, 0, p.mirostat_tau, p.mirostat_eta, 100)
            if p.mirostat == 1
            else lc.llama_sampler_init_mirostat_v2(0, p.mirostat_tau, p.mirostat_eta)
        ),
        "adaptive_p": lambda: lc.llama_sampler_init_adaptive_p(p.adaptive_target, p.adaptive_decay, 0),
    }


def running(params: SamplingParams) -> list[str]:
    """The stages of llama.cpp that these settings ask for: mirostat replaces what truncates."""
    off = {
        "grammar": not params.grammar,
        "mirostat": not params.mirostat,
        "adaptive_p": params.adaptive_target < 0,
        "logit_bias": not params.logit_bias,
        "typical": params.typical_p == 1,
    }
    return [name for name in params.order if not off.get(name) and not (params.mirostat and name in TRUNCATING)]


class BeyondFloat32Error(Exception):
    """llama.cpp's arithmetic broke down."""


class NativeChain:
    """Samplers of one set of settings that live from token to token. They are never freed: a test is short.

    Args:
        params: The settings.
        n_vocab: Size of the vocabulary.
        history: What penalties and DRY have seen.
        vocab: llama.cpp's handle, for a grammar.
        answer: What the grammar has seen.
    """

    def __init__(
        self,
        params: SamplingParams,
        n_vocab: int,
        history: Sequence[int],
        vocab: Any = None,
        answer: Sequence[int] = (),
    ) -> None:
        made = makers(params, n_vocab, vocab)
        self.samplers = {name: made[name]() for name in running(params)}
        self.n_vocab = n_vocab
        for name, sampler in self.samplers.items():
            seen = {"penalties": history, "dry": history, "grammar": answer}.get(name, ())
            for token in seen:
                lc.llama_sampler_accept(sampler, token)
        self.beyond_float32 = False
        """Whether mirostat 1 left what float32 and int hold: llama.cpp then keeps one token for no reason."""
        self._params = params
        self.selected: int | None = None
        """The token that mirostat or adaptive-p drew by itself."""

    def apply(self, logits: np.ndarray) -> dict[int, float]:
        """Survivors and their logits.

        Where llama.cpp would let typical or mirostat 1 reckon with removed tokens (0 · -inf = NaN, and an order that
        follows from nothing), they are taken out before. Its logit bias and its grammar leave an array
        marked as sorted that is not; the mark is taken away.
        """
        buffer = np.zeros(self.n_vocab, CANDIDATE)
        buffer["id"], buffer["logit"] = np.arange(self.n_vocab), logits
        array = _array(buffer)
        for name, sampler in self.samplers.items():
            if name in ("typical", "mirostat"):
                view = _view(buffer, array)
                if not np.all(finite := view["logit"] > -np.inf):
                    ordered = array.sorted
                    buffer = view[finite].copy()
                    array = _array(buffer)
                    array.sorted = ordered
            if name == "mirostat" and self._params.mirostat == 1:
                self.beyond_float32 |= _zipf_overflows(_view(buffer, array)["logit"], self._params, self.n_vocab)
            before = _view(buffer, array).copy()
            lc.llama_sampler_apply(sampler, ctypes.byref(array))
            if name == "typical":
                self.beyond_float32 |= _underflows(before["logit"])
                kept = _typical(before["logit"], self._params.typical_p)
                if kept is not None and _same_but_for_rounding(before, kept, _view(buffer, array)["id"]):
                    buffer = before[kept]
                    array = _array(buffer)
            if name == "temperature" and _view(buffer, array)["logit"].max() > _SORTABLE:
                self.beyond_float32 = True  # divided by a dynamic temperature close to 0
            if name in ("logit_bias", "grammar"):
                array.sorted = False
            if name in ("mirostat", "adaptive_p"):
                self.selected = int(_view(buffer, array)["id"][array.selected])
        view = _view(buffer, array)
        return {int(i): float(x) for i, x in zip(view["id"], view["logit"], strict=True) if x > -np.inf}

    def accept(self, token: int) -> None:
        for sampler in self.samplers.values():
            lc.llama_sampler_accept(sampler, token)

    def close(self) -> None:
        for sampler in self.samplers.values():
            lc.llama_sampler_free(sampler)


_SORTABLE = 3e8
"""Logits above 2^31 / 6.4 overflow the int in llama.cpp's bucket sort, which then takes the best for the worst."""


def _zipf_overflows(logits: np.ndarray, params: SamplingParams, n_vocab: int) -> bool:
    best = np.sort(logits.astype(np.float64))[::-1][:100]
    if len(best) < 2 or best[0] - best[-1] > 80:
        return True
    t = np.log(np.arange(2, len(best) + 1) / np.arange(1, len(best)))
    s = t @ (best[:-1] - best[1:]) / (t @ t)
    k = ((s - 1) * 2 ** (2 * params.mirostat_tau) / (1 - n_vocab ** (1 - s))) ** (1 / s)
    return bool(k >= 2**31 or abs(k - round(k)) < 1e-3 * k)


def _underflows(logits: np.ndarray) -> bool:
    """Whether a probability is 0 in float32, of which llama.cpp's typical takes the logarithm."""
    return bool(np.ptp(logits.astype(np.float64)) > 80)


_ROUNDING = 2e-4
"""Nats by which llama.cpp's entropy of 151,936 tokens, added up in float32, may be off."""


def _typical(logits: np.ndarray, p: float) -> np.ndarray | None:
    """Places of the locally typical tokens by a plain sort in float64; None where p takes all."""
    if p >= 1:
        return None
    surprisal = np.logaddexp.reduce(logits.astype(np.float64)) - logits.astype(np.float64)
    mass = np.exp(-surprisal)
    order = np.argsort(np.abs(surprisal - mass @ surprisal), kind="stable")
    return order[: int(np.searchsorted(np.cumsum(mass[order]), p, side="right")) + 1]


def _same_but_for_rounding(before: np.ndarray, kept: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether llama.cpp's typical kept the tokens at `kept`, but for some that stand at the border."""
    logits = before["logit"].astype(np.float64)
    surprisal = np.logaddexp.reduce(logits) - logits
    distance = np.abs(surprisal - np.exp(-surprisal) @ surprisal)
    differing = np.setxor1d(before["id"][kept], theirs)
    at = np.isin(before["id"], differing)
    return bool((np.abs(distance[at] - distance[kept[-1]]) < _ROUNDING).all())


def _array(buffer: np.ndarray) -> Any:
    data = ctypes.cast(buffer.ctypes.data, ctypes.POINTER(lc.llama_token_data))
    return lc.llama_token_data_array(data, len(buffer), -1, False)


def _view(buffer: np.ndarray, array: Any) -> np.ndarray:
    moved = (ctypes.cast(array.data, ctypes.c_void_p).value or 0) - buffer.ctypes.data
    start = moved // CANDIDATE.itemsize
    return buffer[start : start + array.size]


def probabilities(logits: dict[int, float]) -> dict[int, float]:
    exact = np.array(list(logits.values()), np.float64)
    e = np.exp(exact - exact.max())
    return dict(zip(logits, (e / e.sum()).tolist(), strict=True))


def expected(
    params: SamplingParams,
    logits: np.ndarray,
    history: Sequence[int],
    vocab: Any = None,
    answer: Sequence[int] = (),
) -> Iterator[dict[int, float]]:
    """Survivors and probabilities by llama.cpp; then those of settings that differ by a rounding error.

    llama.cpp adds thousands of numbers in float32. A token that stands within that error of a limit may fall to either
    side of it, which no other arithmetic can follow.
    """
    errors = [3e-5] if len(logits) <= 4096 else [n * 2e-5 for n in range(1, 13)]
    for candidate in (params, *(nudged for error in errors for nudged in _nudged(params, error))):
        chain = NativeChain(candidate, len(logits), history, vocab, answer)
        found = probabilities(chain.apply(logits))
        if chain.beyond_float32:
            raise BeyondFloat32Error
        yield found
        chain.close()


def _nudged(params: SamplingParams, error: float) -> Iterator[SamplingParams]:
    for name in ("top_p", "min_p", "typical_p", "top_n_sigma", "xtc_threshold", "mirostat_tau"):
        value = getattr(params, name)
        if value > 0 and not (name in ("top_p", "typical_p") and value == 1):
            yield replace(params, **{name: min(1.0, value * (1 - error)) if value <= 1 else value * (1 - error)})
            yield replace(params, **{name: min(1.0, value * (1 + error)) if value <= 1 else value * (1 + error)})


def same(ours: dict[int, float], theirs: dict[int, float]) -> bool:
    return ours.keys() == theirs.keys() and all(abs(ours[token] - theirs[token]) < 1e-5 for token in theirs)


def random_logits(rng: np.random.Generator, n_vocab: int) -> np.ndarray:
    """Distinct logits: which of two equal ones a native partial sort keeps is its own affair."""
    spread = rng.choice([0.3, 2.0, 8.0])
    return rng.permutation(np.sort(rng.normal(0, spread, n_vocab)) + np.arange(n_vocab) * 1e-4).astype(np.float32)


def random_params(r: random.Random, n_vocab: int, order: Sequence[str] = DEFAULT_ORDER) -> SamplingParams:
    """Any settings: each stage on or off, in the usual order or any other."""

    def off_or(off: Any, low: float, high: float) -> Any:
        return off if r.random() < 0.5 else r.uniform(low, high)

    mirostat = r.choice([0, 0, 0, 1, 2])
    if r.random() < 0.5:
        stages = list(order)
        # These two draw in llama.cpp: nothing follows them.
        last = [name for name in stages if name in ("mirostat", "adaptive_p")]
        stages = [name for name in stages if name not in last]
        r.shuffle(stages)
        order = [*stages, *last]
    return SamplingParams(
        temperature=r.choice([0.1, 0.7, 1.0, 1.7]),
        top_k=r.choice([0, r.randint(1, 200)]),
        top_p=off_or(1.0, 0.0, 0.99),
        min_p=off_or(0.0, 0.001, 0.9),
        typical_p=off_or(1.0, 0.1, 0.99),
        top_n_sigma=off_or(-1.0, 0.1, 3.0),
        xtc_probability=float(r.choice([0, 1])),
        xtc_threshold=r.uniform(0.01, 0.6),
        repeat_penalty=off_or(1.0, 0.8, 1.8),
        repeat_last_n=r.choice([-1, 0, 5, 64]),
        frequency_penalty=off_or(0.0, -1.0, 2.0),
        presence_penalty=off_or(0.0, -1.0, 2.0),
        dry_multiplier=off_or(0.0, 0.1, 2.0),
        dynatemp_range=off_or(0.0, 0.05, 1.5),
        dynatemp_exponent=r.choice([0.5, 1.0, 2.0]),
        mirostat=mirostat,
        mirostat_tau=r.uniform(0.5, 6.0),
        adaptive_target=r.uniform(0.0, 1.0) if not mirostat and r.random() < 0.2 else -1.0,
        adaptive_decay=r.choice([0.0, 0.5, 0.9]),
        logit_bias=tuple(
            (token, r.choice([-np.inf, r.uniform(-20, 20)]))
            for token in r.sample(range(n_vocab), min(r.randint(0, 3), n_vocab - 1))
        ),
        order=tuple(order),
    )
