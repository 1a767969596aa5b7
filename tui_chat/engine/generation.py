"""One answer, from prompt to finish reason: the decode loop."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tui_chat.engine.context import Context
from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.decoding import StopStrings, TextStream
from tui_chat.engine.feedback import State, learns
from tui_chat.engine.recent import RecentLogits, prefix_key
from tui_chat.engine.sampling import Choice, Sampler
from tui_chat.engine.stepping import Step, StepControl
from tui_chat.engine.tracing import Distribution, Tracer
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    Limits,
    ModelInfo,
    PrefillProgressed,
    SamplingParams,
    SettingsChanged,
    Timings,
    TokenPending,
    TokensGenerated,
    TokensWithdrawn,
    TokenTrace,
    Usage,
)
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import CancelledError, SamplingError, TuiChatError

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
        steps: StepControl | None = None,
        recent: RecentLogits | None = None,
    ) -> None:
        self._context, self._vocab, self._info = context, vocab, info
        self._recent = recent
        self._request, self._request_id = request, request_id
        self._live = live or LiveParams()
        self._cancel = cancel
        self._steps: StepControl | None = None
        if steps is not None:
            self._wait_for(steps)
        self._params = request.params
        self._sampler: Sampler | None = None
        self._states: dict[int, State] = {}
        self._learnt_with: SamplingParams | None = request.params
        self._banned: tuple[int, ...] = ()
        self._paused_s = 0.0
        self._chunks: tuple[tuple[int, int], ...] = ()
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
        self._begin()
        reused = self._context.n_ctx
        try:
            for done in self._prefill():
                reused = min(reused, done)
                yield PrefillProgressed(self._request_id, done, total, reused)
        except CancelledError:
            self._pending_text += self._rest()
            if (batch := self._batch(force=True)) is not None:
                yield batch
            yield self._finished(FinishReason.CANCELLED, min(reused, total), prefill_s=self._elapsed(), first_s=None)
            return
        prefill_s = self._elapsed()
        self._chunks = self._context.chunks
        first_s: float | None = None
        reason: FinishReason | None = None
        try:
            while reason is None:
                if self._steps is None and self._live.steps is not None:
                    self._wait_for(self._live.steps)
                if (reason := self._limit_reached(first_s)) is not None:
                    break
                if self._update_params():
                    yield SettingsChanged(self._request_id, self._request.n_prefilled + self._generated, self._params)
                sampler = self._sampler = self._sampler or self._new_sampler()
                self._logits = self._context.logits()
                if launch_first:  # the next evaluation writes over them before the figures are made
                    self._logits = self._logits.copy()
                position = len(self._context.ids)
                distribution = self._confidence_check()
                if distribution is not None and distribution.confidence < (self._request.limits.min_confidence or 0):
                    reason = FinishReason.CONFIDENCE
                    break
                choice = self._choose(sampler, position)
                first_s = self._elapsed() if first_s is None else first_s
                seconds = self._elapsed()
                token: GeneratedToken | None = None
                if self._steps is not None:
                    token = self._token(choice, distribution, position, seconds)
                    if token.trace is not None and self._steps.stops_at(token.trace):
                        token = yield from self._step(self._steps, sampler, position, seconds)
                        if token is None:
                            continue
                        choice = replace(choice, id=token.id)
                if choice.id in self._info.eog_ids and not self._request.limits.ignore_eos:
                    self._end = token or self._token(choice, distribution, position, seconds)
                    reason = FinishReason.EOS
                    break
                goes_on = self._generated + 1 < self._request.limits.max_tokens and position + 1 < self._context.n_ctx
                alive = self._context.append(choice.id) if goes_on and launch_first else True
                stopped = self._emit(token or self._token(choice, distribution, position, seconds))
                self._banned = ()
                sampler.accept(choice.id)
                self._learn(sampler, position, choice.id)
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
            self._drop_sampler()
        self._pending_text += "" if reason is FinishReason.STOP else self._rest()
        if (batch := self._batch(force=True)) is not None:
            yield batch
        yield self._finished(reason or FinishReason.LENGTH, min(reused, total), prefill_s=prefill_s, first_s=first_s)

    def _wait_for(self, steps: StepControl) -> None:
        self._steps = steps
        steps.listen(self._cancel, self._live)

    def _step(
        self, steps: StepControl, sampler: Sampler, position: int, seconds: float
    ) -> Generator[EngineEvent, None, GeneratedToken | None]:
        """Wait for what a person decides; gives the token, or None where the loop must look at everything anew."""
        if (batch := self._batch(force=True)) is not None:
            yield batch
        began = time.perf_counter()
        try:
            choice = self._choose(sampler, position, show=self._request.top_n)
            token = self._token(choice, None, position, seconds)
            steps.offer()
            yield TokenPending(self._request_id, token, self._banned)
            while (decision := steps.wait()) is None or not self._is_possible(decision.step, decision.token):
                if self._cancel.is_set() or self._wanted() != self._params:
                    return None
                steps.offer()
            if decision.step is Step.DRAW:
                return token
            if decision.step is Step.PICK and decision.token is not None:
                picked = replace(choice, id=decision.token, u=None)
                return replace(self._token(picked, None, position, seconds), forced=True)
            if decision.step is Step.BAN and decision.token is not None:
                self._ban(sampler, position, decision.token)
            else:
                yield from self._back()
            return None
        finally:
            self._paused_s += time.perf_counter() - began

    def _is_possible(self, step: Step, token: int | None) -> bool:
        if step in (Step.PICK, Step.BAN):
            known = token is not None and 0 <= token < self._info.n_vocab
            return known and (step is Step.BAN or self._sampler is None or self._sampler.allows(token or 0))
        return step is Step.DRAW or self._generated > 0

    def _ban(self, sampler: Sampler, position: int, token: int) -> None:
        """Refuse a token at this place, unless it is the last that is left."""
        before = self._banned
        self._banned = (*before, token)
        try:
            self._choose(sampler, position)
        except SamplingError:
            self._banned = before

    def _back(self) -> Iterator[EngineEvent]:
        """Take the last token out of the cache, the history and the text."""
        ids = list(self._context.ids[:-1])
        self._drop_sampler()
        self._banned = ()
        try:
            for _ in self._context.prefill(ids, self._cancel):
                pass
        except CancelledError:
            return
        self._generated -= 1
        self._text, self._stops = TextStream(), StopStrings(self._request.limits.stop)
        start = len(self._request.prompt_ids) - self._request.n_prefilled
        text = self._text_of_kept(ids[start : len(self._request.prompt_ids)])
        for token in ids[len(self._request.prompt_ids) :]:
            text += self._stops.push(self._text.push(self._visible(token)))[0]
        yield TokensWithdrawn(self._request_id, len(ids) - start, text)

    def _choose(self, sampler: Sampler, position: int, *, show: int = 0) -> Choice:
        if not self._banned:
            return sampler.choose(self._logits, position, show=show)
        logits = self._logits.copy()
        logits[list(self._banned)] = -np.inf
        return sampler.choose(logits, position, show=show)

    def _wanted(self) -> SamplingParams:
        return self._live.params or self._request.params

    def _update_params(self) -> bool:
        """Take over the settings that are wanted now; whether they are others than before."""
        wanted = self._wanted()
        if wanted is self._params:
            return False
        changed = wanted != self._params
        self._params = wanted
        if changed:
            self._drop_sampler()
        return changed

    def _prefill(self) -> Iterator[int]:
        """Read the prompt; where the answer has begun and a stage learns from it, that part a token at a time."""
        ids, n_answer = self._request.prompt_ids, self._request.n_prefilled
        start = len(ids) - n_answer
        key = prefix_key(ids)
        if (known := self._context.learnt.get(key, n_answer, self._params)) is not None:
            self._states[len(ids)] = known
        if known is not None or not learns(self._params) or not 0 < start < len(ids):
            yield from self._context.prefill(ids, self._cancel)
            return
        yield from self._context.prefill(ids[:start], self._cancel)
        sampler = self._new_sampler()
        try:
            for token in ids[start:]:
                position = len(self._context.ids)
                sampler.choose(self._context.logits(), position)
                sampler.accept(token)
                self._learn(sampler, position, token)
                if self._cancel.is_set() or not self._context.append(token):
                    raise CancelledError("the prompt was stopped while it was read")
                yield position + 1
        finally:
            sampler.close()

    def _learn(self, sampler: Sampler, position: int, token: int) -> None:
        """Keep what the stages have learnt behind a token."""
        if not (state := sampler.state):
            return
        self._states[position + 1] = state
        if self._params != self._learnt_with:
            self._learnt_with = None  # a state of mixed settings belongs to this answer alone
        if self._learnt_with is not None:
            start = len(self._request.prompt_ids) - self._request.n_prefilled
            key = prefix_key((token,), self._context.key(position))
            self._context.learnt.put(key, position + 1 - start, self._learnt_with, state)

    def _new_sampler(self) -> Sampler:
        ids = self._context.ids
        start = len(self._request.prompt_ids) - self._request.n_prefilled
        return make_sampler(
            self._params,
            self._request.limits,
            self._info,
            self._context.n_ctx,
            ids,
            vocab=self._vocab,
            n_answer=max(0, len(ids) - start),
            state=self._states.get(len(ids)),
        )

    def _drop_sampler(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

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
        if self._request.limits.min_confidence is None:
            return None
        return self._tracer.measure(self._logits, position=len(self._context.ids))

    def _token(
        self, choice: Choice, distribution: Distribution | None, position: int, seconds: float
    ) -> GeneratedToken:
        piece = self._vocab.piece(choice.id)
        trace: TokenTrace | None = None
        if self._request.inspect or self._steps is not None:
            selection = None if self._banned else choice.selection
            if self._recent is not None:
                selection = self._recent.put(self._context.key(position), self._logits, selection)
            distribution = distribution or self._tracer.measure(self._logits, selection, position=position)
            trace = self._tracer.trace(self._logits, distribution, choice, position, piece, seconds)
        return GeneratedToken(choice.id, piece, trace, forced=bool(self._banned))

    def _begin(self) -> None:
        """Queue the tokens of the answer that were in the request."""
        total, kept = len(self._request.prompt_ids), self._request.kept
        ids = self._request.prompt_ids[total - self._request.n_prefilled :]
        self._pending += kept
        self._pending += [GeneratedToken(token, self._vocab.piece(token), None, True) for token in ids[len(kept) :]]
        self._pending_text = self._text_of_kept(ids)

    def _text_of_kept(self, ids: Sequence[int]) -> str:
        """The text of the tokens an answer begins with; what may become a stop string is held back."""
        text = "".join(self._text.push(self._visible(token)) for token in ids)
        shown, stopped = self._stops.push(text)
        if stopped:  # it was put there on purpose
            self._stops = StopStrings(self._request.limits.stop)
            return text
        return shown

    def _visible(self, token: int) -> bytes:
        return b"" if self._vocab.is_control(token) else self._vocab.piece(token)

    def _emit(self, token: GeneratedToken) -> bool:
        """Queue a token for the next batch; True when it completes a stop string."""
        self._generated += 1
        self._pending.append(token)
        text, stopped = self._stops.push(self._text.push(self._visible(token.id)))
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
        """Seconds since the request, without those spent waiting for a person."""
        return time.perf_counter() - self._start - self._paused_s

    def _finished(
        self, reason: FinishReason, reused: int, *, prefill_s: float, first_s: float | None
    ) -> GenerationFinished:
        decode_s = self._elapsed() - first_s if first_s is not None else 0.0
        rate = (self._generated - 1) / decode_s if self._generated > 1 and decode_s > 0 else 0.0
        return GenerationFinished(
            self._request_id,
            reason,
            Usage(len(self._request.prompt_ids), reused, self._generated, self._chunks),
            Timings(
                prefill_s=prefill_s,
                ttft_s=first_s if first_s is not None else self._elapsed(),
                decode_s=decode_s,
                tokens_per_s=rate,
            ),
            self._end,
        )


def make_sampler(
    params: SamplingParams,
    limits: Limits,
    info: ModelInfo,
    n_ctx: int,
    history: Sequence[int],
    *,
    vocab: Vocabulary | None = None,
    n_answer: int = 0,
    state: State | None = None,
) -> Sampler:
    """The sampler of one answer, at the place where `history` ends.

    Args:
        params: The settings.
        limits: Say whether the answer may end by itself.
        info: The model.
        n_ctx: What "the whole context" means to penalties.
        history: All tokens so far, those of the prompt included.
        vocab: The model's tokens; a grammar needs them.
        n_answer: How many of the last of `history` belong to the answer.
        state: What mirostat or adaptive-p had learnt from those.
    """
    if limits.ignore_eos:
        bans = tuple((token, -math.inf) for token in sorted(info.eog_ids))
        params = replace(params, logit_bias=params.logit_bias + bans)
    return Sampler(params, info.n_vocab, n_ctx, history, vocab=vocab, n_answer=n_answer, state=state)
