"""The session in a few words: the lines that the screen shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from tui_chat.chat.conversation import Message, Role
from tui_chat.display import figures
from tui_chat.display.text import one_line
from tui_chat.engine.gbnf import NAMED
from tui_chat.engine.types import FinishReason, ModelInfo
from tui_chat.language import _, n_
from tui_chat.ui.session import Session
from tui_chat.ui.widgets.status_bar import StatusBar

if TYPE_CHECKING:
    from tui_chat.lessons.answers import AnswerFigures


def model_line(model: ModelInfo) -> str:
    """Gives a model in short: `pocket 3.1M Q8_0`."""
    quantisation = model.description.split()[-1] if model.description else ""
    return one_line(" ".join(part for part in (model.name, figures.parameters(model.n_params), quantisation) if part))


def sampling_line(session: Session) -> str:
    """Gives the sampling settings in one line."""
    inference = session.inference
    parts = ["greedy" if inference.temperature == 0 else f"T {inference.temperature:.2f}"]
    if inference.mirostat:
        parts.append(f"mirostat {inference.mirostat}")
    else:
        parts += [
            "top-k off" if inference.top_k == 0 else f"top-k {inference.top_k}",
            "top-p off" if inference.top_p == 1 else f"top-p {inference.top_p:.2f}",
            "min-p off" if inference.min_p == 0 else f"min-p {inference.min_p:.2f}",
        ]
    if inference.json_schema or inference.grammar:
        named = inference.grammar if inference.grammar in NAMED else "grammar"
        parts.insert(0, "JSON schema" if inference.json_schema else named)
    if inference.repeat_penalty != 1:
        parts.append(f"repeat {inference.repeat_penalty:.2f}")
    parts.append("seed random" if inference.seed is None else f"seed {inference.seed}")
    if inference.enable_thinking is not None:
        parts.append("think on" if inference.enable_thinking else "think off")
    if session.stepping.breakpoints:
        n = len(session.stepping.breakpoints)
        parts.insert(0, n_("{n} breakpoint", "{n} breakpoints", n).format(n=n))
    if session.stepping.on:
        parts.insert(0, _("step mode"))
    if session.prefill:
        begun = one_line(session.prefill)
        parts.insert(0, f"begins “{begun if len(begun) <= 16 else begun[:15] + '…'}”")
    return " · ".join(parts)


def answer_footer(session: Session, message: Message) -> str:
    """Gives what stands beneath a finished answer: tokens, speed, why it ended, and which of its siblings it is."""
    parts: list[str] = []
    if message.ids is not None:
        parts.append(n_("{n} token", "{n} tokens", len(message.ids)).format(n=f"{len(message.ids):,}"))
    if message.timings is not None and message.timings.tokens_per_s > 0:
        parts.append(figures.rate(message.timings.tokens_per_s))
    if message.finish_reason is not None:
        parts.append(_(figures.FINISH_WORDS[FinishReason(message.finish_reason)]))
    elif not message.finished:
        parts.append(_("broken off"))
    siblings = session.conversation.siblings(message.id)
    if len(siblings) > 1:
        place = next(index for index, sibling in enumerate(siblings, 1) if sibling.id == message.id)
        parts.append(f"‹ {place}/{len(siblings)} ›")
    if message.forked_from is not None:
        parts.append(_("forked at token {n}").format(n=message.n_kept + 1))
    return " · ".join(parts)


def ended_answers(session: Session) -> tuple[AnswerFigures, ...]:
    """Gives what is known of the answers on the current path, without the one under way."""
    from tui_chat.lessons.answers import AnswerFigures

    under_way = session.answer.message_id if session.answer is not None and session.answering else None
    return tuple(
        AnswerFigures.of(message, (token.trace for token in session.tokens_of.get(message.id, ()) if token.trace))
        for message in session.conversation.path
        if message.role is Role.ASSISTANT and message.id != under_way
    )


def show_status(bar: StatusBar, session: Session) -> None:
    """Puts the session's state into the line at the top."""
    model, loading, answer = session.model, session.loading, session.answer
    bar.model = (
        model_line(model) if model is not None else (one_line(loading.label) if loading is not None else "no model")
    )
    bar.device = figures.devices(model) if model is not None else ""
    bar.context = session.context
    bar.fraction, bar.activity = None, ""
    if answer is not None and answer.running and answer.pending is not None and not answer.tokens:
        bar.activity = _("waits")
    elif answer is not None and answer.running and not answer.tokens and answer.prefill is not None:
        done, total = answer.prefill
        bar.fraction, bar.activity = (done / total if total else 0.0), "prefill"
    elif loading is not None and loading.progress is not None and loading.request_id is None:
        bar.fraction, bar.activity = loading.fraction, str(loading.progress)
    elif loading is not None:
        bar.fraction, bar.activity = loading.fraction, "fetching" if loading.request_id is None else "loading"
    rate = answer.rate if answer is not None else None
    bar.rate = figures.rate(rate) if rate is not None and (answer is None or answer.tokens) else ""


def welcome(session: Session) -> Content:
    """Gives what stands in an empty transcript."""
    if session.model is not None:
        state = _("{model} is ready.").format(model=model_line(session.model))
    elif session.loading is not None:
        state = _("Loading {model} …").format(model=one_line(session.loading.label))
    else:
        state = _("No model is loaded: choose one with /model.")
    return Content.assemble(
        (_("A glass-box chat") + "\n", "bold $primary"),
        (_("See and change every decision the model makes.") + "\n\n", "$foreground"),
        (state + "\n\n", "$muted"),
        (_("Try") + "\n", "bold $muted"),
        ("  " + _("What is a token?") + "\n", "$foreground"),
        ("  " + _("Write a haiku about the sea.") + "\n", "$foreground"),
        ("  /help", "$primary"),
        ("  " + _("shows what else there is") + "\n", "$muted"),
    )
