"""`haiku`: one prompt, one seed, four temperatures; where the texts part, and what temperature did to the choice there.

Temperature divides the logits before the softmax (Ackley, Hinton & Sejnowski, A Learning Algorithm for Boltzmann
Machines, 1985; `llama_sampler_init_temp`):

    p_T(token) = e^(logit / T) / sum of e^(logit / T) over the vocabulary

Nothing else acts here: no truncation, no penalty. The runs advance together, each in a cache of its own, so that all
have evaluated the very same batches until they part.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tui_chat.chat.prompt import Prompt
from tui_chat.display.figures import FINISH_WORDS, percent
from tui_chat.display.text import literal, piece_label
from tui_chat.engine.control import CancelFlag
from tui_chat.engine.decoding import TextStream
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import uniform
from tui_chat.engine.types import (
    EngineEvent,
    GenerationFinished,
    GenerationRequest,
    Limits,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.errors import UsageError
from tui_chat.language import N_, _, n_
from tui_chat.lessons import excerpt
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.moment import cooled, entropy
from tui_chat.lessons.report import (
    Block,
    Cell,
    Column,
    Heading,
    Lane,
    Lanes,
    Report,
    Span,
    Table,
    Tone,
    Verbatim,
    Words,
)
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch

TEMPERATURES = ((N_("greedy"), 0.0), (N_("balanced"), 0.7), (N_("creative"), 1.5), (N_("chaos"), 2.0))
"""Name and temperature of each run."""

MAX_TOKENS = 64
"""Where a run ends at the latest: a haiku takes some twenty tokens, chaos may never end."""

DEFAULT_TOPIC = N_("the sea")

_SHOWN = 6
"""Tokens of the distribution that are listed, besides those that were picked."""
_LANE_WIDTH = 30
"""A line of a haiku fits."""


def question(topic: str | None) -> str:
    """What the model is asked.

    Args:
        topic: What the haiku is about; None takes the sea.

    Raises:
        UsageError: The topic is empty.
    """
    about = _(DEFAULT_TOPIC) if topic is None else " ".join(topic.split())
    if not about:
        raise UsageError(_("the topic is empty: give a word or two, or leave it out"))
    return _("Write a haiku about {topic}.").format(topic=about)


def first_parting(sequences: Sequence[Sequence[int]]) -> int | None:
    """Index of the first token that is not the same in all sequences; None where one of them ends before."""
    for index, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return index
    return None


def haiku(engine: Engine, watch: Watch, scene: Scene) -> Report:
    """Answer the scene's message greedily and at three temperatures, with one seed.

    Args:
        engine: Its cache stays as it is.
        watch: Shown the texts while they grow; stops them.
        scene: The message, the seed and the template; nothing else of its settings acts here. Of a message that is too
            long, the beginning is used: there stands what to write.

    Raises:
        PromptTooLongError: The system text alone does not fit into the context.
        ModelMemoryError: There is no room for four caches of the message's size.
        TemplateError: The template refuses the message.
        CancelledError: It was stopped.
    """
    scene, used = excerpt.part_of_message(
        engine, replace(scene, enable_thinking=False, prefill=""), reserve=MAX_TOKENS, beginning=True
    )
    prompt = scene.prompt(engine)
    asked, seed = _Asked(scene.messages[-1].text, used), scene.params.seed
    runs = [_Run(name, temperature) for name, temperature in TEMPERATURES]
    with ExitStack() as stack:
        asides = [stack.enter_context(engine.aside(len(prompt.ids) + MAX_TOKENS)) for _run in runs]
        streams = []
        for run, aside in zip(runs, asides, strict=True):
            stream = _stream(aside, run.request(prompt.ids, seed), watch.cancel)
            stack.callback(stream.close)
            streams.append((run, stream))
        while any(run.finished is None for run in runs):
            for run, stream in streams:
                if run.finished is None:
                    run.take(next(stream))
            watch.show(_report(engine, asked, prompt, seed, runs, None))
        watch.check()
        index = first_parting([run.sequence for run in runs])
        parting = None
        if index is not None:
            shared = runs[0].ids[:index]
            parting = _Parting(shared, asides[0].logits([*prompt.ids, *shared], watch.cancel), runs)
    return _report(engine, asked, prompt, seed, runs, parting)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The message, and which part of it that is, where it is not all."""

    text: str
    used: excerpt.Excerpt | None


