"""What a setting does to the next token of a conversation: before its stage and after it, and where it cuts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tui_chat.display.figures import percent, stage_name
from tui_chat.display.text import one_line
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import penalty_window, softmax
from tui_chat.language import _, n_
from tui_chat.lessons.moment import Moment, View, entropy, next_token, raw_view
from tui_chat.lessons.report import Bar, Block, Cell, Column, Curve, Facts, Heading, Report, Span, Table, Tone, Words
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch

STAGE_OF: Mapping[str, str] = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical",
    "top_n_sigma": "top_n_sigma",
    "xtc_probability": "xtc",
    "xtc_threshold": "xtc",
    "repeat_penalty": "penalties",
    "repeat_last_n": "penalties",
    "frequency_penalty": "penalties",
    "presence_penalty": "penalties",
    "dry_multiplier": "dry",
    "dry_base": "dry",
    "dry_allowed_length": "dry",
    "dry_penalty_last_n": "dry",
    "logit_bias": "logit_bias",
    "ban": "logit_bias",
}
"""The stage of the sampler chain that a setting belongs to."""

_BY_RANK = frozenset({"top_k", "top_p", "min_p", "top_n_sigma"})
"""Stages that keep the best tokens and cut the rest."""

_BEST_SHOWN, _SHOWN = 5, 8
_HOTTEST, _N_POINTS = 2.0, 60
_FIRST = 40
"""How many of the best tokens' probabilities are summed up where none is cut."""


