"""`stats`: what the answers of a conversation took, and how sure the model was of them.

Nothing is computed anew and no model is needed: the figures are those that were kept while the answers were made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from tui_chat.display import figures
from tui_chat.display.text import literal, piece_label
from tui_chat.errors import UsageError
from tui_chat.language import N_, _, n_
from tui_chat.lessons.answers import AnswerFigures, decode_words, end_words, prefill_words, usage_document
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.report import Block, Cell, Column, Curve, Facts, Heading, Report, Spark, Table, Tone, Words

SHOWN_TURNS = 20
"""Most turns in the tables, the newest; the document has all of them."""

_LEAST_CURVE = 8
"""Tokens below which a curve says no more than the figures."""

_SPARK_WIDTH = 12
"""Most columns that show an answer token by token."""

_NONE = "–"


def stats(answers: Sequence[AnswerFigures], *, conversation: str | None = None) -> Report:
    """The figures of the answers of a conversation, the last one in detail.

    Args:
        answers: Those that have ended, in their order.
        conversation: What to call the conversation.

    Raises:
        UsageError: There is no answer.
    """
    if not answers:
        raise UsageError(_("nothing was answered in this conversation yet: send a message first"))
    return Report(
        title=_("stats"),
        blocks=[*_overview(answers, conversation), *_last(answers[-1]), *_turns(answers), *_unknown(answers)],
        document={
            "conversation": conversation,
            "n_answers": len(answers),
            "answers": [_document(turn, answer) for turn, answer in enumerate(answers, start=1)],
        },
    )


def _overview(answers: Sequence[AnswerFigures], conversation: str | None) -> list[Block]:
    n = len(answers)
    generated = sum(answer.generated or 0 for answer in answers)
    models = list(dict.fromkeys(answer.model for answer in answers if answer.model))
    rows = [] if conversation is None else [(_("conversation"), conversation)]
    words = n_("{n} answer, {tokens} generated", "{n} answers, {tokens} generated", n)
    tokens = n_("{n} token", "{n} tokens", generated).format(n=f"{generated:,}")
    rows.append((_("answers"), words.format(n=n, tokens=tokens)))
    return [Facts((*rows, (n_("model", "models", len(models)), ", ".join(models) or _("not known"))))]


def _last(answer: AnswerFigures) -> list[Block]:
    blocks: list[Block] = [
        Heading(_("The last answer")),
        Facts(
            (
                (_("prompt"), _prompt_words(answer)),
                (_("prefill"), prefill_words(answer)),
                (_("first token"), _first_words(answer)),
                (_("generated"), _generated_words(answer)),
                (_("decode"), decode_words(answer)),
                (_("entropy"), _entropy_words(answer)),
                (_("surprisal"), _surprisal_words(answer)),
            )
        ),
    ]
    surprisals = answer.surprisals
    if len(surprisals) >= _LEAST_CURVE:
        highest = surprisals.index(max(surprisals))
        caption = _("The surprisal of each token of the answer, in nats; ◆ is the most unexpected one.")
        points = tuple((float(place), round(value, 3)) for place, value in enumerate(surprisals, start=1))
        blocks.append(Curve(points, (points[highest],), caption, height=7))
    return blocks


def _prompt_words(answer: AnswerFigures) -> str:
    if answer.n_prompt is None:
        return _("not known")
    tokens = n_("{n} token", "{n} tokens", answer.n_prompt).format(n=f"{answer.n_prompt:,}")
    if answer.n_reused is None:
        return _("{tokens}; how many of them were in the cache already is not known").format(tokens=tokens)
    return _("{tokens}, {reused:,} of them in the cache already").format(tokens=tokens, reused=answer.n_reused)


def _first_words(answer: AnswerFigures) -> str:
    if answer.ttft_s is None:
        return _("none came") if answer.generated == 0 else _("not known")
    return _("{time} after the request").format(time=figures.span(answer.ttft_s))


def _generated_words(answer: AnswerFigures) -> str:
    if answer.generated is None:
        return _("not known")
    tokens = n_("{n} token", "{n} tokens", answer.generated).format(n=f"{answer.generated:,}")
    end = _("another tui-chat is writing it, or it broke off") if answer.may_go_on else end_words(answer.reason)
    return _("{tokens}; {end}").format(tokens=tokens, end=end)


def _entropy_words(answer: AnswerFigures) -> str:
    if not answer.traces:
        return _("not known")
    peak = max(answer.traces, key=lambda trace: trace.entropy)
    text = _("{mean:.2f} nats on average; least sure before `{token}`, with {most:.2f} nats")
    return text.format(mean=fmean(answer.entropies), most=peak.entropy, token=literal(piece_label(peak.piece)))


def _surprisal_words(answer: AnswerFigures) -> str:
    if not answer.traces:
        return _("not known")
    peak = max(answer.traces, key=lambda trace: trace.surprisal)
    mean = fmean(answer.surprisals)
    text = _(
        "{mean:.2f} nats on average, a perplexity of {perplexity}; least expected was `{token}`, with {most:.2f} nats"
    )
    perplexity = figures.perplexity_text(figures.perplexity(mean))
    return text.format(mean=mean, perplexity=perplexity, most=peak.surprisal, token=literal(piece_label(peak.piece)))


def _turns(answers: Sequence[AnswerFigures]) -> list[Block]:
    """All turns in a table and, figure by figure, as sparklines; nothing where there is only one."""
    if len(answers) < 2:
        return []
    shown = list(enumerate(answers, start=1))[-SHOWN_TURNS:]
    heading = _("Turn by turn")
    if len(shown) < len(answers):
        heading = _("Turn by turn, the last {n}").format(n=len(shown))
    titles = (_("turn"), _("prompt"), _("cached"), _("answer"), _("first"), _("prefill"), _("decode"))
    columns = [Column(title, "right") for title in (*titles, _("surprisal"))]
    blocks: list[Block] = [
        Heading(heading),
        Table((*columns, Column()), tuple(_row(turn, answer) for turn, answer in shown)),
        Words(
            _(
                "Counts in tokens, prefill and decode in tokens a second, surprisal in nats a token and, where there "
                "is room, from the first token of an answer to its last, on a scale of its own."
            ),
            Tone.DIM,
        ),
    ]
    sparks = [row for figure in _FIGURES if (row := _spark_row(figure, [answer for __, answer in shown])) is not None]
    if sparks:
        columns = [
            Column(),
            Column(_("from turn to turn")),
            Column(_("lowest"), "right"),
            Column(_("highest"), "right"),
        ]
        blocks.append(Table(tuple(columns), tuple(sparks)))
    return blocks


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of every answer, to be compared from turn to turn."""

    label: str
    of: Callable[[AnswerFigures], float | None]
    text: Callable[[float], str]


