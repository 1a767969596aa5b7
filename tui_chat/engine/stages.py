"""How each stage of the chain is made from the settings: llama.cpp's own samplers, and what stands in for some of them.

llama.cpp leaves tokens that a ban, top-n-σ or a temperature of 0 removed in the array, with a logit of -inf, where
later stages stumble over them: mirostat 1 reckons with NaN. Here what is removed is gone. One later stage counts that,
dynamic temperature: `Chained.ghosts` is how many there would be. Typical reckons with NaN there too, and wherever
float32 takes a probability for 0, and it sorts twice: here it is ours, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.feedback import Feedback, make_feedback
from tui_chat.engine.samplers import CandidateArray, NativeSampler
from tui_chat.engine.selection import falling, smallest_set
from tui_chat.engine.text_bans import TextBans
from tui_chat.engine.types import TRUNCATING, SamplingParams
from tui_chat.errors import SamplingError

ELEMENTWISE = frozenset({"logit_bias", "grammar", "penalties", "dry", "temperature"})
"""Stages that treat each token by itself, so that a truncation behind them may be anticipated."""

FLOAT32_HOLDS = 4096
"""Up to so many tokens llama.cpp's own top-p and top-n-σ serve. Of 151,936 numbers its sums in float32 are off in the
fifth digit, which a pool of the best could not follow, and its sort takes long: there the same is done in float64."""

REMEMBERING = frozenset({"penalties", "dry"})
"""Stages that look at the last tokens."""

LEAVES_INFINITE = frozenset({"logit_bias", "grammar", "top_n_sigma", "temperature"})
"""Stages that remove by setting a logit to -inf."""

_ENDS_GHOSTS = frozenset({"typical", "top_p", "min_p", "mirostat"})
"""Stages that take what has no probability out of llama.cpp's array."""


@dataclass(slots=True)
class Chained:
    """The candidates on their way through the chain."""

    candidates: CandidateArray
    ghosts: int = 0
    """Removed tokens that llama.cpp's array would still hold."""
    bound: float | None = None
    """For the first truncation, where better knowledge than the array's was used: the lowest logit it keeps."""
    log_total: float | None = None
    """Log of the sum of exp(logit) over all candidates at the first truncation, where the array holds but the best."""

    def drop_infinite(self) -> None:
        """Take out what has a logit of -inf."""
        self.ghosts += self.candidates.drop_infinite()

    def passed(self, name: str, params: SamplingParams) -> None:
        """Count the ghosts behind a stage."""
        if name in _ENDS_GHOSTS:
            self.ghosts = 0
        elif name == "top_k":
            self.ghosts = max(0, min(self.ghosts, params.top_k - len(self.candidates)))


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage that does something."""

    name: str
    native: NativeSampler | None = None
    own: Callable[[Chained], str] | None = None
    """Changes the candidates in place of the native sampler; gives what to note of it."""
    feedback: Feedback | None = None
    bans: TextBans | None = None
    """The banned texts, of the stage of the biases."""

    def apply(self, candidates: CandidateArray) -> None:
        """Let llama.cpp's sampler and the banned texts act."""
        if self.native is not None:
            candidates.apply(self.native)
        if self.bans is not None:
            view = candidates.view()
            view["logit"][np.isin(view["id"], self.bans.refused, kind="table")] = -np.inf

    def close(self) -> None:
        """Free what is llama.cpp's."""
        if self.native is not None:
            self.native.close()

    def accept(self, token: int) -> None:
        """Take a token into its memory, where it has one."""
        if self.native is not None and self.name in REMEMBERING:
            self.native.accept(token)
        elif self.feedback is not None:
            self.feedback.accept(token)
        elif self.bans is not None:
            self.bans.accept(token)


def penalty_window(last_n: int, n_ctx: int) -> int:
    """llama.cpp takes -1 for none; here it means the whole context. No window is longer: it would hold memory."""
    return n_ctx if last_n < 0 else min(last_n, n_ctx)


def make_stages(
    params: SamplingParams, n_vocab: int, n_ctx: int, vocabulary: Any, bans: TextBans | None = None
) -> list[Stage]:
    """The stages of `params.order` that do something.

    Args:
        params: The settings.
        n_vocab: Size of the vocabulary.
        n_ctx: What "the whole context" means to penalties.
        vocabulary: llama.cpp's handle of the tokens, or None.
        bans: The banned texts, if there are any.

    Raises:
        SamplingError: A setting needs a vocabulary and there is none.
    """
    found = []
    for name in params.order:
        if params.mirostat and name in TRUNCATING:
            continue
        if name == "grammar":
            if params.grammar:
                found.append(Stage(name))
        elif name == "logit_bias":
            native = _logit_bias(params, n_vocab)
            if native is not None or bans is not None:
                found.append(Stage(name, native=native, bans=bans))
        elif name == "top_n_sigma":
            if params.top_n_sigma > 0 and n_vocab > FLOAT32_HOLDS:
                found.append(Stage(name, own=_top_n_sigma(params.top_n_sigma)))
            elif params.top_n_sigma > 0:
                found.append(Stage(name, native=NativeSampler.top_n_sigma(params.top_n_sigma)))
        elif name == "typical":
            if params.typical_p < 1:
                found.append(Stage(name, own=_typical(params.typical_p)))
        elif name == "top_p":
            if params.top_p < 1:
                found.append(_top_p(params.top_p))
        elif name == "temperature" and params.dynatemp_range > 0:
            found.append(Stage(name, own=_dynamic_temperature(params)))
        elif name in ("mirostat", "adaptive_p"):
            if (feedback := make_feedback(params, name, n_vocab)) is not None:
                found.append(Stage(name, feedback=feedback))
        elif (native := _make_native(name, params, n_vocab, n_ctx, vocabulary)) is not None:
            found.append(Stage(name, native=native))
    return found