def effect(engine: Engine, watch: Watch, scene: Scene, field: str, value: object, about: Sequence[str] = ()) -> Report:
    """What a setting does at the beginning of the answer to the last message.

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
    moment = next_token(engine, watch, scene)
    blocks, figures = EFFECTS[field](moment, scene, field, value)
    n_prompt = len(moment.ids)
    where = n_("After {n} token of prompt.", "After {n} tokens of prompt.", n_prompt).format(n=n_prompt)
    return Report(
        title=field,
        blocks=[
            *(Words(text) for text in about),
            Heading(_("What it does to the next token")),
            Words(where, Tone.DIM),
            *blocks,
        ],
        document={"model": engine.info.name, "setting": field, "value": value, "prompt_tokens": n_prompt, **figures},
    )


def entropy_curve(logits: NDArray[np.float64], hottest: float) -> tuple[tuple[float, float], ...]:
    """Entropy over temperature: (T, H of softmax(logits / T)) from 0, where the best is taken, to `hottest`.

    Args:
        logits: (n,) finite, nats.
        hottest: The highest temperature.
    """
    temperatures = [hottest * step / _N_POINTS for step in range(1, _N_POINTS + 1)]
    return ((0.0, 0.0), *((t, entropy(softmax(logits / t))) for t in temperatures))


Part = tuple[list[Block], dict[str, object]]
"""What is to be seen, and its figures."""


def _stage(moment: Moment, _scene: Scene, field: str, _value: object) -> Part:
    """Before and after the stage a setting belongs to."""
    name = STAGE_OF[field]
    if name not in moment.params.order:
        text = _("The stage {stage} is not in the order of the chain, so it does nothing.").format(
            stage=stage_name(name)
        )
        return [Words(text, Tone.WARN)], {"stage": None}
    views, _choice = moment.chain(always=(name,))
    place = next(index for index, (stage, _view) in enumerate(views) if stage == name)
    before, after = views[place - 1][1], views[place][1]
    acts = len(before.ids) != len(after.ids) or not np.array_equal(before.logits, after.logits)
    chain = " › ".join(stage_name(stage) for stage, _view in views[1:])
    lost = 1.0 - float(before.p[np.isin(before.ids, after.ids)].sum())
    facts = [
        (_("chain"), chain),
        (_("before"), _spread(before)),
        (_("after"), _spread(after) if acts else _("the same: this setting does nothing here")),
    ]
    if len(after.ids) < len(before.ids):
        n_lost = len(before.ids) - len(after.ids)
        facts.append(
            (
                _("cut"),
                n_(
                    "{n:,} token, which held {share} of the probability",
                    "{n:,} tokens, which held {share} of the probability",
                    n_lost,
                ).format(n=n_lost, share=percent(max(0.0, lost))),
            )
        )
    blocks: list[Block] = [Facts(tuple(facts)), _table(moment, before, after)]
    blocks += [Words(text) for text in _arithmetic(moment, field, before, after)]
    figures: dict[str, object] = {
        "stage": name,
        "before": _document(moment, before),
        "after": _document(moment, after),
        "cut_p": max(0.0, lost),
    }
    if name == "temperature":
        blocks += _temperature_curve(moment, before, figures)
    elif name in _BY_RANK:
        blocks += _cut_curve(before, after)
    return blocks, figures


def _table(moment: Moment, before: View, after: View) -> Table:
    """The best tokens, and where the stage cuts."""
    p_after = dict(zip(after.ids.tolist(), after.p.tolist(), strict=True))
    kept = [token in p_after for token in before.ids[:10_000].tolist()]
    cut = [place for place, stays in enumerate(kept) if not stays]
    if cut:
        edge = [place for place, stays in enumerate(kept) if stays][-1:]
        shown = sorted({*range(min(_BEST_SHOWN, len(kept))), *edge, *cut[:2]})
    else:
        shown = list(range(min(_SHOWN, len(kept))))
    rows: list[tuple[Cell, ...]] = []
    for place in shown:
        token = int(before.ids[place])
        stays = token in p_after
        rows.append(
            (
                f"{place + 1:,}",
                Span(moment.label(token), Tone.STRONG if stays else Tone.DIM),
                percent(float(before.p[place])),
                percent(p_after[token]) if stays else Span(_("✂ cut"), Tone.WARN),
                Bar(p_after.get(token, 0.0)),
            )
        )
    columns = (
        Column("#", "right"),
        Column(_("token"), grows=True),
        Column(_("before"), "right"),
        Column(_("after"), "right"),
        Column(),
    )
    return Table(columns, tuple(rows))


def _arithmetic(moment: Moment, field: str, before: View, after: View) -> Iterator[str]:
    """How the setting comes to what it does, with the numbers of this moment."""
    params, k = moment.params, len(after.ids)
    if field == "temperature":
        yield from _cooling(moment, before)
    elif field == "top_k" and k < len(before.ids):
        yield _("`{last}` is the last of the best {k}; all below it are cut.").format(
            last=_quoted(moment.label(after.ids[-1])), k=k
        )
    elif field == "top_p" and k < len(before.ids):
        total = float(before.p[:k].sum())
        yield _(
            "`{sum:.4f} ≥ {top_p:g}`: the best {k} reach the sum; without the last of them it would be `{less:.4f}`."
        ).format(sum=total, top_p=params.top_p, k=k, less=total - float(before.p[k - 1]))
    elif field == "min_p" and params.min_p > 0:
        best = float(before.p[0])
        yield _("`{min_p:g} × {best:.4f} = {least:.4f}`: tokens below that are cut.").format(
            min_p=params.min_p, best=best, least=params.min_p * best
        )
    elif STAGE_OF[field] in ("penalties", "dry"):
        last_n = params.repeat_last_n if STAGE_OF[field] == "penalties" else params.dry_penalty_last_n
        window = penalty_window(last_n, moment.engine.context.n_ctx)
        recent = moment.ids[-window:] if window else ()
        yield _("It looks at the last {n:,} tokens; {different:,} different ones are among them.").format(
            n=len(recent), different=len(set(recent))
        )


def _cooling(moment: Moment, before: View) -> Iterator[str]:
    temperature = moment.params.temperature
    if temperature == 0:
        yield _("At 0 the best token is taken and nothing is drawn.")
    elif len(before.ids) > 1:
        gap = float(before.logits[0] - before.logits[1])
        yield _(
            "The logits of `{best}` and `{second}` lie {gap:.3f} nats apart: `e^{gap:.3f} = {odds:.3g}` times as "
            "likely. Divided by {t:g} that is `e^{cooled:.3f} = {cooled_odds:.3g}` times."
        ).format(
            best=_quoted(moment.label(before.ids[0])),
            second=_quoted(moment.label(before.ids[1])),
            gap=gap,
            odds=math.exp(min(gap, 700)),
            t=temperature,
            cooled=gap / temperature,
            cooled_odds=math.exp(min(gap / temperature, 700)),
        )


def _temperature_curve(moment: Moment, before: View, figures: dict[str, object]) -> Iterator[Block]:
    if len(before.ids) < 2:
        yield Words(_("Only one token reaches this stage: no temperature changes anything here."), Tone.DIM)
        return
    now = moment.params.temperature
    curve = entropy_curve(before.logits, max(_HOTTEST, now * 1.5))
    here = (now, entropy(softmax(before.logits / now)) if now else 0.0)
    figures["curve"] = [list(point) for point in curve]
    caption = _("Entropy in nats of the tokens that reach this stage, over the temperature. ◆ is where it stands now.")
    yield Curve(curve, (here,), caption)


def _cut_curve(before: View, after: View) -> Iterator[Block]:
    k, n = len(after.ids), len(before.ids)
    if n < 2:
        return
    sums = np.cumsum(before.p[: max(20, 3 * k) if k < n else _FIRST])
    points = tuple((float(rank), float(total)) for rank, total in enumerate(sums, start=1))
    caption = _("The sum of the best tokens' probabilities, over how many they are.")
    if k < n:
        caption += " " + _("◆ is where this stage cuts.")
    yield Curve(points, (points[k - 1],) if k < n else (), caption)


def _draw(moment: Moment, _scene: Scene, _field: str, value: object) -> Part:
    """The draw: which token the present seed takes from what the chain leaves."""
    _views, choice = moment.chain()
    if choice.u is None:
        text = _("The temperature is 0, so the best token is taken: there is no draw, and the seed does nothing.")
        return [Words(text)], {"u": None, "picked": _token(moment, choice.id)}
    ends = np.cumsum(choice.p)
    picked = int(np.flatnonzero(choice.ids == choice.id)[0])
    shown = sorted({*range(min(_SHOWN, len(choice.ids))), *([picked] if value is not None else [])})
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
        figures = {"u": choice.u, "picked": _token(moment, choice.id)}
    return [Words(said), Table(columns, tuple(rows))], figures


def _room(moment: Moment, scene: Scene, _field: str, _value: object) -> Part:
    """How far an answer may go, and the chance that the model ends it at once."""
    _views, choice = moment.chain()
    n_ctx, n_prompt = moment.engine.context.n_ctx, len(moment.ids)
    room = min(scene.limits.max_tokens, n_ctx - n_prompt)
    ends = sorted(moment.engine.info.eog_ids)
    p_end = float(choice.p[np.isin(choice.ids, ends)].sum())
    facts = (
        (_("prompt"), _("{n:,} tokens of a context of {n_ctx:,}").format(n=n_prompt, n_ctx=n_ctx)),
        (_("longest answer"), _("{n:,} tokens, from here").format(n=room)),
        (_("ends by itself"), _("{p} is the chance that the very next token ends it").format(p=percent(p_end))),
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
        (_("best token"), f"`{_quoted(moment.label(view.ids[0]))}` {percent(best)}"),
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
        Column(_("entropy"), "right"),
        Column(_("best p"), "right"),
        Column(),
    )
    stages = [{"name": name, "survivors": len(view.ids), "entropy": view.entropy} for name, view in views[1:]]
    return [Table(columns, tuple(rows))], {"stages": stages}


def _spread(view: View) -> str:
    return n_(
        "{n:,} token, entropy {nats:.3f} nats, the best one {best}",
        "{n:,} tokens, entropy {nats:.3f} nats, the best one {best}",
        len(view.ids),
    ).format(n=len(view.ids), nats=view.entropy, best=percent(float(view.p[0])))


def _document(moment: Moment, view: View) -> dict[str, object]:
    top = zip(view.ids[:_SHOWN].tolist(), view.p[:_SHOWN].tolist(), strict=True)
    return {
        "survivors": len(view.ids),
        "entropy": view.entropy,
        "top": [{**_token(moment, token), "p": p} for token, p in top],
    }


def _token(moment: Moment, token: int) -> dict[str, object]:
    return {"id": token, "text": moment.label(token)}


def _quoted(label: str) -> str:
    """A token's label to stand between backticks."""
    return label.replace("`", "'")


EFFECTS: Mapping[str, Callable[[Moment, Scene, str, object], Part]] = {
    **dict.fromkeys(STAGE_OF, _stage),
    "seed": _draw,
    "max_length": _room,
    "stop": _stops,
    "min_confidence": _confidence,
    "order": _order,
}
"""The settings whose effect can be shown, and how."""