@dataclass(slots=True)
class _Run:
    """One of the texts, as far as it is written."""

    name: str
    temperature: float
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finished: GenerationFinished | None = None

    def request(self, ids: tuple[int, ...], seed: int) -> GenerationRequest:
        params = SamplingParams(temperature=self.temperature, top_k=0, top_p=1, min_p=0, seed=seed)
        return GenerationRequest(prompt_ids=ids, params=params, limits=Limits(max_tokens=MAX_TOKENS), inspect=False)

    def take(self, event: EngineEvent) -> None:
        if isinstance(event, TokensGenerated):
            self.ids += [token.id for token in event.tokens]
            self.text += event.text
        elif isinstance(event, GenerationFinished):
            self.finished = event

    @property
    def sequence(self) -> list[int]:
        """All that was picked, the token that ended the text too."""
        end = self.finished.end if self.finished else None
        return [*self.ids, end.id] if end else self.ids


class _Parting:
    """The place where the runs go different ways.

    Args:
        shared: The tokens all runs have written before.
        logits: (n_vocab,) raw, after those.
        runs: All of them.
    """

    def __init__(self, shared: Sequence[int], logits: NDArray[np.float32], runs: Sequence[_Run]) -> None:
        self.shared = tuple(shared)
        self.logits = logits
        self.picks = {run.temperature: run.sequence[len(shared)] for run in runs}
        best = np.argsort(-logits, kind="stable")[:_SHOWN].tolist()
        self.listed: list[int] = sorted({*best, *self.picks.values()}, key=lambda token: (-float(logits[token]), token))
        self.p = {t: cooled(logits, t) for t in sorted({*self.picks, 1.0})}
        """The distribution at every temperature of a run, and at 1: the model's own."""


def _stream(aside: Engine, request: GenerationRequest, cancel: CancelFlag) -> Generator[EngineEvent, None, None]:
    yield from aside.generate(request, cancel=cancel)


def _report(
    engine: Engine, asked: _Asked, prompt: Prompt, seed: int, runs: Sequence[_Run], parting: _Parting | None
) -> Report:
    done = all(run.finished for run in runs)
    blocks: list[Block] = [
        Words(asked.text, Tone.ACCENT),
        *excerpt.warning(asked.used),
        *(Words(_(note), Tone.WARN) for note in prompt.notes),
        Lanes(tuple(_lane(engine, run, runs[0]) for run in runs), _LANE_WIDTH),
    ]
    if done:
        blocks.append(
            Words(
                _(
                    "The same prompt and the same seed ({seed}); only the temperature differs, and nothing else acts: "
                    "no top-k, no top-p, no min-p. Thinking is off where the template can switch it. "
                    "What a text has in common with the greedy one is dimmed."
                ).format(seed=seed),
                Tone.DIM,
            )
        )
        blocks += _parting_blocks(engine, len(prompt.ids), seed, runs, parting)
    return Report(
        title=_("haiku"),
        blocks=blocks,
        document=_document(engine, asked, prompt, seed, runs, parting) if done else {},
    )


def _lane(engine: Engine, run: _Run, greedy: _Run) -> Lane:
    common = ""
    if run is not greedy and run.finished and greedy.finished:
        common = TextStream().push(engine.vocab.detokenize(run.ids[: _same(run, greedy)]))
    spans = [Span(common, Tone.DIM), Span(run.text.removeprefix(common))]
    return Lane(
        f"{_(run.name)} · T {run.temperature:g}",
        (Verbatim(tuple(span for span in spans if span.text)), Words(_state(run, greedy), Tone.DIM)),
    )


def _same(run: _Run, greedy: _Run) -> int:
    """How many tokens a run has in common with the greedy one."""
    index = first_parting((run.sequence, greedy.sequence))
    return min(len(run.sequence), len(greedy.sequence)) if index is None else index


def _state(run: _Run, greedy: _Run) -> str:
    n = len(run.ids)
    tokens = n_("{n} token", "{n} tokens", n).format(n=n)
    if run.finished is None:
        return f"{tokens} …"
    lines = [f"{tokens} · {_(FINISH_WORDS[run.finished.reason])}"]
    if run is not greedy and greedy.finished:
        same = _same(run, greedy)
        lines.append(
            _("all as greedy")
            if run.sequence == greedy.sequence
            else _("leaves greedy at token {n}").format(n=same + 1)
        )
    return "\n".join(lines)


