"""One answer, from prompt to finish reason: the decode loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tui_chat.engine.context import Context
from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.feedback import State, learns
from tui_chat.engine.output import Output
from tui_chat.engine.recent import RecentLogits, prefix_key
from tui_chat.engine.sampling import Choice, Sampler
from tui_chat.engine.selection import Selection
from tui_chat.engine.stepping import Decision, Step, StepControl
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
    TokensWithdrawn,
    TokenTrace,
    Usage,
)
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import CancelledError, SamplingError, TuiChatError


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
        self._output = Output(vocab, request.limits.stop, request_id)
        self._generated = 0
        self._end: GeneratedToken | None = None
        self._first_s: float | None = None
        self._start = time.perf_counter()

    def run(self, *, launch_first: bool) -> Iterator[EngineEvent]:
        """Prefill and decode.

        Args:
            launch_first: Start the next evaluation before computing a token's figures: on a GPU the two overlap. On
                the CPU they would share the cores, so there the figures come first and reach the screen a token sooner.
        """
        yield GenerationStarted(self._request_id, self._request)
        total = len(self._request.prompt_ids)
        self._output.begin(self._given())
        reused = self._context.n_ctx
        try:
            for done in self._prefill():
                reused = min(reused, done)
                yield PrefillProgressed(self._request_id, done, total, reused)
        except CancelledError:
            yield from self._close(FinishReason.CANCELLED, min(reused, total), self._elapsed())
            return
        prefill_s = self._elapsed()
        self._chunks = self._context.chunks
        try:
            reason = yield from self._decode(launch_first=launch_first)
        except TuiChatError:
            yield from self._output.flush()
            raise
        finally:
            self._context.abort_with(None)
            self._drop_sampler()
        yield from self._close(reason, min(reused, total), prefill_s)

    def _decode(self, *, launch_first: bool) -> Generator[EngineEvent, None, FinishReason]:
        """A token after the other; gives why it ended."""
        while True:
            if self._steps is None and self._live.steps is not None:
                self._wait_for(self._live.steps)
            reason = self._limit_reached()
            if reason is None:
                reason = yield from self._advance(launch_first=launch_first)
            if reason is not None:
                return reason

    def _advance(self, *, launch_first: bool) -> Generator[EngineEvent, None, FinishReason | None]:
        """Choose a token and take it; gives why the answer ends with it, None where it does not."""
        if self._update_params():
            yield self._settings_from_here()
        sampler = self._sampler = self._sampler or self._new_sampler(self._params)
        self._logits = self._context.logits()
        if launch_first:  # the next evaluation writes over them before the figures are made
            self._logits = self._logits.copy()
        position = len(self._context.ids)
        distribution = self._confidence_check()
        if distribution is not None and distribution.confidence < (self._request.limits.min_confidence or 0):
            return FinishReason.CONFIDENCE
        choice = sampler.choose(self._logits, position)
        seconds = self._elapsed()
        self._first_s = seconds if self._first_s is None else self._first_s
        finish = partial(self._token, choice, distribution, position, seconds)
        if self._steps is not None:
            token = finish()
            if token.trace is not None and self._steps.stops_at(token.trace):
                decided = yield from self._step(self._steps, sampler, position, seconds)
                if decided is None:
                    return None
                token = decided
            return (yield from self._take(sampler, token.id, lambda: token, launch_first=launch_first))
        return (yield from self._take(sampler, choice.id, finish, launch_first=launch_first))

    def _take(
        self, sampler: Sampler, chosen: int, finish: Callable[[], GeneratedToken], *, launch_first: bool
    ) -> Generator[EngineEvent, None, FinishReason | None]:
        """Let a chosen token be the next one; gives why the answer ends with it.

        Args:
            sampler: That chose it.
            chosen: Its id.
            finish: Computes its figures.
            launch_first: See `run`.
        """
        position = len(self._context.ids)
        if chosen in self._info.eog_ids and not self._request.limits.ignore_eos:
            self._end = finish()
            return FinishReason.EOS
        goes_on = self._generated + 1 < self._request.limits.max_tokens and position + 1 < self._context.n_ctx
        alive = self._context.append(chosen) if goes_on and launch_first else True
        stopped = self._output.push(finish())
        self._generated += 1
        self._banned = ()
        sampler.accept(chosen)
        self._learn(sampler, position, chosen)
        reason = FinishReason.STOP if stopped else None if goes_on else FinishReason.LENGTH
        yield from self._output.flush(force=self._generated == 1)
        if reason is None and not launch_first:
            alive = self._context.append(chosen)
        return reason if alive else FinishReason.CANCELLED

    def _wait_for(self, steps: StepControl) -> None:
        self._steps = steps
        steps.listen(self._cancel, self._live)

    def _step(
        self, steps: StepControl, sampler: Sampler, position: int, seconds: float
    ) -> Generator[EngineEvent, None, GeneratedToken | None]:
        """Wait for what a person decides; gives the token, or None where the loop must look at everything anew."""
        yield from self._output.flush()
        began = time.perf_counter()
        try:
            choice = sampler.choose(self._logits, position, show=self._request.top_n)
            token = self._token(choice, None, position, seconds)
            decision = yield from self._decided(steps, token, choice.p_chosen)
            if decision is None:
                return None
            if decision.step is Step.DRAW:
                return _lighter(token)
            if decision.step is Step.PICK and decision.token is not None:
                picked = replace(choice, id=decision.token, u=None)
                return replace(_lighter(self._token(picked, None, position, seconds)), forced=True)
            if decision.step is Step.BACK:
                yield from self._back()
            return None
        finally:
            self._paused_s += time.perf_counter() - began

    def _decided(
        self, steps: StepControl, token: GeneratedToken, p: float
    ) -> Generator[EngineEvent, None, Decision | None]:
        """Offer a token until something possible is decided; None where it was stopped or has other settings."""
        steps.offer()
        yield TokenPending(self._request_id, token, self._banned, p_final=p)
        while True:
            decision = steps.wait()
            refused = "" if decision is None else self._refusal(decision)
            if decision is not None and not refused:
                return decision
            if self._cancel.is_set() or self._wanted() != self._params:
                return None
            steps.offer()
            if refused:
                yield TokenPending(self._request_id, token, self._banned, refused, p)

    def _refusal(self, decision: Decision) -> str:
        """Why a decision cannot be followed; empty where it can. A ban is then in force."""
        token = decision.token
        if decision.step is Step.BACK:
            return "" if self._generated else "there is no token to take back: none was drawn since the answer began"
        if decision.step is Step.DRAW:
            return ""
        if token is None or not 0 <= token < self._info.n_vocab:
            return f"this model has no token {token}: its vocabulary ends at {self._info.n_vocab - 1}"
        text = self._vocab.piece(token).decode("utf-8", "replace")
        if decision.step is Step.PICK:
            allowed = self._sampler is None or self._sampler.allows(token)
            return "" if allowed else f"the grammar does not allow {text!r} here: pick one that it allows"
        return "" if self._ban(token) else f"{text!r} cannot be banned: without it nothing is left to draw from"

    def _ban(self, token: int) -> bool:
        """Refuse a token at this place; False where it is the last that is left."""
        before = self._banned
        self._banned = (*before, token)
        try:
            sampler = self._new_sampler(self._wanted())
            try:
                sampler.choose(self._logits, len(self._context.ids))
            finally:
                sampler.close()
        except SamplingError:
            self._banned = before
            return False
        return True

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
        total = len(self._request.prompt_ids)
        start = total - self._request.n_prefilled
        text = self._output.rewrite(ids[start:total], ids[total:])
        yield TokensWithdrawn(self._request_id, len(ids) - start, text)
        self._update_params()
        yield self._settings_from_here()  # others may have held when this token was drawn first

    def _wanted(self) -> SamplingParams:
        """The settings that are wanted now, with what was banned at this place."""
        return without(self._live.params or self._request.params, self._banned)

    def _settings_from_here(self) -> SettingsChanged:
        return SettingsChanged(self._request_id, self._request.n_prefilled + self._generated, self._params)

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
        sampler = self._new_sampler(self._params)
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

    def _new_sampler(self, params: SamplingParams) -> Sampler:
        ids = self._context.ids
        start = len(self._request.prompt_ids) - self._request.n_prefilled
        return make_sampler(
            params,
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

    def _limit_reached(self) -> FinishReason | None:
        limits, first_s = self._request.limits, self._first_s
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
            selection: Selection | None = choice.selection
            if self._recent is not None:
                selection = self._recent.put(self._context.key(position), self._logits, selection)
            distribution = distribution or self._tracer.measure(self._logits, selection, position=position)
            trace = self._tracer.trace(self._logits, distribution, choice, position, piece, seconds)
        return GeneratedToken(choice.id, piece, trace, forced=bool(self._banned))

    def _given(self) -> list[GeneratedToken]:
        """The tokens of the answer that were in the request."""
        kept = self._request.kept
        ids = self._request.prompt_ids[len(self._request.prompt_ids) - self._request.n_prefilled :]
        return [*kept, *(GeneratedToken(token, self._vocab.piece(token), None, True) for token in ids[len(kept) :])]

    def _elapsed(self) -> float:
        """Seconds since the request, without those spent waiting for a person."""
        return time.perf_counter() - self._start - self._paused_s

    def _close(self, reason: FinishReason, reused: int, prefill_s: float) -> Iterator[EngineEvent]:
        """Report the rest of the text, and the end."""
        if reason is not FinishReason.STOP:
            self._output.end()
        yield from self._output.flush()
        first_s = self._first_s
        decode_s = self._elapsed() - first_s if first_s is not None else 0.0
        rate = (self._generated - 1) / decode_s if self._generated > 1 and decode_s > 0 else 0.0
        yield GenerationFinished(
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


def _lighter(token: GeneratedToken) -> GeneratedToken:
    """A token without the candidates of its stages: they are most of its size, and only who was asked needed them."""
    if (trace := token.trace) is None:
        return token
    return replace(token, trace=replace(trace, stages=tuple(replace(s, candidates=()) for s in trace.stages)))


def without(params: SamplingParams, banned: Sequence[int]) -> SamplingParams:
    """The settings with some tokens banned, before anything else is looked at, wherever biases stand in the order."""
    if not banned:
        return params
    biases = params.logit_bias if "logit_bias" in params.order else ()
    rest = tuple(name for name in params.order if name != "logit_bias")
    bans = tuple((token, -math.inf) for token in banned)
    return replace(params, logit_bias=biases + bans, order=("logit_bias", *rest))


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
