"""`/trace`: an answer and all that was kept of how it came about, read without its model."""

from __future__ import annotations

from dataclasses import fields

from tui_chat.chat.trace_file import AnswerTrace
from tui_chat.display.figures import FINISH_WORDS, percent
from tui_chat.display.text import literal, piece_label, shortened
from tui_chat.engine.types import SamplingParams, TokenTrace
from tui_chat.language import _, n_
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.heat import legend, marked
from tui_chat.lessons.report import Block, Cell, Column, Facts, Flow, Heading, Report, Span, Table, Tone, Words

_LISTED = 5
"""How many of the most surprising tokens are listed."""


def trace_report(trace: AnswerTrace, name: str, *, saved: bool = False) -> Report:
    """The answer of a trace: what made it, its tokens by surprisal, and those that were least expected.

    Args:
        trace: The answer.
        name: What to call the trace, its file for one.
        saved: Whether it was written there just now.
    """
    known = [(index, token.trace) for index, token in enumerate(trace.tokens) if token.trace is not None]
    listed = sorted(known, key=lambda pair: -pair[1].surprisal)[:_LISTED]
    blocks: list[Block] = []
    if saved:
        blocks.append(Words(_("Saved in `{name}`.").format(name=literal(name)), Tone.GOOD))
    blocks += [
        _facts(trace),
        Heading(_("The tokens, by how little they were expected")),
        Flow(tuple(marked(token.piece, token.trace.surprisal if token.trace else None) for token in trace.tokens)),
        legend(unscored=len(known) < len(trace.tokens)),
    ]
    if listed:
        blocks += [Heading(_("What it expected least")), _table(listed)]
    return Report(
        _("trace"),
        blocks,
        {
            "trace": name,
            "model": trace.model.name,
            "program": trace.program,
            "library": trace.library,
            "created": trace.created,
            "prompt_tokens": len(trace.prompt_ids),
            "given": trace.n_given,
            "text": trace.text,
            "finish_reason": trace.finish_reason,
            "ids": [token.id for token in trace.tokens],
            "surprisals": [token.trace.surprisal if token.trace else None for token in trace.tokens],
            "least_expected": [
                {"index": index, "text": token_text(found.piece), "p": found.p, "rank": found.rank}
                for index, found in listed
            ],
        },
    )


def _facts(trace: AnswerTrace) -> Facts:
    n, n_prompt = len(trace.tokens), len(trace.prompt_ids)
    tokens = n_("{n} token", "{n} tokens", n).format(n=f"{n:,}")
    reason = trace.finish_reason
    rows = [
        (_("model"), f"{trace.model.name} · {trace.model.sha256[:12]}"),
        (_("written"), _("{when} by tui-chat {program}").format(when=trace.created, program=trace.program)),
        (_("prompt"), n_("{n} token", "{n} tokens", n_prompt).format(n=f"{n_prompt:,}")),
        (_("answer"), tokens if reason is None else f"{tokens} · {_(FINISH_WORDS[reason])}"),
    ]
    forced = sum(token.forced for token in trace.tokens)
    if forced:
        rows.append((_("forced"), n_("{n} token", "{n} tokens", forced).format(n=f"{forced:,}")))
    for first, params in trace.periods:
        where = _("settings") if not first else _("from token {n}").format(n=first + 1)
        rows.append((where, _settings(params)))
    return Facts(tuple(rows))


def _settings(params: SamplingParams) -> str:
    """The seed, and what differs from the program's defaults."""
    usual = SamplingParams()
    others = [
        f"{one.name} {_shown(getattr(params, one.name))}"
        for one in fields(params)
        if one.name != "seed" and getattr(params, one.name) != getattr(usual, one.name)
    ]
    return " · ".join([f"seed {params.seed}", *others])


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return shortened(", ".join(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else shortened(" ".join(str(value).split()))


def _table(listed: list[tuple[int, TokenTrace]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            Span(piece_label(found.piece), Tone.STRONG),
            str(index + 1),
            percent(found.p),
            f"{found.rank:,}",
            f"{found.entropy:.2f}",
            "–" if found.u is None else f"{found.u:.4f}",
        )
        for index, found in listed
    ]
    heads = (_("at"), "p", _("rank"), _("entropy"), "u")
    return Table((Column(_("token"), grows=True), *(Column(head, "right") for head in heads)), tuple(rows))
