"""`/compare`: one prompt under two to four settings or seeds, decoded together; where the answers part, and how far.

All lanes begin with the same prompt, so the model's own distributions are the same until a token differs. From there on
each lane has a context of its own, and KL divergence says how much else the model expects there than in the first lane:

    D(P || Q) = sum of p (ln p - ln q) over the vocabulary, nats        (Kullback & Leibler 1951)
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from tui_chat.config import InferenceSettings
from tui_chat.display.figures import FINISH_WORDS
from tui_chat.display.text import literal, piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.lanes import LaneMoment, LaneStep
from tui_chat.engine.types import (
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    SamplingParams,
    Timings,
    TokensGenerated,
    Usage,
)
from tui_chat.errors import UsageError
from tui_chat.language import _, n_
from tui_chat.lessons.report import Block, Column, Flow, Lane, Lanes, Report, Span, Table, Tone, Trend, Words
from tui_chat.lessons.scene import EXAMPLE_QUESTION, Scene
from tui_chat.lessons.watch import Watch

_SHOWN_INTERVAL_S = 1 / 15
"""Time between two states of a comparison under way."""

_LANE_WIDTH = 26

_WORD = re.compile(r"\n|[^\S\n]*\S+|[^\S\n]+")
"""A lane breaks between words; a word has the space before it."""

MARK = "◆"
"""Stands before the first token that is not the same in all lanes."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What one lane is decoded with."""

    label: str
    """As it was asked for."""
    inference: InferenceSettings
    seed: int


@dataclass(slots=True)
class LaneRun:
    """One lane, as far as it is written."""

    wanted: LaneSettings
    params: SamplingParams
    tokens: list[GeneratedToken] = field(default_factory=list)
    """Of the answer; the token that ended it is `end`."""
    text: str = ""
    lengths: list[int] = field(default_factory=list)
    """Characters of the text after each step."""
    kl: list[float] = field(default_factory=list)
    """Nats, for each step that the first lane took as well."""
    kl_drawn: list[float] = field(default_factory=list)
    """The same of what the lanes drew from, after their chains."""
    ended: FinishReason | None = None
    end: GeneratedToken | None = None

    def take(self, moment: LaneMoment) -> None:
        """Takes in a step."""
        if moment.token is None:
            return
        if moment.ended is FinishReason.EOS:
            self.end = moment.token
        else:
            self.tokens.append(moment.token)
        self.text += moment.text
        self.lengths.append(len(self.text))
        self.ended = moment.ended
        if moment.kl is not None and moment.kl_drawn is not None:
            self.kl.append(moment.kl)
            self.kl_drawn.append(moment.kl_drawn)

    def at(self, index: int) -> GeneratedToken | None:
        """The token of a step, that which ended the lane included; None behind that."""
        return self.tokens[index] if index < len(self.tokens) else self.end if index == len(self.tokens) else None

    @property
    def surprisal(self) -> float | None:
        """Mean over its tokens, nats; None where it has none."""
        known = [token.trace.surprisal for token in self.tokens if token.trace is not None]
        return fmean(known) if known else None


class Comparison:
    """A comparison that is run once, on the engine's thread; what came out is read when it has ended.

    Args:
        scene: The conversation whose last message of the user is answered; an example stands in for none.
        lanes: Two to four.

    Raises:
        UsageError: There are fewer or more.
    """

    def __init__(self, scene: Scene, lanes: Sequence[LaneSettings]) -> None:
        from tui_chat.engine.lanes import MOST_LANES

        if not 2 <= len(lanes) <= MOST_LANES:
            raise UsageError(_("compare 2 to {most} lanes, not {n}").format(most=MOST_LANES, n=len(lanes)))
        asked = replace(scene.unanswered(), prefill="")
        self.asked_id = asked.messages[-1].id if asked.messages else None
        """The message that is answered; None where that is the example."""
        self._scene = asked if asked.messages else asked.asking(_(EXAMPLE_QUESTION))
        self._wanted = tuple(lanes)
        self._prompt_ids: tuple[int, ...] = ()
        self._chunks: tuple[tuple[int, int], ...] = ()
        self.runs: tuple[LaneRun, ...] = ()
        self.model = ""
        """Name of the model that wrote the lanes."""
        self.ended = False
        """Whether there are answers to be kept."""

    def run(self, engine: Engine, watch: Watch) -> Report:
        """Decodes all lanes to their ends; stopped in the middle, it gives what there is.

        Raises:
            CancelledError: It was stopped while the prompt was read.
            TuiChatError: The settings or the messages do not hold with this model.
        """
        self.runs = tuple(
            LaneRun(lane, lane.inference.sampling_params(lane.seed, engine.vocab.resolve)) for lane in self._wanted
        )
        self.model = engine.info.name
        prompt = self._scene.fitted(engine)
        self._prompt_ids = prompt.ids
        shown_at, parted = 0.0, None
        steps = engine.compare(prompt.ids, [run.params for run in self.runs], self._scene.limits, cancel=watch.cancel)
        for step in steps:
            self._take(step)
            parted = step.diverged_at
            now = time.monotonic()
            if now - shown_at >= _SHOWN_INTERVAL_S:
                shown_at = now
                watch.show(Report(_("compare"), self._blocks(parted)))
        self.ended = any(run.tokens for run in self.runs)
        return Report(_("compare"), self._blocks(parted, done=True), self._document(engine, parted))

    def events(self, number: int) -> tuple[GenerationStarted | TokensGenerated | GenerationFinished, ...]:
        """What the engine would have reported of a lane, had it been an answer of the conversation.

        Args:
            number: Of the lane, from 0.
        """
        run = self.runs[number]
        request = GenerationRequest(prompt_ids=self._prompt_ids, params=run.params, limits=self._scene.limits)
        seconds = [token.trace.seconds for token in run.tokens if token.trace is not None] or [0.0]
        decode_s, n = seconds[-1] - seconds[0], len(run.tokens)
        return (
            GenerationStarted(0, request),
            TokensGenerated(0, tuple(run.tokens), run.text),
            GenerationFinished(
                0,
                run.ended or FinishReason.CANCELLED,
                Usage(len(self._prompt_ids), 0, n, self._chunks),
                Timings(
                    prefill_s=seconds[0],
                    ttft_s=seconds[0],
                    decode_s=decode_s,
                    tokens_per_s=(n - 1) / decode_s if n > 1 and decode_s > 0 else 0.0,
                ),
                run.end,
            ),
        )

    def inference(self, number: int) -> InferenceSettings:
        """The settings of a lane, counted from 0."""
        return self._wanted[number].inference

    def _take(self, step: LaneStep) -> None:
        self._chunks = step.chunks
        for run, moment in zip(self.runs, step.lanes, strict=True):
            run.take(moment)

    def _blocks(self, parted: int | None, *, done: bool = False) -> list[Block]:
        blocks: list[Block] = [
            Words(self._scene.messages[-1].text, Tone.ACCENT),
            Lanes(tuple(_lane(number, run, parted) for number, run in enumerate(self.runs, 1)), _LANE_WIDTH),
        ]
        if done:
            blocks += [Words(_where(self.runs, parted)), _table(self.runs, parted), Words(_columns(), Tone.DIM)]
        return blocks

    def _document(self, engine: Engine, parted: int | None) -> Mapping[str, object]:
        return {
            "model": engine.info.name,
            "prompt_tokens": len(self._prompt_ids),
            "diverged_at": parted,
            "lanes": [
                {
                    "label": run.wanted.label,
                    "seed": run.wanted.seed,
                    "text": run.text,
                    "ids": [token.id for token in run.tokens],
                    "finish_reason": run.ended,
                    "surprisal": run.surprisal,
                    "kl": run.kl,
                    "kl_drawn": [value if math.isfinite(value) else None for value in run.kl_drawn],
                }
                for run in self.runs
            ],
        }


