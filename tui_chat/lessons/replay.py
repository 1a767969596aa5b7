"""`replay`: the answer of a trace file is made again, and every token held against the one that was recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_chat import __version__
from tui_chat.chat.trace_file import AnswerTrace
from tui_chat.display.text import piece_label
from tui_chat.engine.control import LiveParams
from tui_chat.engine.engine import Engine
from tui_chat.engine.gguf import fingerprint
from tui_chat.engine.llama import library_version
from tui_chat.engine.stepping import Decision, Step, StepControl
from tui_chat.engine.types import (
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    SamplingParams,
    TokensGenerated,
    TokenTrace,
)
from tui_chat.errors import TraceError
from tui_chat.language import _, n_
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.report import Block, Facts, Report, Tone, Words
from tui_chat.lessons.watch import Watch

TOLERANCE = 1e-3
"""Nats that a logit may differ by. On the machine and build that wrote the trace none differs at all."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that came out otherwise."""

    index: int
    """Which token of the answer, from 0."""
    position: int
    """Its place in the context."""
    recorded_id: int
    id: int | None
    """The token that came instead, or the same one; None where the answer ended."""
    figure: str
    """`id`, `u`, `logit`, `logsumexp`, or `logit of ID` for one of the best tokens."""
    recorded: float | None
    replayed: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the comparison found."""

    compared: int
    """Tokens that were drawn again."""
    given: int
    """Tokens that were put in as they are: nothing drew them in the recorded run."""
    largest: float
    """The largest difference of a logit, nats, as far as it was compared."""
    difference: Difference | None


def require_model(trace: AnswerTrace, path: Path, name: str) -> None:
    """Refuse a trace of another model.

    Args:
        trace: The trace.
        path: The model's file.
        name: What to call the trace.

    Raises:
        TraceError: Another model wrote it.
        ModelError: There is no model in the file.
    """
    found = fingerprint(path)
    if found != trace.model.sha256:
        raise TraceError(
            f"{name} is a trace of another model: {trace.model.name} ({trace.model.path}, {trace.model.sha256[:12]}), "
            f"not {path} ({found[:12]}): load that one, with --model or in the app with /model"
        )


def require_tokens(trace: AnswerTrace, n_vocab: int, name: str) -> None:
    """Refuse a trace that names tokens which the model does not have.

    Args:
        trace: The trace.
        n_vocab: Tokens that there are.
        name: What to call the trace.

    Raises:
        TraceError: It does.
    """
    ends = () if trace.end is None else (trace.end,)
    for token in (*trace.prompt_ids, *(token.id for token in (*trace.tokens, *ends))):
        if not 0 <= token < n_vocab:
            raise TraceError(f"{name} is damaged: it names token {token}, but the vocabulary ends at {n_vocab - 1}")


def compare(engine: Engine, trace: AnswerTrace, watch: Watch, tolerance: float = TOLERANCE) -> Outcome:
    """Make the answer again, up to the first difference.

    Args:
        engine: The model that wrote it; its cache is used.
        trace: The answer (`require_tokens`).
        watch: Stops it.
        tolerance: Nats that a logit may differ by.

    Raises:
        PromptTooLongError: The context is smaller than the recorded one and does not hold it.
        CancelledError: It was stopped.
    """
    sequence = (*trace.tokens, *([trace.end] if trace.end is not None else []))
    given = len(sequence) - sum(not token.forced for token in sequence[trace.n_given :])
    _fill(engine, trace, watch)
    compared, largest = 0, 0.0
    came = _draw(engine, trace, sequence, watch)
    for index in range(trace.n_given, len(sequence)):
        recorded, new = sequence[index], next(came, None)
        if recorded.forced and new is not None:
            continue
        found, difference = _held_against(recorded, new, index, len(trace.prompt_ids) + index, tolerance)
        largest = max(largest, found)
        if difference is not None:
            return Outcome(compared, given, largest, difference)
        compared += 1
    return Outcome(compared, given, largest, None)


def replay(engine: Engine, watch: Watch, trace: AnswerTrace, name: str, *, tolerance: float = TOLERANCE) -> Report:
    """Make the answer of a trace again and tell whether it came out the same.

    Args:
        engine: The model that wrote it.
        watch: Stops it.
        trace: The answer.
        name: What to call the trace.
        tolerance: Nats that a logit may differ by.

    Raises:
        TraceError: Another model wrote it, or it names a token that the model does not have.
        CancelledError: It was stopped.
    """
    require_model(trace, engine.info.path, name)
    require_tokens(trace, engine.info.n_vocab, name)
    with engine.aside() as aside:
        outcome = compare(aside, trace, watch, tolerance)
    versions = {"program": __version__, "library": library_version()}
    return Report(
        title=_("replay"),
        blocks=_blocks(engine, trace, outcome, tolerance, versions),
        document={
            "trace": name,
            "model": engine.info.name,
            "same": outcome.difference is None,
            "tokens": len(trace.tokens),
            "compared": outcome.compared,
            "given": outcome.given,
            "tolerance": tolerance,
            "largest_difference": outcome.largest,
            "difference": _difference_document(engine, outcome.difference),
            "recorded_by": {"program": trace.program, "library": trace.library, "created": trace.created},
            "replayed_by": versions,
        },
    )


def _fill(engine: Engine, trace: AnswerTrace, watch: Watch) -> None:
    """Bring the prompt into the cache in the chunks in which it came there: rounding depends on them."""
    before = (*trace.prompt_ids, *(token.id for token in trace.tokens[: trace.n_given]))
    engine.context.rewind(0)
    if sum(size * count for size, count in trace.chunks) != len(before):
        return
    sizes = [size for size, count in trace.chunks for _ in range(count)]
    done = 0
    for size in sizes[:-1]:  # the last one is evaluated where its logits are wanted
        done += size
        for _progress in engine.context.prefill(before[:done], watch.cancel):
            pass


class _Script(StepControl):
    """Plays the person of the recorded run: changes the settings where they changed, puts in what was put in.

    Args:
        trace: The recorded run.
        sequence: Its tokens, the end-of-generation token included.
        live: The settings of the run that is made now.
    """

    def __init__(self, trace: AnswerTrace, sequence: Sequence[GeneratedToken], live: LiveParams) -> None:
        super().__init__(stepping=False)
        self._trace, self._sequence, self._live = trace, sequence, live
        self._index = trace.n_given
        self._picked = -1
        live.params = self._params()

    def stops_at(self, trace: TokenTrace) -> bool:
        self._index = trace.position - len(self._trace.prompt_ids)
        return self._live.params != self._params() or (self._forced() and self._picked != self._index)

    def wait(self) -> Decision | None:
        if self._live.params != self._params():
            self._live.params = self._params()
            return None
        if self._forced() and self._picked != self._index:
            self._picked = self._index
            return Decision(Step.PICK, self._sequence[self._index].id)
        return Decision(Step.DRAW)  # the grammar refuses what a forged trace puts in

    def _forced(self) -> bool:
        return self._index < len(self._sequence) and self._sequence[self._index].forced

    def _params(self) -> SamplingParams:
        return [params for first, params in self._trace.periods if first <= self._index or first == 0][-1]


def _draw(
    engine: Engine, trace: AnswerTrace, sequence: Sequence[GeneratedToken], watch: Watch
) -> Iterator[GeneratedToken]:
    """Make the tokens behind the given ones again."""
    live = LiveParams()
    script = _Script(trace, sequence, live)
    kept = max((len(token.trace.top) for token in trace.tokens if token.trace is not None), default=1)
    request = GenerationRequest(
        prompt_ids=(*trace.prompt_ids, *(token.id for token in trace.tokens[: trace.n_given])),
        n_prefilled=trace.n_given,
        params=live.params or SamplingParams(),
        limits=Limits(max_tokens=len(sequence) - trace.n_given, ignore_eos=trace.ignore_eos),
        top_n=max(1, kept),
    )
    to_skip = trace.n_given
    for event in engine.generate(request, live=live, cancel=watch.cancel, steps=script):
        if isinstance(event, TokensGenerated):
            skipped = min(to_skip, len(event.tokens))
            to_skip -= skipped
            yield from event.tokens[skipped:]
        elif isinstance(event, GenerationFinished):
            watch.check()
            if event.end is not None:
                yield event.end


def _held_against(
    recorded: GeneratedToken, came: GeneratedToken | None, index: int, position: int, tolerance: float
) -> tuple[float, Difference | None]:
    """The largest difference of a logit, and the first figure that is another one; logits before what follows them."""
    new = None if came is None else came.trace
    if came is None or new is None:
        return 0.0, Difference(index, position, recorded.id, None, "id", recorded.id, None)
    largest = 0.0
    first: Difference | None = None
    for figure, was, now in _figures(recorded, new):
        off = abs(was - now) if math.isfinite(was) or math.isfinite(now) else 0.0
        largest = max(largest, off)
        if first is None and off > tolerance:
            first = Difference(index, position, recorded.id, came.id, figure, was, now)
    if first is None and recorded.trace is not None and recorded.trace.u != new.u:
        first = Difference(index, position, recorded.id, came.id, "u", recorded.trace.u, new.u)
    if first is None and recorded.id != came.id:
        first = Difference(index, position, recorded.id, came.id, "id", recorded.id, came.id)
    return largest, first


def _figures(recorded: GeneratedToken, new: TokenTrace) -> Iterator[tuple[str, float, float]]:
    """(name, recorded, replayed) of every logit that both have."""
    old = recorded.trace
    if old is None:
        return
    yield "logsumexp", old.logsumexp, new.logsumexp
    logits = dict(new.top)
    for token, logit in old.top:
        if token in logits:
            yield f"logit of {token}", logit, logits[token]
        else:  # it fell off the end of the list, so it is at most as good as the last one there
            yield f"logit of {token}", logit, min(logit, new.top[-1][1])
    if old.id == new.id:
        yield "logit", old.logit, new.logit


def _difference_document(engine: Engine, difference: Difference | None) -> dict[str, object] | None:
    if difference is None:
        return None
    piece = engine.vocab.piece
    return {
        "index": difference.index,
        "position": difference.position,
        "figure": difference.figure,
        "recorded": difference.recorded,
        "replayed": difference.replayed,
        "recorded_token": {"id": difference.recorded_id, "text": token_text(piece(difference.recorded_id))},
        "replayed_token": None
        if difference.id is None
        else {"id": difference.id, "text": token_text(piece(difference.id))},
    }


def _blocks(
    engine: Engine, trace: AnswerTrace, outcome: Outcome, tolerance: float, versions: dict[str, str]
) -> list[Block]:
    difference = outcome.difference
    facts = [
        (_("model"), engine.info.name),
        (_("compared"), n_("{n} token", "{n} tokens", outcome.compared).format(n=f"{outcome.compared:,}")),
        (_("largest difference"), f"{outcome.largest:.2g}"),
    ]
    if outcome.given:
        given = n_("{n} token was put in as it is", "{n} tokens were put in as they are", outcome.given)
        facts.append((_("not drawn"), given.format(n=f"{outcome.given:,}")))
    if difference is None:
        verdict = Words(
            _("The same: every id, every draw, and every logit within {tolerance:g}.").format(tolerance=tolerance),
            Tone.GOOD,
        )
    else:
        verdict = Words(_verdict(engine, difference, tolerance), Tone.BAD)
        facts.append((_("recorded"), _shown(difference.recorded)))
        facts.append((_("replayed"), _shown(difference.replayed)))
    blocks: list[Block] = [verdict, Facts(tuple(facts))]
    recorded = {"program": trace.program, "library": trace.library}
    if recorded != versions:
        blocks.append(
            Words(
                _(
                    "It was recorded by tui-chat {program} with {library}; this is tui-chat {ours} with {our_library}."
                ).format(ours=versions["program"], our_library=versions["library"], **recorded),
                Tone.WARN,
            )
        )
    return blocks


def _verdict(engine: Engine, difference: Difference, tolerance: float) -> str:
    token = piece_label(engine.vocab.piece(difference.recorded_id))
    place = _("Not the same from token {number} of the answer on (position {position}, `{token}`):").format(
        number=difference.index + 1, position=difference.position, token=token
    )
    if difference.id is None:
        return f"{place} " + _("the answer ended before it.")
    if difference.figure == "id":
        other = piece_label(engine.vocab.piece(difference.id))
        return f"{place} " + _("`{other}` was drawn instead, from logits within {tolerance:g}.").format(
            other=other, tolerance=tolerance
        )
    return f"{place} " + _("its {figure} is another one.").format(figure=difference.figure)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
