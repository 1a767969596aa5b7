"""One prompt, two to four answers, decoded together: each lane is a sequence of its own in one cache.

The prompt is evaluated once and shared. From then on each batch holds the newest token of every lane that goes on, so
that the weights are read once a step for all of them. A lane draws what it would draw alone: its settings, its seed,
its history; only rounding differs, by the size of the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.decoding import StopStrings, TextStream
from tui_chat.engine.generation import make_sampler
from tui_chat.engine.llama import NativeContext
from tui_chat.engine.sampling import Choice
from tui_chat.engine.tracing import Distribution, Tracer
from tui_chat.engine.types import FinishReason, GeneratedToken, Limits, ModelInfo, SamplingParams
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import CancelledError

MOST_LANES = 4
"""Most lanes of one comparison."""


@dataclass(frozen=True, slots=True)
class LaneMoment:
    """What one lane did in one step."""

    token: GeneratedToken | None
    """None when it had ended before."""
    text: str = ""
    """What became readable."""
    ended: FinishReason | None = None
    """Set in the step that ended it; an end-of-generation token is then `token`, and not part of the answer."""
    kl: float | None = None
    """D(first lane || this one), nats, of the model's own distributions; 0 as long as the tokens are the same."""
    kl_drawn: float | None = None
    """The same of what the two lanes drew from, after their chains; infinite where this lane's has dropped a token that
    the first may draw. Both are None for the first lane, and where one of the two has ended."""


@dataclass(frozen=True, slots=True)
class LaneStep:
    """One step of all lanes."""

    index: int
    """Which token of the answers it is, from 0."""
    lanes: tuple[LaneMoment, ...]
    diverged_at: int | None
    """The first step in which not all lanes had the same token, if there was one until now."""
    chunks: tuple[tuple[int, int], ...] = ()
    """How the prompt came into the cache of each lane, see `Context.chunks`."""


class _Lane:
    """One answer on its way."""

    def __init__(
        self, params: SamplingParams, limits: Limits, info: ModelInfo, vocab: Vocabulary, prompt: Sequence[int]
    ) -> None:
        self.sampler = make_sampler(params, limits, info, info.n_ctx, prompt, vocab=vocab)
        self._text, self._stops = TextStream(), StopStrings(limits.stop)
        self.newest = prompt[-1]
        self.alive = True

    def push(self, piece: bytes) -> tuple[str, bool]:
        return self._stops.push(self._text.push(piece))

    def rest(self) -> str:
        text, stopped = self._stops.push(self._text.flush())
        return text if stopped else text + self._stops.flush()


def compare_lanes(
    native: NativeContext,
    vocab: Vocabulary,
    info: ModelInfo,
    prompt_ids: Sequence[int],
    settings: Sequence[SamplingParams],
    limits: Limits,
    top_n: int,
    cancel: CancelFlag,
) -> Iterator[LaneStep]:
    """Decode all lanes to their ends.

    Args:
        native: A fresh context with a sequence and an output for each lane, and room for all their tokens.
        vocab: Of the model.
        info: The model as the conversation has it; its context is what "the whole context" means to penalties.
        prompt_ids: What all lanes continue.
        settings: One for each lane.
        limits: When a lane ends; the limits of time and confidence are not looked at.
        top_n: How many of the best tokens a trace keeps.
        cancel: Ends all lanes that still go on, after the step under way.

    Raises:
        CancelledError: `cancel` was set while the prompt was read.
        DecodeError: llama.cpp failed.
    """
    comparison = _Comparison(vocab, info, limits, Tracer(info.n_vocab, top_n), cancel)
    at = len(prompt_ids)
    diverged_at: int | None = None
    try:
        for params in settings:
            comparison.lanes.append(_Lane(params, limits, info, vocab, prompt_ids))
        chunks = _read(native, prompt_ids, cancel)
        native.share(len(comparison.lanes))
        for index in range(limits.max_tokens):
            running = [number for number, lane in enumerate(comparison.lanes) if lane.alive]
            if not running:
                return
            newest = [comparison.lanes[number].newest for number in running]
            if not native.decode_lanes(newest, at + index - 1, running):
                raise CancelledError("the comparison was stopped")
            rows = dict(zip(running, native.all_logits(len(running)), strict=True))
            moments = comparison.step(rows, at + index, last=index + 1 == limits.max_tokens)
            if diverged_at is None and len({moment.token and moment.token.id for moment in moments}) > 1:
                diverged_at = index
            yield LaneStep(index, moments, diverged_at, chunks)
    finally:
        native.abort_with(None)
        for lane in comparison.lanes:
            lane.sampler.close()