def _parting_blocks(
    engine: Engine, n_prompt: int, seed: int, runs: Sequence[_Run], parting: _Parting | None
) -> list[Block]:
    heading = Heading(_("Where they first part"))
    if parting is None:
        return [
            heading,
            Words(
                _(
                    "Nowhere: all four took the same {n} tokens. The model is so sure of each that the draw never fell "
                    "on another. Another seed or topic may part them."
                ).format(n=len(runs[0].sequence))
            ),
        ]
    n = len(parting.shared)
    where = _("All begin alike, and part at the very first token.")
    if n:
        where = n_(
            "All begin with the same token, and part at the next:",
            "All begin with the same {n} tokens, and part at token {next}:",
            n,
        ).format(n=n, next=n + 1)
    label = "".join(piece_label(engine.vocab.piece(token)) for token in parting.shared)
    best, second = np.argsort(-parting.logits, kind="stable")[:2].tolist()
    gap = float(parting.logits[best] - parting.logits[second])
    cold, hot = min(t for t in parting.picks if t), max(parting.picks)
    return [
        heading,
        Words(f"{where} `{literal(label)}`" if n else where),
        _table(engine, parting),
        Words(
            _(
                "Each column is one temperature, 1 is the model's own distribution; ◀ marks what was picked. "
                "Tokens in play: e to the entropy, how many equally likely tokens would be as unsure."
            ),
            Tone.DIM,
        ),
        Words(
            _(
                "Temperature divides the logits before the softmax: `p = e^(logit / T) / sum`. The best two stand "
                "{gap:.3f} apart, so the first is e to the {gap:.3f} / T times as likely as the second: {cold_ratio} "
                "times at {cold:g}, {own_ratio} times at 1, {hot_ratio} times at {hot:g}. At 0 the best is taken."
            ).format(
                gap=gap,
                cold=cold,
                cold_ratio=_ratio(gap / cold),
                own_ratio=_ratio(gap),
                hot=hot,
                hot_ratio=_ratio(gap / hot),
            )
        ),
        Words(
            _(
                "Going down a column, the first token at which the running sum exceeds the draw is picked. Seed and "
                "position give the same draw to all: `u = {u:.4f}`."
            ).format(u=uniform(seed, n_prompt + n))
        ),
    ]


def _ratio(nats: float) -> str:
    return f"{math.exp(nats):,.2f}" if nats < math.log(1000) else f"{math.exp(min(nats, 700)):.1e}"


def _table(engine: Engine, parting: _Parting) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for token in parting.listed:
        label = piece_label(engine.vocab.piece(token))
        cells = [_share(p[token], picked=parting.picks.get(t) == token) for t, p in parting.p.items()]
        rows.append((Span(label, Tone.CONTROL if engine.vocab.is_control(token) else Tone.PLAIN), *cells,
                     f"{parting.logits[token]:.3f}"))  # fmt: skip
    n_others = len(parting.logits) - len(parting.listed)
    others = [_share(max(0.0, 1 - float(p[parting.listed].sum())), picked=False) for p in parting.p.values()]
    rows.append((Span(_("{n:,} others").format(n=n_others), Tone.DIM), *others, ""))
    in_play = [Span(f"{math.exp(entropy(p)):,.1f}  ", Tone.DIM) for p in parting.p.values()]
    rows.append((Span(_("tokens in play"), Tone.DIM), *in_play, ""))
    temperatures = [Column(f"T {t:g}  ", "right") for t in parting.p]
    return Table((Column(_("token"), grows=True), *temperatures, Column(_("logit"), "right")), tuple(rows))


def _share(p: float, *, picked: bool) -> Span:
    return Span(f"{percent(p)} ◀" if picked else f"{percent(p)}  ", Tone.STRONG if picked else Tone.PLAIN)


def _document(
    engine: Engine, asked: _Asked, prompt: Prompt, seed: int, runs: Sequence[_Run], parting: _Parting | None
) -> dict[str, object]:
    return {
        "model": engine.info.name,
        "prompt": asked.text,
        "excerpt": excerpt.document(asked.used),
        "prompt_tokens": len(prompt.ids),
        "seed": seed,
        "runs": [
            {
                "name": run.name,
                "temperature": run.temperature,
                "text": run.text,
                "finish_reason": str(run.finished.reason) if run.finished else None,
                "ids": run.ids,
                "same_as_greedy": _same(run, runs[0]),
            }
            for run in runs
        ],
        "parting": None if parting is None else _parting_document(engine, len(prompt.ids), seed, runs, parting),
    }


def _parting_document(
    engine: Engine, n_prompt: int, seed: int, runs: Sequence[_Run], parting: _Parting
) -> dict[str, object]:
    def text(token: int) -> str:
        return token_text(engine.vocab.piece(token))

    position = n_prompt + len(parting.shared)
    return {
        "index": len(parting.shared),
        "position": position,
        "text": token_text(engine.vocab.detokenize(parting.shared)),
        "u": uniform(seed, position),
        "temperatures": [{"temperature": t, "entropy": entropy(p)} for t, p in parting.p.items()],
        "tokens": [
            {
                "id": token,
                "text": text(token),
                "logit": float(parting.logits[token]),
                "p": [float(p[token]) for p in parting.p.values()],
            }
            for token in parting.listed
        ],
        "picks": [
            {"name": run.name, "id": token, "text": text(token), "p": float(parting.p[run.temperature][token])}
            for run in runs
            for token in [parting.picks[run.temperature]]
        ],
    }
