"""`why`: a figure's formula, the same with the live numbers in it, what it means, and where it comes from.

Everything is reckoned from what was kept of a token and its answer (`Inspected`); what was not kept is said to be
missing. What can be asked for is listed in `formulas`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_chat.display.text import piece_label
from tui_chat.errors import CancelledError, PromptTooLongError
from tui_chat.language import _, n_
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.formulas import ANSWER, CHAIN, FIGURES, MODEL, Figure, all_figures, find_figure
from tui_chat.lessons.inspected import Inspected, NotKnownError, Part
from tui_chat.lessons.report import Block, Cell, Column, Facts, Flow, Heading, Report, Span, Table, Tone, Words
from tui_chat.lessons.working import Working

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import GeneratedToken
    from tui_chat.lessons.scene import Scene
    from tui_chat.lessons.watch import Watch


ANSWER_TOKENS = 16
"""Longest answer that is made to have a token to look at."""

_LEAST_KEPT, _MOST_KEPT = 20, 200
"""Tokens of the distribution that its traces keep."""


def worked_out(figure: Figure, seen: Inspected) -> Working | str:
    """The figure with its arithmetic, or why it is not known."""
    if seen.part is not Part.ANSWER and figure in FIGURES[CHAIN]:
        return _("nothing drew this token: the model was given it")
    if seen.part is not Part.ANSWER and figure in FIGURES[ANSWER] and figure.name != "perplexity":
        return _("this is no token of an answer: select one of those")
    try:
        return figure.work(seen)
    except NotKnownError as unknown:
        return str(unknown)


def present(figure: Figure, seen: Inspected) -> str:
    """The figure's present value as text; a dash where it is not known."""
    found = worked_out(figure, seen)
    return "–" if isinstance(found, str) else found.text


def why(seen: Inspected, name: str | None = None) -> Report:
    """Explain one figure, or list all of them.

    Args:
        seen: The token, and what is known of its answer.
        name: The figure; None lists what can be asked for.

    Raises:
        UsageError: There is no such figure.
    """
    if name is None:
        return _listed(seen)
    figure = find_figure(name)
    found = worked_out(figure, seen)
    working, missing = (None, found) if isinstance(found, str) else (found, None)
    rows = _labelled(_("formula"), _(figure.formula))
    if working is None:
        rows.append((_("here"), _("not known: {reason}.").format(reason=missing)))
    else:
        rows += _labelled(_("here"), *working.lines)
    title = _(figure.title)
    blocks: list[Block] = [
        *_subject(seen, figure),
        Heading(title if working is None else f"{title}: {working.text}"),
        Facts(tuple(rows)),
    ]
    if working is not None:
        blocks += [working.table] if working.table is not None else []
        blocks += [Words(" ".join(working.notes))] if working.notes else []
    blocks += [Words(_(figure.words)), Words(_("Read on: {source}.").format(source=_(figure.source)), Tone.DIM)]
    return Report(
        title=_("why {figure}").format(figure=figure.name),
        blocks=blocks,
        document={
            **_document(seen, figure, found),
            "formula": _(figure.formula),
            "substituted": [] if working is None else list(working.lines),
            "notes": [] if working is None else list(working.notes),
            "words": _(figure.words),
            "source": _(figure.source).replace("`", ""),
            **_subject_document(seen),
        },
    )


def first_token(engine: Engine, watch: Watch, scene: Scene) -> Inspected:
    """Answer the scene's message, in a few tokens, and look at the first of them.

    Args:
        engine: Its cache stays as it is.
        watch: Stops it.
        scene: The message and the settings.

    Raises:
        PromptTooLongError: The message does not fit into the context.
        TemplateError: The template refuses the message.
        CancelledError: It was stopped.
    """
    from tui_chat.engine.types import SAMPLING_FIELDS, GenerationFinished, GenerationRequest, TokensGenerated
    from tui_chat.lessons.allocation import read_log

    ids, params = scene.prompt(engine).ids, scene.sampling(engine)
    if len(ids) >= engine.context.n_ctx:
        raise PromptTooLongError(len(ids), engine.context.n_ctx)
    request = GenerationRequest(
        prompt_ids=ids,
        params=params,
        limits=replace(scene.limits, max_tokens=min(scene.limits.max_tokens, ANSWER_TOKENS)),
        top_n=min(max(params.top_k, _LEAST_KEPT), _MOST_KEPT),
    )
    tokens: list[GeneratedToken] = []
    done: GenerationFinished | None = None
    with engine.aside(len(ids) + ANSWER_TOKENS) as aside:
        for event in aside.generate(request, cancel=watch.cancel):
            if isinstance(event, TokensGenerated):
                tokens += event.tokens
            elif isinstance(event, GenerationFinished):
                done = event
    watch.check()
    if done is None:
        raise CancelledError("stopped")
    tokens = tokens or ([done.end] if done.end is not None else [])
    return Inspected(
        tokens=tuple(tokens),
        index=0 if tokens else None,
        prompt_ids=ids,
        settings={name: getattr(params, name) for name in SAMPLING_FIELDS},
        usage=done.usage,
        timings=done.timings,
        written_by=engine.info.name,
        model=engine.info,
        memory=read_log(engine.load_log),
        piece_of=engine.vocab.piece,
    )


