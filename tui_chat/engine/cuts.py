"""Why a stage of the chain removed a token, or how it moved its logit: the arithmetic, with the numbers in it.

The stages are llama.cpp's (src/llama-sampler.cpp). What stands here is their conditions, evaluated once more for single
tokens: nothing is removed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.selection import falling
from tui_chat.engine.types import SamplingParams

Ids = NDArray[np.int32]
"""(n,) token ids."""


class Share(float):
    """A probability; written as a percentage of three digits."""

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else f"{float(self) * 100:.3g}%"


@dataclass(frozen=True, slots=True)
class Reason:
    """What a stage did to a token; as text, the arithmetic in words."""

    stage: str
    words: str
    """A template for `numbers`."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Probabilities are `Share`s, logits nats."""
    text: str = ""
    """The banned text that a token would complete; empty for all others."""

    def __str__(self) -> str:
        return self.words.format_map(self.numbers) + (f" {self.text!r}" if self.text else "")


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Every token as it stood after a stage; the first column, `raw`, is what the model gave."""

    name: str
    logits: NDArray[np.float32]
    """(n_vocab,) nats; -inf where removed. Not to be written to."""
    survivors: int
    highest: float
    """The best logit."""
    logsumexp: float
    """Over the survivors, nats."""
    note: str = ""
    """What the stage did besides, for people (`StageTrace.note`)."""
    refused: tuple[tuple[str, Ids], ...] = ()
    """Banned texts, each with the tokens that would complete it; of the stage of the biases."""
    guessed: bool = False
    """Whether `survivors` was counted among logits that are supposed, not known."""

    def p(self, ids: Ids | slice = slice(None)) -> NDArray[np.float64]:
        """Probabilities among the survivors, of shape (n,); 0 where removed."""
        shifted = self.logits[ids].astype(np.float64)
        shifted -= self.logsumexp
        return np.exp(shifted, out=shifted)

    def alive(self) -> Ids:
        """Ids of the survivors, ascending."""
        return np.flatnonzero(self.logits > -np.inf).astype(np.int32)


def why_removed(before: Column, after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    """Why the stage of `after` removed each of `ids`, which all stand in `before` and no more in `after`."""
    if not len(ids):
        return []
    explain = _REMOVED.get(after.name)
    return explain(before, after, params, ids) if explain else [Reason(after.name, "removed")] * len(ids)


def how_changed(
    before: Column, after: Column, params: SamplingParams, history: Sequence[int], token: int
) -> Reason | None:
    """How the stage of `after` moved the logit of this one token; None where it did not, or moves them all alike."""
    old, new = float(before.logits[token]), float(after.logits[token])
    if after.name == "logit_bias":
        bias = sum(value for biased, value in params.logit_bias if biased == token)
        return Reason("logit_bias", "{logit:.2f} {bias:+.2f}", {"logit": old, "bias": bias}) if bias else None
    if old == new:
        return None
    if after.name == "penalties":
        window = len(history) if params.repeat_last_n < 0 else params.repeat_last_n
        recent = history[len(history) - window :] if window < len(history) else history
        words = "{logit:.2f} × {repeat:g}" if old <= 0 else "{logit:.2f} / {repeat:g}"
        numbers = {
            "logit": old,
            "repeat": params.repeat_penalty,
            "count": list(recent).count(token),
            "frequency": params.frequency_penalty,
            "presence": params.presence_penalty,
            "last_n": len(recent),
        }
        words += " - {count} × {frequency:g} - {presence:g}: {count} of the last {last_n}"
        return Reason("penalties", words, numbers)
    if after.name == "dry":
        numbers = {"logit": old, "penalty": old - new}
        return Reason("dry", "{logit:.2f} - {penalty:.2f}: it would go on with a repetition", numbers)
    return None


def _standing(
    before: Column, keys: NDArray[np.float32], alive: Ids, ids: Ids
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many tokens stand before each of `ids` by falling key, and how much probability together.

    Of equal keys the survivors stand first: that is how the native sort happened to put them.

    Args:
        before: What the stage was given.
        keys: (n_vocab,) what it sorts by; -inf for what takes no part.
        alive: What survived the stage.
        ids: Some that did not.
    """
    own = keys[ids]
    better = np.flatnonzero(keys >= own.min()).astype(np.int32)
    better, sorted_keys = falling(better, keys[better])
    mass = np.concatenate(([0.0], np.cumsum(before.p(better))))
    places = np.searchsorted(-sorted_keys, -own, side="left")
    alive_keys = keys[alive]
    tied = alive[alive_keys == alive_keys.min()]
    at_border = own == alive_keys.min()
    return places + at_border * len(tied), mass[places] + at_border * before.p(tied).sum()