def _lane(number: int, run: LaneRun, parted: int | None) -> Lane:
    words = tuple(Span(word, span.tone) for span in _spans(run, parted) for word in _WORD.findall(span.text))
    blocks: list[Block] = [Flow(words), Words(_state(run), Tone.DIM)]
    if run.kl:
        blocks.append(Trend(tuple(run.kl), _kl_caption))
    return Lane(f"{number} · {run.wanted.label}", tuple(blocks))


def _spans(run: LaneRun, parted: int | None) -> tuple[Span, ...]:
    """The text: what is common to all is dimmed, and the token that is not stands behind a mark."""
    if parted is None or parted >= len(run.lengths):
        return (Span(run.text),)
    begin, end = run.lengths[parted - 1] if parted else 0, run.lengths[parted]
    parts = (
        Span(run.text[:begin], Tone.DIM),
        Span(MARK, Tone.WARN),
        Span(run.text[begin:end], Tone.STRONG),
        Span(run.text[end:]),
    )
    return tuple(part for part in parts if part.text)


def _state(run: LaneRun) -> str:
    n = len(run.tokens)
    tokens = n_("{n} token", "{n} tokens", n).format(n=f"{n:,}")
    return f"{tokens} …" if run.ended is None else f"{tokens} · {_(FINISH_WORDS[run.ended])}"


def _kl_caption(per: int, low: float, high: float) -> str:
    if per > 1:
        return _("KL from lane 1, {per} tokens a column: {low:.2f} to {high:.2f} nats").format(
            per=per, low=low, high=high
        )
    return _("KL from lane 1 at each token: {low:.2f} to {high:.2f} nats").format(low=low, high=high)


def _where(runs: Sequence[LaneRun], parted: int | None) -> str:
    if parted is None:
        return _("All lanes are the same. Another seed or a higher temperature may part them.")
    picks = ", ".join(
        _("`{token}` in lane {lane}").format(token=literal(piece_label(token.piece)), lane=number)
        for number, run in enumerate(runs, 1)
        if (token := run.at(parted)) is not None
    )
    return _(
        "They part at token {n}, behind the {mark}: {picks}. Until there the model expects the same in all lanes, "
        "so KL is 0; from there on it grows with how differently they go on."
    ).format(n=parted + 1, mark=MARK, picks=picks)


def _columns() -> str:
    return _(
        "surprisal: mean of its tokens, nats. KL: how differently from lane 1 it expects the next token, mean. KL "
        "drawn: the same behind the sampler chains, until they part; ∞ where one chain cuts what the other may draw."
    )


def _table(runs: Sequence[LaneRun], parted: int | None) -> Table:
    """What can be told of each lane in figures."""

    def figure(value: float | None) -> str:
        return "–" if value is None else "∞" if math.isinf(value) else f"{value:.2f}"

    rows = tuple(
        (
            f"{number} · {run.wanted.label}",
            str(len(run.tokens)),
            figure(run.surprisal),
            figure(fmean(run.kl) if run.kl else None),
            figure(fmean(before) if (before := run.kl_drawn[: None if parted is None else parted + 1]) else None),
        )
        for number, run in enumerate(runs, 1)
    )
    columns = (
        Column(_("lane"), grows=True, wraps=True),
        Column(_("tokens"), "right"),
        Column(_("surprisal"), "right"),
        Column(_("KL"), "right"),
        Column(_("KL drawn"), "right"),
    )
    return Table(columns, rows)
