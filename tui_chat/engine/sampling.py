"""From logits to a token: llama.cpp's own samplers applied one at a time, and a draw of our own.

The chain is llama.cpp's (`common_sampler_init`), stage by stage, so that after each one the survivors are known. Then

    u = Philox4x64(key=seed, counter=position)       Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011)
    token = first one whose cumulative probability, best first, exceeds u

so the same seed, prefix and settings give the same token, however one got there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.samplers import CandidateArray, NativeSampler
from tui_chat.engine.selection import Selection, select
from tui_chat.engine.types import Candidate, SamplingParams, StageTrace
from tui_chat.errors import DecodeError, SamplingError

_DRAW, _XTC = 0, 1
_AHEAD = 64
_ELEMENTWISE = frozenset({"logit_bias", "penalties", "dry", "temperature"})
"""Stages that treat each token by itself, so that top-k behind them may be anticipated."""


def uniform(seed: int, position: int, stream: int = _DRAW) -> float:
    """The draw in [0, 1) for a place in the context.

    Args:
        seed: From 0 to 2**64 - 1.
        position: Index of the token that is drawn.
        stream: Independent sequences for independent decisions at one position.
    """
    return float(_draws(seed, position, 1, stream)[0])


def _draws(seed: int, position: int, count: int, stream: int) -> NDArray[np.float64]:
    """The draws of `count` places in a row: Philox4x64 gives four numbers a counter, of which the first is used."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=position + (stream << 64)))
    return generator.random(4 * count)[::4]


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token, and what it was chosen from."""

    id: int
    u: float | None
    """The draw; None when greedy."""
    stages: tuple[StageTrace, ...]
    ids: NDArray[np.int32]
    """(n_survivors,) the tokens the draw was made from, best first."""
    p: NDArray[np.float64]
    """(n_survivors,) their probabilities; they sum to 1."""
    selection: Selection
    """The best raw logits, at least as many as top-k keeps."""


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    sampler: NativeSampler


def penalty_window(last_n: int, n_ctx: int) -> int:
    """llama.cpp takes -1 for none; here it means the whole context. No window is longer: it would hold memory."""
    return n_ctx if last_n < 0 else min(last_n, n_ctx)


def _make_logit_bias(p: SamplingParams, n_vocab: int, _n_ctx: int) -> NativeSampler | None:
    if not p.logit_bias:
        return None
    # One entry a token: of two, the native sampler sees only the first once the array is no longer in id order.
    bias: dict[int, float] = {}
    for token, value in p.logit_bias:
        bias[token] = bias.get(token, 0.0) + value
    return NativeSampler.logit_bias(n_vocab, list(bias.items()))


def _make_penalties(p: SamplingParams, n_vocab: int, n_ctx: int) -> NativeSampler | None:
    window = penalty_window(p.repeat_last_n, n_ctx)
    if window == 0 or (p.repeat_penalty == 1 and p.frequency_penalty == 0 and p.presence_penalty == 0):
        return None
    return NativeSampler.penalties(n_vocab, window, p.repeat_penalty, p.frequency_penalty, p.presence_penalty)


def _make_dry(p: SamplingParams, _n_vocab: int, n_ctx: int) -> NativeSampler | None:
    window = penalty_window(p.dry_penalty_last_n, n_ctx)
    if window == 0 or p.dry_multiplier == 0 or p.dry_base < 1:
        return None
    return NativeSampler.dry(p.dry_multiplier, p.dry_base, p.dry_allowed_length, window)


_MAKERS: dict[str, Callable[[SamplingParams, int, int], NativeSampler | None]] = {
    "logit_bias": _make_logit_bias,
    "penalties": _make_penalties,
    "dry": _make_dry,
    "top_n_sigma": lambda p, *_: NativeSampler.top_n_sigma(p.top_n_sigma) if p.top_n_sigma > 0 else None,
    "top_k": lambda p, *_: NativeSampler.top_k(p.top_k) if p.top_k > 0 else None,
    "typical": lambda p, *_: NativeSampler.typical(p.typical_p) if p.typical_p < 1 else None,
    "top_p": lambda p, *_: NativeSampler.top_p(p.top_p) if p.top_p < 1 else None,
    "min_p": lambda p, *_: NativeSampler.min_p(p.min_p) if p.min_p > 0 else None,
    "xtc": lambda p, *_: (
        NativeSampler.xtc(p.xtc_threshold) if p.xtc_probability > 0 and p.xtc_threshold <= 0.5 else None
    ),
    "temperature": lambda p, *_: NativeSampler.temperature(p.temperature) if p.temperature != 1 else None,
}
"""How each stage is made; None where its settings make it do nothing."""


class Sampler:
    """The chain of one set of settings, with the history its penalties need.

    Args:
        params: The settings.
        n_vocab: Size of the vocabulary.
        n_ctx: Size of the context; what "the whole context" means to penalties.
        history: The tokens so far, oldest first.
        always: Stages to apply and report even where their settings make them do nothing.
    """

    def __init__(
        self, params: SamplingParams, n_vocab: int, n_ctx: int, history: Sequence[int] = (), always: Sequence[str] = ()
    ) -> None:
        self.params = params
        self._n_vocab = n_vocab
        self._candidates = CandidateArray(n_vocab)
        outside = [token for token, _ in params.logit_bias if not 0 <= token < n_vocab]
        if outside:
            raise SamplingError(f"a logit bias names token {outside[0]}, but the vocabulary ends at {n_vocab - 1}")
        self._stages: list[_Stage] = []
        for name in params.order:
            sampler = _MAKERS[name](params, n_vocab, n_ctx)
            if sampler is not None:
                self._stages.append(_Stage(name, sampler))
        running = {stage.name: stage.sampler for stage in self._stages}
        reported = [name for name in params.order if name in running or name in always]
        self._plan = [(name, running.get(name)) for name in reported]
        self._leave_infinite = {"logit_bias", "top_n_sigma"} | ({"temperature"} if params.temperature == 0 else set())
        window = penalty_window(params.repeat_last_n, n_ctx)
        self._windows = {"penalties": window, "dry": penalty_window(params.dry_penalty_last_n, n_ctx)}
        self._history = list(history)
        for stage in self._remembering():
            for token in self._history[-self._windows[stage.name] :]:
                stage.sampler.accept(token)
        self._room = self._prefilter_room()
        self._ahead: dict[int, tuple[int, NDArray[np.float64]]] = {}

    def close(self) -> None:
        """Free the native samplers."""
        for stage in self._stages:
            stage.sampler.close()

    def accept(self, token: int) -> None:
        """Add a token to the history the penalties look at."""
        self._history.append(token)
        for stage in self._remembering():
            stage.sampler.accept(token)

    def choose(self, logits: NDArray[np.float32], position: int, *, show: int = 0, prefilter: bool = True) -> Choice:
        """Pick the token for `position`.

        Where several logits tie at the border of top-k, which of them stay is up to llama.cpp's partial sort.

        Args:
            logits: (n_vocab,) float32, raw.
            position: Index in the context of the token to pick.
            show: How many candidates each stage reports, best first; -1 all.
            prefilter: Allow the exact shortcut past the candidates that top-k would drop anyway.

        Raises:
            DecodeError: A logit is NaN or +inf.
            SamplingError: No candidate is left.
        """
        selection = select(logits, (self._room or 1) + len(touched := self._touched()))
        if not math.isfinite(selection.highest):
            if selection.highest == -math.inf:
                raise SamplingError(f"no token can be chosen at position {position}: every logit is -inf")
            raise DecodeError(
                f"the model gave {selection.highest} as a logit at position {position}: "
                "its weights or the build are broken"
            )
        infinite, hidden = self._fill(logits, selection, touched if prefilter and self._room else None)
        stages = []
        for name, sampler in self._plan:
            if name == "top_k":
                hidden = 0
            if sampler is not None and not (name == "xtc" and self._xtc_rests(position)):
                self._candidates.apply(sampler)
            survivors = len(self._candidates)
            shown: tuple[Candidate, ...] = ()
            if show or infinite or name in self._leave_infinite:
                view = self._candidates.view()
                finite = int(np.count_nonzero(view["logit"] > -np.inf))
                infinite, survivors = finite < survivors, finite
                shown = _describe(view, show) if show else ()
            stages.append(StageTrace(name, survivors + hidden, shown))
        return self._draw(tuple(stages), position, selection)

    def _fill(self, logits: NDArray[np.float32], selection: Selection, touched: set[int] | None) -> tuple[bool, int]:
        """Put into the candidate array all that can survive top-k; everything where that cannot be foreseen.

        Args:
            logits: (n_vocab,) float32.
            selection: At least as many of the best as top-k keeps and `touched` has.
            touched: Tokens that stages ahead of top-k single out; None for everything.

        Returns:
            Whether -inf is among the candidates, and how many finite logits were left out.
        """
        if touched is None or len(selection.ids) * 2 >= self._n_vocab:
            self._candidates.fill(np.arange(self._n_vocab), logits)
            return bool(logits.min() == -np.inf), 0
        pool = selection.ids
        if touched:
            singled_out = np.fromiter(touched, np.intp, len(touched))
            pool = np.concatenate((pool, singled_out[logits[singled_out] < selection.bound]))
        chosen = logits[pool]
        self._candidates.fill(pool, chosen)
        if self._plan[0][0] == "top_k":
            return bool(chosen.min() == -np.inf), 0  # nothing is said of the candidates before top-k
        infinite = bool(logits.min() == -np.inf)
        if not infinite:
            return False, self._n_vocab - len(pool)
        return True, int(np.count_nonzero(logits > -np.inf)) - int(np.count_nonzero(chosen > -np.inf))

    def _prefilter_room(self) -> int:
        """The k of a top-k that only elementwise stages precede, else 0.

        Such stages keep the order of the tokens they do not single out, so what top-k keeps lies within the best
        k + (tokens singled out) and those tokens themselves.
        """
        for stage in self._stages:
            if stage.name == "top_k":
                return self.params.top_k
            if stage.name not in _ELEMENTWISE or (stage.name == "temperature" and self.params.temperature == 0):
                return 0
        return 0

    def _touched(self) -> set[int]:
        """Tokens that the stages ahead of top-k may single out."""
        touched: set[int] = set()
        for stage in self._stages:
            if stage.name == "top_k":
                break
            if stage.name == "logit_bias":
                touched.update(token for token, _ in self.params.logit_bias)
            elif stage.name in self._windows:
                touched.update(self._history[-self._windows[stage.name] :])
        return touched

    def _remembering(self) -> list[_Stage]:
        return [stage for stage in self._stages if stage.name in self._windows]

    def _xtc_rests(self, position: int) -> bool:
        return self._u(position, _XTC) >= self.params.xtc_probability

    def _u(self, position: int, stream: int) -> float:
        """`uniform`, drawn ahead in blocks: setting up a generator costs more than sixty draws."""
        start, draws = self._ahead.get(stream, (-_AHEAD, None))
        if draws is None or not start <= position < start + _AHEAD:
            start, draws = position, _draws(self.params.seed, position, _AHEAD, stream)
            self._ahead[stream] = start, draws
        return float(draws[position - start])

    def _draw(self, stages: tuple[StageTrace, ...], position: int, selection: Selection) -> Choice:
        ids, logits = _sorted(self._candidates.view())
        if not len(ids):
            raise SamplingError(f"no token can be chosen at position {position}: every candidate is banned")
        if self.params.temperature == 0 and "temperature" in self.params.order:
            return Choice(int(ids[0]), None, stages, ids[:1], np.ones(1), selection)
        p = softmax(logits, logits[0])
        u = self._u(position, _DRAW)
        picked = min(int(np.searchsorted(np.cumsum(p), u, side="right")), len(ids) - 1)
        return Choice(int(ids[picked]), u, stages, ids, p, selection)


def softmax(logits: NDArray[np.floating], highest: np.floating | None = None) -> NDArray[np.float64]:
    """Probabilities of (n,) logits, in float64.

    Args:
        logits: In nats; at least one finite.
        highest: The largest of them, if it is known.
    """
    e = logits.astype(np.float64)
    e -= logits.max() if highest is None else highest
    np.exp(e, out=e)
    e /= e.sum()
    return e


def _sorted(view: NDArray[np.void]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and logits of the finite candidates, best first, ties by id."""
    ids, logits = view["id"], view["logit"]
    order = np.lexsort((ids, -logits))
    ids, logits = ids[order], logits[order]
    if len(logits) and logits[-1] == -np.inf:
        alive = np.count_nonzero(logits > -np.inf)
        ids, logits = ids[:alive], logits[:alive]
    return ids, logits


def _describe(view: NDArray[np.void], show: int) -> tuple[Candidate, ...]:
    ids, logits = _sorted(view)
    if not len(ids):
        return ()
    p = softmax(logits)
    count = len(ids) if show < 0 else show
    return tuple(map(Candidate, ids[:count].tolist(), logits[:count].tolist(), p[:count].tolist()))