def summed_biases(params: SamplingParams) -> dict[int, float]:
    """Token id to the nats added to its logit, all entries of a token together."""
    total: dict[int, float] = {}
    for token, value in params.logit_bias:
        if not isinstance(token, str):
            total[token] = total.get(token, 0.0) + value
    return total


def _logit_bias(params: SamplingParams, n_vocab: int) -> NativeSampler | None:
    # One entry a token: of two, the native sampler sees only the first once the array is not in id order.
    biases = summed_biases(params)
    return NativeSampler.logit_bias(n_vocab, list(biases.items())) if biases else None


def _make_native(name: str, p: SamplingParams, n_vocab: int, n_ctx: int, vocabulary: Any) -> NativeSampler | None:
    """llama.cpp's sampler for a stage; None where its settings make it do nothing."""
    match name:
        case "penalties":
            window = penalty_window(p.repeat_last_n, n_ctx)
            if window == 0 or (p.repeat_penalty == 1 and p.frequency_penalty == 0 and p.presence_penalty == 0):
                return None
            return NativeSampler.penalties(n_vocab, window, p.repeat_penalty, p.frequency_penalty, p.presence_penalty)
        case "dry":
            window = penalty_window(p.dry_penalty_last_n, n_ctx)
            if window == 0 or p.dry_multiplier == 0 or p.dry_base < 1:
                return None
            if p.dry_sequence_breakers and vocabulary is None:
                raise SamplingError("without a model there are no texts: leave dry_sequence_breakers empty")
            return NativeSampler.dry(
                p.dry_multiplier, p.dry_base, p.dry_allowed_length, window, p.dry_sequence_breakers, vocabulary
            )
        case "top_k" if p.top_k > 0:
            return NativeSampler.top_k(p.top_k)
        case "min_p" if p.min_p > 0:
            return NativeSampler.min_p(p.min_p)
        case "xtc" if p.xtc_probability > 0 and p.xtc_threshold <= 0.5:
            return NativeSampler.xtc(p.xtc_threshold)
        case "temperature" if p.temperature != 1:
            return NativeSampler.temperature(p.temperature)
    return None


def _top_n_sigma(n: float) -> Callable[[Chained], str]:
    """`llama_sampler_top_n_sigma_apply`: keeps logits of at least max - n σ, σ over the candidates.

    llama.cpp adds in float32, which at 151,936 logits moves σ in the fifth digit; this is float64.
    """

    def cut(chained: Chained) -> str:
        view = chained.candidates.view()
        bound = chained.bound
        if bound is None:
            exact = view["logit"].astype(np.float64)
            bound = float(exact.max() - n * exact.std()) if len(exact) > 1 else -math.inf
        view["logit"][view["logit"] < bound] = -np.inf
        return ""

    return cut


def _top_p(p: float) -> Stage:
    """`llama_sampler_top_p_apply`: the smallest set of the best whose sum reaches p.

    It is llama.cpp's for few candidates, ours for many and where the array holds but the best of them.
    """
    native = NativeSampler.top_p(p)

    def cut(chained: Chained) -> str:
        if len(chained.candidates) <= FLOAT32_HOLDS and chained.log_total is None:
            chained.candidates.apply(native)
        else:
            surprisal, mass = _surprisal(chained)
            chained.candidates.keep(smallest_set(surprisal, mass, p, reached=True))
        return ""

    return Stage("top_p", native=native, own=cut)


def _typical(p: float) -> Callable[[Chained], str]:
    """`llama_sampler_typical_apply`: the smallest set of those nearest to the mean surprisal whose sum exceeds p."""

    def cut(chained: Chained) -> str:
        surprisal, mass = _surprisal(chained)
        # einsum, since BLAS starts threads of its own for a long product.
        surprisal -= float(np.einsum("i,i", mass, surprisal))
        chained.candidates.keep(smallest_set(np.abs(surprisal, out=surprisal), mass, p, reached=False))
        return ""

    return cut


def _surprisal(chained: Chained) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Surprisals (n,), nats, and probabilities (n,) of the candidates, all of them finite."""
    surprisal = chained.candidates.view()["logit"].astype(np.float64)
    log_total = chained.log_total
    if log_total is None:
        surprisal -= surprisal.max()
        mass = np.exp(surprisal)
        total = mass.sum()
        mass /= total
        surprisal -= math.log(total)
    else:
        surprisal -= log_total
        mass = np.exp(surprisal)
    return np.negative(surprisal, out=surprisal), mass


def _dynamic_temperature(p: SamplingParams) -> Callable[[Chained], str]:
    """`llama_sampler_temp_ext_apply`: the temperature follows the entropy, as a share of the largest possible."""
    low, high = max(0.0, p.temperature - p.dynatemp_range), p.temperature + p.dynatemp_range

    def cut(chained: Chained) -> str:
        view = chained.candidates.view()
        n = len(view) + chained.ghosts
        if n <= 1:
            return ""
        exact = view["logit"].astype(np.float64)
        exact -= exact.max()
        e = np.exp(exact)
        total = e.sum()
        entropy = max(0.0, math.log(total) - float(np.einsum("i,i", e, exact)) / total)
        temperature = low + (high - low) * (entropy / math.log(n)) ** p.dynatemp_exponent
        if temperature <= 0:
            ids, logits = falling(view["id"], view["logit"])
            chained.ghosts += len(ids) - 1
            chained.candidates.fill(ids[:1], logits[:1])
        else:
            view["logit"] /= np.float32(temperature)
        return f"temperature {temperature:.3f}"

    return cut