_FIGURES = (
    _Figure(N_("prompt tokens"), lambda answer: answer.n_prompt, lambda value: f"{value:,.0f}"),
    _Figure(N_("answer tokens"), lambda answer: answer.generated, lambda value: f"{value:,.0f}"),
    _Figure(N_("first token"), lambda answer: answer.ttft_s, figures.span),
    _Figure(N_("prefill"), lambda answer: answer.prefill_rate, figures.rate),
    _Figure(N_("decode"), lambda answer: answer.decode_rate, figures.rate),
    _Figure(N_("entropy"), lambda answer: _mean(answer.entropies), figures.nats),
    _Figure(N_("surprisal"), lambda answer: _mean(answer.surprisals), figures.nats),
)


def _spark_row(figure: _Figure, answers: Sequence[AnswerFigures]) -> tuple[Cell, ...] | None:
    """A figure from turn to turn, of the turns it is known of; None where those are fewer than two."""
    values = tuple(value for answer in answers if (value := figure.of(answer)) is not None)
    if len(values) < 2:
        return None
    return (_(figure.label), Spark(values), figure.text(min(values)), figure.text(max(values)))


def _row(turn: int, answer: AnswerFigures) -> tuple[Cell, ...]:
    counts = (answer.n_prompt, answer.n_reused, answer.generated)
    rates = (answer.prefill_rate, answer.decode_rate)
    surprisal = _mean(answer.surprisals)
    return (
        str(turn),
        *(_NONE if value is None else f"{value:,}" for value in counts),
        _NONE if answer.ttft_s is None else figures.span(answer.ttft_s),
        *(_NONE if value is None else f"{value:,.0f}" for value in rates),
        _NONE if surprisal is None else f"{surprisal:.2f}",
        Spark(_condensed(answer.surprisals, _SPARK_WIDTH)),
    )


def _condensed(values: Sequence[float], most: int) -> tuple[float, ...]:
    """At most so many values: the highest of each of as many equal stretches."""
    n = min(most, len(values))
    return tuple(max(values[place * len(values) // n : (place + 1) * len(values) // n]) for place in range(n))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _unknown(answers: Sequence[AnswerFigures]) -> list[Block]:
    """What is not known of some answers, and why."""
    blocks: list[Block] = []
    untraced = [turn for turn, answer in enumerate(answers, start=1) if answer.generated != 0 and not answer.traces]
    unmeasured = [turn for turn, answer in enumerate(answers, start=1) if answer.usage is None]
    if untraced:
        text = n_(
            "No figures of the single tokens of turn {turns} are at hand, so their entropy, surprisal and times are "
            "not known.",
            "No figures of the single tokens of turns {turns} are at hand, so their entropy, surprisal and times are "
            "not known.",
            len(untraced),
        )
        more = _("A reopened conversation brings those of its last answer; `tui-chat stats` reads all that are stored.")
        blocks.append(Words(f"{text.format(turns=_listed(untraced))} {more}", Tone.DIM))
    if unmeasured:
        text = n_(
            "What turn {turns} found in the cache, and how long its prefill took, was not stored.",
            "What turns {turns} found in the cache, and how long their prefill took, was not stored.",
            len(unmeasured),
        )
        blocks.append(Words(text.format(turns=_listed(unmeasured)), Tone.DIM))
    return blocks


def _listed(turns: Sequence[int]) -> str:
    return ", ".join(map(str, turns))


def _document(turn: int, answer: AnswerFigures) -> dict[str, object]:
    surprisals = answer.surprisals
    return {
        "turn": turn,
        "model": answer.model,
        **usage_document(answer),
        "entropy": _summary(answer.entropies),
        "surprisal": _summary(surprisals),
        "perplexity": figures.perplexity(fmean(surprisals)) if surprisals else None,
        "tokens": [
            {
                "position": trace.position,
                "id": trace.id,
                "text": token_text(trace.piece),
                "bytes": trace.piece.hex(),
                "seconds": trace.seconds,
                "p": trace.p,
                "rank": trace.rank,
                "entropy": trace.entropy,
                "surprisal": trace.surprisal,
            }
            for trace in answer.traces
        ],
    }


def _summary(values: Sequence[float]) -> dict[str, float] | None:
    return {"mean": fmean(values), "max": max(values), "sum": math.fsum(values)} if values else None