def _top_k(before: Column, after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    places, _ = _standing(before, before.logits, after.alive(), ids)
    return [Reason("top_k", "rank {rank} > {k}", {"rank": place + 1, "k": params.top_k}) for place in places.tolist()]


def _top_p(before: Column, after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    _, mass = _standing(before, before.logits, after.alive(), ids)
    words = "the better ones have {before} already, ≥ {top_p}"
    top_p = Share(params.top_p)
    return [Reason("top_p", words, {"before": Share(m), "top_p": top_p}) for m in mass.tolist()]


def _min_p(before: Column, _after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    best = Share(np.exp(before.highest - before.logsumexp))
    share = Share(params.min_p)
    return [
        Reason("min_p", "{p} < {min_p} × {p_max}", {"p": Share(p), "min_p": share, "p_max": best})
        for p in before.p(ids).tolist()
    ]


def _typical(before: Column, after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    """Meister et al., Locally Typical Sampling (2022)."""
    p = before.p()
    surprisal = before.logsumexp - before.logits.astype(np.float64)
    held = p > 0
    entropy = float((p[held] * surprisal[held]).sum())
    distance = np.abs(surprisal - entropy)
    _, mass = _standing(before, (-distance).astype(np.float32), after.alive(), ids)
    words = "surprisal {surprisal:.2f} is {distance:.2f} from the entropy {entropy:.2f}: nearer have {before} > {p}"
    return [
        Reason(
            "typical",
            words,
            {
                "surprisal": float(surprisal[token]),
                "distance": float(distance[token]),
                "entropy": entropy,
                "before": Share(m),
                "p": Share(params.typical_p),
            },
        )
        for token, m in zip(ids.tolist(), mass.tolist(), strict=True)
    ]


def _top_n_sigma(before: Column, _after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    """Tang et al., Top-nσ (2024)."""
    sigma = float(before.logits[before.alive()].std(dtype=np.float64))
    words = "{logit:.2f} < {highest:.2f} - {n:g} × {sigma:.2f}"
    return [
        Reason(
            "top_n_sigma", words, {"logit": logit, "highest": before.highest, "n": params.top_n_sigma, "sigma": sigma}
        )
        for logit in before.logits[ids].tolist()
    ]


def _xtc(before: Column, _after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    count = int(np.count_nonzero(before.p(before.alive()) >= params.xtc_threshold))
    words = "{p} ≥ {threshold}, and it is not the least likely of the {count} such"
    threshold = Share(params.xtc_threshold)
    return [
        Reason("xtc", words, {"p": Share(p), "threshold": threshold, "count": count}) for p in before.p(ids).tolist()
    ]


def _mirostat(before: Column, after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    """Basu et al., Mirostat (2020): version 1 keeps a number of tokens, version 2 up to a surprise of mu bits."""
    if params.mirostat == 1:
        places, _ = _standing(before, before.logits, after.alive(), ids)
        numbers = [{"rank": place + 1, "k": after.survivors} for place in places.tolist()]
        return [Reason("mirostat", "rank {rank} > {k}", each) for each in numbers]
    surprise = (before.logsumexp - before.logits[ids].astype(np.float64)) / np.log(2)
    words = "surprise {surprise:.2f} bits, " + after.note
    return [Reason("mirostat", words, {"surprise": bits}) for bits in surprise.tolist()]


def _bias(_before: Column, after: Column, params: SamplingParams, ids: Ids) -> list[Reason]:
    named = {token for token, bias in params.logit_bias if bias == -np.inf}
    by = {int(token): text for text, tokens in after.refused for token in tokens[np.isin(tokens, ids)].tolist()}
    return [
        Reason("logit_bias", "banned")
        if token in named or token not in by
        else Reason("logit_bias", "banned: it would complete", text=by[token])
        for token in ids.tolist()
    ]


def _greedy(before: Column, _after: Column, _params: SamplingParams, ids: Ids) -> list[Reason]:
    return [
        Reason("temperature", "{logit:.2f} is not the best, {highest:.2f}", {"logit": x, "highest": before.highest})
        for x in before.logits[ids].tolist()
    ]


def _all_alike(words: str) -> Callable[[Column, Column, SamplingParams, Ids], list[Reason]]:
    return lambda _before, after, _params, ids: [Reason(after.name, words)] * len(ids)


_REMOVED: dict[str, Callable[[Column, Column, SamplingParams, Ids], list[Reason]]] = {
    "logit_bias": _bias,
    "grammar": _all_alike("the grammar does not allow it here"),
    "top_n_sigma": _top_n_sigma,
    "top_k": _top_k,
    "typical": _typical,
    "top_p": _top_p,
    "min_p": _min_p,
    "xtc": _xtc,
    "temperature": _greedy,
    "mirostat": _mirostat,
}
