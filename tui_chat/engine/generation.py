"""One answer, from prompt to finish reason: the decode loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tui_chat.engine.context import Context
from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.decoding import StopStrings, TextStream
from tui_chat.engine.sampling import Choice, Sampler
from tui_chat.engine.tracing import Distribution, Tracer
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    ModelInfo,
    PrefillProgressed,
    SamplingParams,
    Timings,
    TokensGenerated,
    TokenTrace,
    Usage,
)
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import CancelledError, TuiChatError

BATCHES_PER_S = 30
"""Most `TokensGenerated` events a second."""


class Generation:
    """The state of one answer. See `Engine.generate`, which makes it."""

    def __init__(
        self,
        context: Context,
        vocab: Vocabulary,
        info: ModelInfo,
        request: GenerationRequest,
        request_id: int,
        live: LiveParams | None,
        cancel: CancelFlag,
    ) -> None:
        self._context, self._vocab, self._info = context, vocab, info
        self._request, self._request_id = request, request_id
        self._live = live or LiveParams()
        self._cancel = cancel
        self._tracer = Tracer(info.n_vocab, request.top_n)
        self._logits = np.empty(0, np.float32)
        self._text, self._stops = TextStream(), StopStrings(request.limits.stop)
        self._pending: list[GeneratedToken] = []
        self._pending_text = ""
        self._generated = 0
        self._end: GeneratedToken | None = None
        self._start = self._flushed = time.perf_counter()

    def run(self, *, launch_first: bool) -> Iterator[EngineEvent]:
        """Prefill and decode.

        Args:
            launch_first: Start the next evaluation before computing a token's figures: on a GPU the two overlap. On
                the CPU they would share the cores, so there the figures come first and reach the screen a token sooner.
        """
        yield GenerationStarted(self._request_id, self._request)
        total = len(self._request.prompt_ids)
        self._begin_with(self._request.prompt_ids[total - self._request.n_prefilled :])
        reused = self._context.n_ctx
        try:
            for done in self._context.prefill(self._request.prompt_ids, self._cancel):
                reused = min(reused, done)
                yield PrefillProgressed(self._request_id, done, total, reused)
        except CancelledError:
            if (batch := self._batch(force=True)) is not None:
                yield batch
            yield self._finished(FinishReason.CANCELLED, min(reused, total), prefill_s=self._elapsed(), first_s=None)
            return
        prefill_s = self._elapsed()
        first_s: float | None = None
        sampler: Sampler | None = None
        params = self._request.params
        reason: FinishReason | None = None
        try:
            while reason is None:
                if (reason := self._limit_reached(first_s)) is not None:
                    break
                wanted = self._live.params or self._request.params
                if sampler is None or wanted is not params:
                    params = wanted
                    sampler = self._new_sampler(params, sampler)
                self._logits = self._context.logits()
                if launch_first:  # the next evaluation writes over them before the figures are made
                    self._logits = self._logits.copy()
                position = len(self._context.ids)
                distribution = self._confidence_check()
                if distribution is not None and distribution.confidence < (self._request.limits.min_confidence or 0):
                    reason = FinishReason.CONFIDENCE
                    break
                choice = sampler.choose(self._logits, position)
                first_s = self._elapsed() if first_s is None else first_s
                seconds = self._elapsed()
                if choice.id in self._info.eog_ids and not self._request.limits.ignore_eos:
                    self._end = self._token(choice, distribution, position, seconds)
                    reason = FinishReason.EOS
                    break
                goes_on = self._generated + 1 < self._request.limits.max_tokens and position + 1 < self._context.n_ctx
                alive = self._context.append(choice.id) if goes_on and launch_first else True
                stopped = self._emit(self._token(choice, distribution, position, seconds))
                sampler.accept(choice.id)
                if stopped:
                    reason = FinishReason.STOP
                elif not goes_on:
                    reason = FinishReason.LENGTH
                if (batch := self._batch(force=self._generated == 1)) is not None:
                    yield batch
                if reason is None and not launch_first:
                    alive = self._context.append(choice.id)
                if not alive:
                    reason = FinishReason.CANCELLED
        except TuiChatError:
            if (batch := self._batch(force=True)) is not None:
                yield batch
            raise
        finally:
            self._context.abort_with(None)
            if sampler is not None:
                sampler.close()
        self._pending_text += "" if reason is FinishReason.STOP else self._rest()
        if (batch := self._batch(force=True)) is not None:
            yield batch
        yield self._finished(reason or FinishReason.LENGTH, min(reused, total), prefill_s=prefill_s, first_s=first_s)

    def _new_sampler(self, params: SamplingParams, old: Sampler | None) -> Sampler:
        if old is not None:
            old.close()
        if self._request.limits.ignore_eos:
            bans = tuple((token, -math.inf) for token in sorted(self._info.eog_ids))
            params = replace(params, logit_bias=params.logit_bias + bans)
        return Sampler(params, self._info.n_vocab, self._context.n_ctx, self._context.ids)

    def _limit_reached(self, first_s: float | None) -> FinishReason | None:
        limits = self._request.limits
        if self._cancel.is_set():
            return FinishReason.CANCELLED
        if self._generated >= limits.max_tokens or len(self._context.ids) >= self._context.n_ctx:
            return FinishReason.LENGTH
        if limits.time_limit_s is not None and first_s is not None and self._elapsed() - first_s >= limits.time_limit_s:
            return FinishReason.TIME
        return None

    def _confidence_check(self) -> Distribution | None:
        """The distribution, if a limit needs it before the token is chosen."""
        return self._tracer.measure(self._logits) if self._request.limits.min_confidence is not None else None

    def _token(
        self, choice: Choice, distribution: Distribution | None, position: int, seconds: float
    ) -> GeneratedToken:
        piece = self._vocab.piece(choice.id)
        trace: TokenTrace | None = None
        if self._request.inspect:
            distribution = distribution or self._tracer.measure(self._logits, choice.selection)
            trace = self._tracer.trace(self._logits, distribution, choice, position, piece, seconds)
        return GeneratedToken(choice.id, piece, trace)

    def _begin_with(self, ids: Sequence[int]) -> None:
        """Queue the tokens of the answer that were in the request: nothing chose them, so they have no figures."""
        for token in ids:
            piece = self._vocab.piece(token)
            self._pending.append(GeneratedToken(token, piece, None))
            self._pending_text += self._text.push(piece)

    def _emit(self, token: GeneratedToken) -> bool:
        """Queue a token for the next batch; True when it completes a stop string."""
        self._generated += 1
        self._pending.append(token)
        piece = b"" if self._vocab.is_control(token.id) else token.piece
        text, stopped = self._stops.push(self._text.push(piece))
        self._pending_text += text
        return stopped

    def _rest(self) -> str:
        text, stopped = self._stops.push(self._text.flush())
        return text if stopped else text + self._stops.flush()

    def _batch(self, *, force: bool) -> TokensGenerated | None:
        now = time.perf_counter()
        if not (self._pending or self._pending_text) or (not force and now - self._flushed < 1 / BATCHES_PER_S):
            return None
        batch = TokensGenerated(self._request_id, tuple(self._pending), self._pending_text)
        self._pending, self._pending_text, self._flushed = [], "", now
        return batch

    def _elapsed(self) -> float:
        return time.perf_counter() - self._start

    def _finished(
        self, reason: FinishReason, reused: int, *, prefill_s: float, first_s: float | None
    ) -> GenerationFinished:
        decode_s = self._elapsed() - first_s if first_s is not None else 0.0
        rate = (self._generated - 1) / decode_s if self._generated > 1 and decode_s > 0 else 0.0
        return GenerationFinished(
            self._request_id,
            reason,
            Usage(len(self._request.prompt_ids), reused, self._generated),
            Timings(
                prefill_s=prefill_s,
                ttft_s=first_s if first_s is not None else self._elapsed(),
                decode_s=decode_s,
                tokens_per_s=rate,
            ),
            self._end,
        )
