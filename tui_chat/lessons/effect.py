"""What a setting does to the next token of a conversation: before its stage and after it, and where it cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tui_chat.chat.conversation import Role
from tui_chat.display.figures import percent, stage_name
from tui_chat.display.text import one_line
from tui_chat.engine.engine import Engine
from tui_chat.language import _, n_
from tui_chat.lessons.moment import Moment, next_token, raw_view
from tui_chat.lessons.report import Bar, Cell, Column, Facts, Heading, Report, Span, Table, Tone, Words
from tui_chat.lessons.scene import EXAMPLE_QUESTION, Scene, warning
from tui_chat.lessons.stage_effect import SHOWN, STAGE_OF, Part, stage_effect
from tui_chat.lessons.watch import Watch


def effect(engine: Engine, watch: Watch, scene: Scene, field: str, value: object, about: Sequence[str] = ()) -> Report:
    """What a setting does at the beginning of the answer to the last message; to an example where there is none.

    Args:
        engine: Its cache stays as it is.
        watch: Stops it.
        scene: The conversation and the settings.
        field: Name of the setting, one of `EFFECTS`.
        value: What it is set to.
        about: What to say of the setting first.

    Raises:
        PromptTooLongError: The prompt does not fit into the context.
        SamplingError: The settings leave no token to choose.
        TemplateError: The template refuses the messages.
    """
    is_example = not scene.unanswered().messages
    if is_example:
        system = next((message.text for message in scene.messages if message.role is Role.SYSTEM), None)
        scene = replace(scene.asking(_(EXAMPLE_QUESTION), system), prefill=scene.prefill)
    moment = next_token(engine, watch, scene)
    blocks, figures = EFFECTS[field](moment, scene, field, value)
    n_prompt = len(moment.ids)
    if is_example:
        where = n_(
            "Nothing was asked yet: it is the first token of an answer to `{example}`, after {n} token of prompt.",
            "Nothing was asked yet: it is the first token of an answer to `{example}`, after {n} tokens of prompt.",
            n_prompt,
        ).format(n=f"{n_prompt:,}", example=_(EXAMPLE_QUESTION))
    else:
        where = n_(
            "It is the first token of an answer to your last message, after {n} token of prompt.",
            "It is the first token of an answer to your last message, after {n} tokens of prompt.",
            n_prompt,
        ).format(n=f"{n_prompt:,}")
    return Report(
        title=field,
        blocks=[
            *(Words(text) for text in about),
            Heading(_("What it does to the next token")),
            Words(where, Tone.DIM),
            *warning(moment.dropped),
            *blocks,
        ],
        document={
            "model": engine.info.name,
            "setting": field,
            "value": value,
            "example": is_example,
            "prompt_tokens": n_prompt,
            "dropped": moment.dropped,
            **figures,
        },
    )


def _draw(moment: Moment, _scene: Scene, _field: str, value: object) -> Part:
    """The draw: which token the present seed takes from what the chain leaves."""
    _views, choice = moment.chain()
    if choice.u is None:
        text = _("The temperature is 0, so the best token is taken: there is no draw, and the seed does nothing.")
        return [Words(text)], {"u": None, "picked": moment.document(choice.id)}
    ends = np.cumsum(choice.p)
    picked = int(np.flatnonzero(choice.ids == choice.id)[0])
    shown = sorted({*range(min(SHOWN, len(choice.ids))), *([picked] if value is not None else [])})
    rows: list[tuple[Cell, ...]] = [
        (
            Span(moment.label(choice.ids[place]), Tone.STRONG),
            percent(float(choice.p[place])),
            Bar(float(choice.p[place])),
            f"{ends[place] - choice.p[place]:.4f} – {ends[place]:.4f}",
            Span(_("◀ u"), Tone.ACCENT) if value is not None and place == picked else "",
        )
        for place in shown
    ]
    said = (
        _("Each answer takes a fresh seed, so u may be any number from 0 to 1: each token comes as often as its share.")
        if value is None
        else _(
            "`u = Philox(seed {seed}, position {position}) = {u:.4f}`: the token in whose share it lies is drawn."
        ).format(seed=value, position=len(moment.ids), u=choice.u)
    )
    columns = (
        Column(_("token"), grows=True),
        Column("p", "right"),
        Column(),
        Column(_("its share of 0 to 1")),
        Column(),
    )
    figures: dict[str, object] = {"u": None, "picked": None}
    if value is not None:
        figures = {"u": choice.u, "picked": moment.document(choice.id)}
    return [Words(said), Table(columns, tuple(rows))], figures


def _room(moment: Moment, scene: Scene, _field: str, _value: object) -> Part:
    """How far an answer may go, and the chance that the model ends it at once."""
    _views, choice = moment.chain()
    n_ctx, n_prompt = moment.engine.context.n_ctx, len(moment.ids)
    room = min(scene.limits.max_tokens, n_ctx - n_prompt)
    ends = sorted(moment.engine.info.eog_ids)
    p_end = float(choice.p[np.isin(choice.ids, ends)].sum())
    if ends:
        by_itself = _("{p} is the chance that the very next token ends it").format(p=percent(p_end))
    else:
        by_itself = _("never: this model has no end token, so this limit or a stop string ends the answer")
    facts = (
        (_("prompt"), _("{n:,} tokens of a context of {n_ctx:,}").format(n=n_prompt, n_ctx=n_ctx)),
        (_("longest answer"), _("{n:,} tokens, from here").format(n=room)),
        (_("ends by itself"), by_itself),
        (_("distribution"), _("not changed: the limit cuts the answer, not the tokens to choose from")),
    )
    return [Facts(facts)], {"room": room, "p_end": p_end}


def _stops(moment: Moment, scene: Scene, _field: str, _value: object) -> Part:
    """The chance that the next token begins what would end the answer."""
    _views, choice = moment.chain()
    pieces = [moment.engine.vocab.piece(token) for token in choice.ids.tolist()]
    stops = {stop: stop.encode("utf-8", "replace") for stop in scene.limits.stop}
    chances = {
        text: float(sum(p for piece, p in zip(pieces, choice.p, strict=True) if _begins(piece, stop)))
        for text, stop in stops.items()
    }
    rows = tuple((Span(one_line(text), Tone.STRONG), percent(p), Bar(p)) for text, p in chances.items())
    said = _(
        "Stop strings change nothing about the tokens to choose from; they end the answer where its text comes to one. "
        "The chance that the very next token begins it:"
    )
    columns = (Column(_("stop string"), grows=True), Column("p", "right"), Column())
    return [Words(said), Table(columns, rows)], {"stops": [{"text": text, "p": p} for text, p in chances.items()]}


def _begins(piece: bytes, stop: bytes) -> bool:
    return bool(piece) and (piece.startswith(stop) or stop.startswith(piece))


def _confidence(moment: Moment, _scene: Scene, _field: str, value: object) -> Part:
    """Whether the best token is likely enough to go on."""
    view = raw_view(moment.logits)
    best = float(view.p[0])
    stops = isinstance(value, float | int) and best < value
    facts = (
        (_("best token"), f"`{moment.quoted(view.ids[0])}` {percent(best)}"),
        (_("answer"), _("ends here: that is below the limit") if stops else _("goes on")),
    )
    return [Facts(facts)], {"p_best": best, "ends": stops}


def _order(moment: Moment, _scene: Scene, _field: str, _value: object) -> Part:
    """What every stage leaves, in the order they run."""
    views, _choice = moment.chain(always=moment.params.order)
    rows: list[tuple[Cell, ...]] = []
    for index, (name, view) in enumerate(views):
        acts = index == 0 or not np.array_equal(view.logits, views[index - 1][1].logits)
        rows.append(
            (
                Span(stage_name(name) or _("all tokens"), Tone.PLAIN if acts else Tone.DIM),
                f"{len(view.ids):,}",
                f"{view.entropy:.3f}",
                percent(float(view.p[0])),
                "" if acts else Span(_("does nothing"), Tone.DIM),
            )
        )
    columns = (
        Column(_("stage")),
        Column(_("tokens left"), "right"),
        Column(_("entropy, nats"), "right"),
        Column(_("best p"), "right"),
        Column(),
    )
    stages = [{"name": name, "survivors": len(view.ids), "entropy": view.entropy} for name, view in views[1:]]
    return [Table(columns, tuple(rows))], {"stages": stages}


EFFECTS: Mapping[str, Callable[[Moment, Scene, str, object], Part]] = {
    **dict.fromkeys(STAGE_OF, stage_effect),
    "seed": _draw,
    "max_length": _room,
    "stop": _stops,
    "min_confidence": _confidence,
    "order": _order,
}
"""The settings whose effect can be shown, and how."""
