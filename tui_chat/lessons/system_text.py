"""What the system text does: the next token with it, and without it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tui_chat.chat.conversation import Role
from tui_chat.display.figures import percent
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import softmax
from tui_chat.errors import UsageError
from tui_chat.language import _, n_
from tui_chat.lessons.moment import entropy, next_token
from tui_chat.lessons.report import Bar, Cell, Column, Facts, Heading, Report, Span, Table, Tone, Verbatim
from tui_chat.lessons.scene import Scene, warning
from tui_chat.lessons.watch import Watch

_SHOWN = 8


def system_text(engine: Engine, watch: Watch, scene: Scene) -> Report:
    """The beginning of the answer to the last message, with the system text and without it.

    Args:
        engine: Its cache stays as it is.
        watch: Stops it.
        scene: The conversation.

    Raises:
        UsageError: It has no system text.
        PromptTooLongError: The last message alone does not fit into the context.
        TemplateError: The template refuses the messages.
    """
    text = next((message.text for message in scene.messages if message.role is Role.SYSTEM), None)
    if text is None:
        raise UsageError(_("there is no system text: give one with /system TEXT"))
    told = next_token(engine, watch, scene)
    untold = next_token(engine, watch, scene.unanswered().without_system(engine, told.dropped))
    p, q = (softmax(moment.logits) for moment in (told, untold))
    apart = divergence(p, q)
    best = np.argsort(-p, kind="stable")[:_SHOWN].tolist()
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (Span(told.label(token), Tone.STRONG), percent(q[token]), percent(p[token]), Bar(float(p[token])))
        for token in best
    )
    columns = (Column(_("token"), grows=True), Column(_("without"), "right"), Column(_("with"), "right"), Column())
    takes = len(told.ids) - len(untold.ids)
    facts = (
        (_("takes"), n_("{n} token of the prompt", "{n} tokens of the prompt", takes).format(n=f"{takes:,}")),
        (_("entropy"), _("{old:.3f} nats without, {new:.3f} with").format(old=entropy(q), new=entropy(p))),
        (_("divergence"), _("{nats:.3f} nats from the distribution without it (Kullback-Leibler)").format(nats=apart)),
    )
    return Report(
        title=_("system text"),
        blocks=[
            Verbatim((Span(text),)),
            Heading(_("What it does to the next token")),
            *warning(told.dropped),
            Facts(facts),
            Table(columns, rows),
        ],
        document={
            "model": engine.info.name,
            "system": text,
            "n_tokens": takes,
            "dropped": told.dropped,
            "entropy": {"with": entropy(p), "without": entropy(q)},
            "divergence": apart,
            "top": [
                {"id": token, "text": told.label(token), "p": float(p[token]), "p_without": float(q[token])}
                for token in best
            ],
        },
    )


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """sum p ln(p / q) of two (n,) distributions, nats (Kullback and Leibler, On Information and Sufficiency, 1951)."""
    some = p > 0
    with np.errstate(divide="ignore"):
        return max(0.0, float((p[some] * (np.log(p[some]) - np.log(q[some]))).sum()))