def _listed(seen: Inspected) -> Report:
    rows: list[tuple[Cell, ...]] = []
    for group, members in FIGURES.items():
        if rows:
            rows.append(("", "", ""))
        rows.append((Span(_(group), Tone.DIM), "", ""))
        for figure in members:
            title = _(figure.title)
            said = title.replace("-", " ").startswith(figure.name.replace("-", " "))
            shown = Span("" if said else title, Tone.DIM)
            rows.append((Span(figure.name, Tone.ACCENT), present(figure, seen), shown))
    return Report(
        title=_("why"),
        blocks=(
            *_subject(seen, None),
            Table((Column(), Column(), Column(grows=True)), tuple(rows)),
            Words(
                _("`/why entropy` explains one; – is not known. In the inspector, `?` asks for the selected token."),
                Tone.DIM,
            ),
        ),
        document={
            "figures": [_document(seen, figure, worked_out(figure, seen)) for figure in all_figures()],
            **_subject_document(seen),
        },
    )


def _subject(seen: Inspected, figure: Figure | None) -> list[Block]:
    """Says of what the figure is."""
    if figure in FIGURES[MODEL] and seen.model is not None:
        return [Words(_("of the model {name}").format(name=seen.model.name), Tone.DIM)]
    n = len(seen.tokens)
    if figure in FIGURES[ANSWER] and seen.tokens:
        match seen.part:
            case Part.ANSWER:
                of = n_("of an answer of {n} token", "of an answer of {n} tokens", n)
            case Part.MESSAGE:
                of = n_(
                    "of a message of {n} token, its template included",
                    "of a message of {n} tokens, its template included",
                    n,
                )
            case _:
                of = n_("of a prompt of {n} token", "of a prompt of {n} tokens", n)
        return [Words(of.format(n=f"{n:,}"), Tone.DIM)]
    if seen.token is None or seen.index is None:
        return []
    match seen.part:
        case Part.ANSWER:
            text = _("token {place:,} of {n:,} of the answer:")
        case Part.MESSAGE:
            text = _("token {place:,} of {n:,} of the message, its template included:")
        case _:
            text = _("token {place:,} of {n:,} of the prompt:")
    place = text.format(place=seen.index + 1, n=n)
    label = Span(piece_label(seen.token.piece), Tone.STRONG)
    line = Flow((Span(f"{place}  ", Tone.DIM), label, Span(f"  id {seen.token.id}", Tone.DIM)))
    return [Words(seen.note, Tone.DIM), line] if seen.note else [line]


def _labelled(label: str, *formulas: str) -> list[tuple[str, str]]:
    """Formulas below one another, each in pieces between which a line may end."""
    parts = [re.split(r" (?=[=<≤≥] )", line) for formula in formulas for line in formula.splitlines()]
    literals = [" ".join(f"`{piece}`" for piece in pieces) for pieces in parts]
    return [("" if index else label, literal) for index, literal in enumerate(literals)]


def _document(seen: Inspected, figure: Figure, found: Working | str) -> dict[str, object]:
    value, unit, text = (None, "", "") if isinstance(found, str) else (found.value, found.unit, found.text)
    return {
        "figure": figure.name,
        "title": _(figure.title),
        "value": value,
        "unit": unit,
        "text": text,
        "missing": found if isinstance(found, str) else None,
    }


def _subject_document(seen: Inspected) -> dict[str, object]:
    token = seen.token
    return {
        "model": None if seen.model is None else seen.model.name,
        "of": seen.part,
        "token": None
        if token is None
        else {
            "index": seen.index,
            "id": token.id,
            "text": token_text(token.piece),
            "bytes": token.piece.hex(),
            "position": None if token.trace is None else token.trace.position,
        },
        "n_tokens": len(seen.tokens),
    }