def _read(native: NativeContext, prompt_ids: Sequence[int], cancel: CancelFlag) -> tuple[tuple[int, int], ...]:
    """Evaluate all but the last token, which each lane begins with; gives the chunks, that one included."""
    ids, sizes = prompt_ids[:-1], list[int]()
    native.abort_with(cancel)
    for at in range(0, len(ids), native.n_batch):
        chunk = ids[at : at + native.n_batch]
        if cancel.is_set() or not native.decode(chunk, at, logits=False):
            raise CancelledError("the prompt was stopped while it was read")
        sizes.append(len(chunk))
    # From here on a step is let end: half a batch would leave the lanes at different places.
    native.abort_with(None)
    return tuple((size, sum(1 for _ in equal)) for size, equal in groupby((*sizes, 1)))


_Drawn = tuple[NDArray[np.float32], Choice, Distribution]


class _Comparison:
    """The lanes, and what each step needs."""

    def __init__(self, vocab: Vocabulary, info: ModelInfo, limits: Limits, tracer: Tracer, cancel: CancelFlag) -> None:
        self._vocab, self._info, self._limits = vocab, info, limits
        self._tracer, self._cancel = tracer, cancel
        self._start = time.perf_counter()
        self.lanes: list[_Lane] = []

    def step(self, rows: Mapping[int, NDArray[np.float32]], position: int, *, last: bool) -> tuple[LaneMoment, ...]:
        """Draw a token in every lane that goes on.

        Args:
            rows: Number of a lane to its (n_vocab,) logits.
            position: Index in the context of the tokens.
            last: Whether no more may follow.
        """
        drawn: dict[int, _Drawn] = {
            number: (
                row,
                self.lanes[number].sampler.choose(row, position),
                self._tracer.measure(row, position=position),
            )
            for number, row in rows.items()
        }
        return tuple(
            self._moment(lane, drawn[number], drawn.get(0) if number else None, position, last=last)
            if number in drawn
            else LaneMoment(None)
            for number, lane in enumerate(self.lanes)
        )

    def _moment(self, lane: _Lane, drawn: _Drawn, first: _Drawn | None, position: int, *, last: bool) -> LaneMoment:
        row, choice, distribution = drawn
        piece = self._vocab.piece(choice.id)
        seconds = time.perf_counter() - self._start
        trace = self._tracer.trace(row, distribution, choice, position, piece, seconds)
        kl = (None, None) if first is None else _divergences(first, drawn)
        token = GeneratedToken(choice.id, piece, trace)
        text, ended = self._advance(lane, token, last=last)
        return LaneMoment(token, text, ended, *kl)

    def _advance(self, lane: _Lane, token: GeneratedToken, *, last: bool) -> tuple[str, FinishReason | None]:
        """Give a lane its token; the text that it completed, and why the lane ended with it, if it did."""
        ended: FinishReason | None = None
        text, stopped = "", False
        if token.id in self._info.eog_ids and not self._limits.ignore_eos:
            ended = FinishReason.EOS
        else:
            lane.sampler.accept(token.id)
            lane.newest = token.id
            text, stopped = lane.push(self._vocab.visible(token.id))
            if stopped:
                ended = FinishReason.STOP
            elif last:
                ended = FinishReason.LENGTH
            elif self._cancel.is_set():
                ended = FinishReason.CANCELLED
        if ended is not None:
            lane.alive = False
            text += "" if stopped else lane.rest()
        return text, ended


def _divergences(first: _Drawn, other: _Drawn) -> tuple[float, float]:
    return (
        kl_of_logits(first[0], first[2].logsumexp, other[0], other[2].logsumexp),
        kl_of_survivors(first[1], other[1]),
    )


def kl_of_logits(p: NDArray[np.float32], p_logsumexp: float, q: NDArray[np.float32], q_logsumexp: float) -> float:
    """D(P || Q) in nats: sum of p (ln p - ln q).

    Args:
        p: (n_vocab,) raw logits.
        p_logsumexp: Of them.
        q: (n_vocab,) raw logits.
        q_logsumexp: Of them.
    """
    alive = p > -np.inf
    log_p = p[alive].astype(np.float64) - p_logsumexp
    return max(0.0, float(np.sum(np.exp(log_p) * (log_p - (q[alive].astype(np.float64) - q_logsumexp)))))


def kl_of_survivors(p: Choice, q: Choice) -> float:
    """D(P || Q) in nats between what two chains left; infinite where Q lacks a token of P."""
    order = np.argsort(q.ids)
    place = np.minimum(np.searchsorted(q.ids, p.ids, sorter=order), len(q.ids) - 1)
    found = order[place]
    alive = p.p > 0
    if not np.all((q.ids[found] == p.ids)[alive] & (q.p[found] > 0)[alive]):
        return float("inf")
    return max(0.0, float(np.sum(p.p[alive] * np.log(p.p[alive] / q.p[found][alive]))))
