"""What a stage of the sampler chain does to the next token: before it and after it, and where it cuts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tui_chat.display.figures import percent, stage_name
from tui_chat.engine.sampling import penalty_window, softmax
from tui_chat.language import _, n_
from tui_chat.lessons.moment import Moment, View, cooled, entropy
from tui_chat.lessons.report import Bar, Block, Cell, Column, Curve, Facts, Span, Table, Tone, Words
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.working import braced, exact

STAGE_OF: Mapping[str, str] = {
    "temperature": "temperature",
    "dynatemp_range": "temperature",
    "dynatemp_exponent": "temperature",
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
    "dry_sequence_breakers": "dry",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat",
    "mirostat_eta": "mirostat",
    "adaptive_target": "adaptive_p",
    "adaptive_decay": "adaptive_p",
    "grammar": "grammar",
    "json_schema": "grammar",
    "logit_bias": "logit_bias",
    "ban": "logit_bias",
}
"""The stage of the sampler chain that a setting belongs to."""

_BY_RANK = frozenset({"top_k", "top_p", "min_p", "top_n_sigma"})
"""Stages that keep the best tokens and cut the rest."""

_BY_TOKEN = frozenset({"logit_bias", "penalties", "dry"})
"""Stages that change the logits of single tokens."""

SHOWN = 8
"""Rows of a table of tokens."""

_BEST_SHOWN = 5
_HOTTEST, _N_POINTS = 2.0, 60
_LADDER = (0.3, 0.7, 1.0, 1.5, 2.0)
"""Temperatures that stand beside the present one."""
_FIRST = 40
"""How many of the best tokens' probabilities are summed up where none is cut."""


Part = tuple[list[Block], dict[str, object]]
"""What is to be seen, and its figures."""


def entropy_curve(logits: NDArray[np.float64], hottest: float) -> tuple[tuple[float, float], ...]:
    """Entropy over temperature: (T, H of softmax(logits / T)) from 0, where the best is taken, to `hottest`.

    Args:
        logits: (n,) finite, nats.
        hottest: The highest temperature.
    """
    temperatures = [hottest * step / _N_POINTS for step in range(1, _N_POINTS + 1)]
    return ((0.0, 0.0), *((t, entropy(softmax(logits / t))) for t in temperatures))


def stage_effect(moment: Moment, _scene: Scene, field: str, _value: object) -> Part:
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
                _("left"),
                _("{n:,} of {all:,}, which held {share} of the probability").format(
                    n=len(after.ids), all=len(before.ids), share=percent(min(1.0, 1 - lost))
                ),
            )
        )
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
    ladder = _ladder(moment, before) if field == "temperature" else {}
    shown = _changes if name in _BY_TOKEN else _table
    blocks: list[Block] = [
        Facts(tuple(facts)),
        _ladder_table(moment, before, ladder) if ladder else shown(moment, before, after),
    ]
    blocks += [Words(text) for text in _arithmetic(moment, field, before, after)]
    figures: dict[str, object] = {
        "stage": name,
        "before": _document(moment, before),
        "after": _document(moment, after),
        "cut_p": max(0.0, lost),
    }
    if field == "temperature":
        figures["ladder"] = [
            {"temperature": t, "entropy": entropy(p), "p": p[:SHOWN].tolist()} for t, p in ladder.items()
        ]
        blocks += _temperature_curve(moment, before, figures)
    elif name in _BY_RANK:
        blocks += _cut_curve(before, after, summed=name == "top_p")
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
        shown = list(range(min(SHOWN, len(kept))))
    rows: list[tuple[Cell, ...]] = []
    for place in shown:
        token = int(before.ids[place])
        stays = token in p_after
        rows.append(
            (
                f"{place + 1:,}",
                Span(moment.label(token), Tone.STRONG if stays else Tone.DIM),
                percent(float(before.p[place])),
                Bar(float(before.p[place])),
                percent(p_after[token]) if stays else Span(_("✂ cut"), Tone.WARN),
            )
        )
    columns = (
        Column("#", "right"),
        Column(_("token"), grows=True),
        Column(_("before"), "right"),
        Column(),
        Column(_("after"), "right"),
    )
    return Table(columns, tuple(rows))


def _changes(moment: Moment, before: View, after: View) -> Table:
    """The best tokens and those whose logits the stage changes most, with both logits."""
    changed = _most_changed(before, after)
    order, p_after = _by_id(after.ids), after.p
    rows: list[tuple[Cell, ...]] = []
    for place in sorted({*range(min(_BEST_SHOWN, len(before.ids))), *changed}):
        token = int(before.ids[place])
        there = order.get(token)
        tone = Tone.STRONG if place in changed else Tone.PLAIN
        rows.append(
            (
                f"{place + 1:,}",
                Span(moment.label(token), tone),
                percent(float(before.p[place])),
                percent(float(p_after[there])) if there is not None else Span(_("✂ cut"), Tone.WARN),
                Span(f"{before.logits[place]:.2f}", tone),
                Span(f"{after.logits[there]:.2f}" if there is not None else "−∞", tone),
            )
        )
    columns = (
        Column("#", "right"),
        Column(_("token"), grows=True),
        Column(_("before"), "right"),
        Column(_("after"), "right"),
        Column(_("logit"), "right"),
        Column(_("after"), "right"),
    )
    return Table(columns, tuple(rows))


def _most_changed(before: View, after: View) -> list[int]:
    """Places in `before` of the tokens whose logits a stage changes most, up to five, best first."""
    kept = np.full(int(before.ids.max()) + 1, -np.inf)
    kept[after.ids] = after.logits
    # What was banned is at minus infinity now: the most there can be.
    change = np.abs(kept[before.ids] - before.logits)
    most = np.argsort(-change, kind="stable")[:_BEST_SHOWN]
    return sorted(int(place) for place in most if change[place] > 0)


def _by_id(ids: NDArray[np.int64]) -> dict[int, int]:
    """The place of each token."""
    return {token: place for place, token in enumerate(ids.tolist())}


def _ladder(moment: Moment, before: View) -> dict[float, NDArray[np.float64]]:
    """Several temperatures, the present one among them, and what each makes of the tokens that reach the stage."""
    return {t: cooled(before.logits, t) for t in sorted({*_LADDER, moment.params.temperature})}


def _ladder_table(moment: Moment, before: View, ladder: Mapping[float, NDArray[np.float64]]) -> Table:
    """The best tokens at several temperatures."""
    now = moment.params.temperature

    def row(head: Span, cells: Iterator[str]) -> tuple[Cell, ...]:
        tones = (Tone.STRONG if t == now else Tone.PLAIN for t in ladder)
        return head, *(Span(cell, tone) for cell, tone in zip(cells, tones, strict=True))

    rows = [
        row(Span(moment.label(token), Tone.STRONG), (percent(float(p[place])) for p in ladder.values()))
        for place, token in enumerate(before.ids[:SHOWN].tolist())
    ]
    rows.append(row(Span(_("entropy, nats"), Tone.DIM), (f"{entropy(p):.2f}" for p in ladder.values())))
    heads = (f"{t:g} ◆" if t == now else f"{t:g}" for t in ladder)
    return Table((Column(_("token"), grows=True), *(Column(head, "right") for head in heads)), tuple(rows))


def _arithmetic(moment: Moment, field: str, before: View, after: View) -> Iterator[str]:
    """How the setting comes to what it does, with the numbers of this moment."""
    params, k = moment.params, len(after.ids)
    if field == "temperature":
        yield from _cooling(moment, before)
    elif field == "top_k" and k < len(before.ids):
        yield _("`{last}` is the last of the best {k}; all below it are cut.").format(
            last=moment.quoted(after.ids[-1]), k=k
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
        if STAGE_OF[field] == "penalties":
            yield from _penalised(moment, Counter(recent), before, after)


def _penalised(moment: Moment, counts: Counter[int], before: View, after: View) -> Iterator[str]:
    """The new logit of the token that is changed most, as llama_sampler_penalties computes it."""
    changed = _most_changed(before, after)
    if not changed:
        return
    params, logits = moment.params, dict(zip(after.ids.tolist(), after.logits.tolist(), strict=True))
    place = max(changed, key=lambda index: abs(logits[int(before.ids[index])] - before.logits[index]))
    token, old = int(before.ids[place]), float(before.logits[place])
    n = counts[token]
    formula = f"{old:.3f} {'÷' if old > 0 else '×'} {params.repeat_penalty:g}"
    if params.frequency_penalty:
        formula += f" − {n} × {braced(exact(params.frequency_penalty))}"
    if params.presence_penalty:
        formula += f" − {braced(exact(params.presence_penalty))}"
    yield n_(
        "`{token}` came {n} time, and its logit becomes `{formula} = {new:.3f}`.",
        "`{token}` came {n} times, and its logit becomes `{formula} = {new:.3f}`.",
        n,
    ).format(token=moment.quoted(token), n=n, formula=formula, new=logits[token])


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
            best=moment.quoted(before.ids[0]),
            second=moment.quoted(before.ids[1]),
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
    here = (now, entropy(cooled(before.logits, now)))
    figures["curve"] = [list(point) for point in curve]
    caption = _("Entropy in nats of the tokens that reach this stage, over the temperature. ◆ is where it stands now.")
    yield Curve(curve, (here,), caption)


def _cut_curve(before: View, after: View, *, summed: bool) -> Iterator[Block]:
    """The distribution in its order, and where it is cut; summed up for a stage whose rule is about the sum."""
    k, n = len(after.ids), len(before.ids)
    if n < 2:
        return
    p = before.p[: max(20, 2 * k) if k < n else _FIRST]
    if summed:
        heights = np.cumsum(p)
        caption = _("The sum of the best tokens' probabilities, over how many they are.")
    else:
        heights = np.log10(p[p > 0])
        caption = _("Each token's probability as a power of ten (−1 is 10%, −2 is 1%), the best token first.")
    points = tuple((float(rank), float(height)) for rank, height in enumerate(heights, start=1))
    if k < n:
        caption += " " + _("◆ is where this stage cuts.")
    yield Curve(points, (points[k - 1],) if k < n else (), caption)


def _spread(view: View) -> str:
    return n_(
        "{n:,} token, entropy {nats:.3f} nats, best {best}",
        "{n:,} tokens, entropy {nats:.3f} nats, best {best}",
        len(view.ids),
    ).format(n=len(view.ids), nats=view.entropy, best=percent(float(view.p[0])))


def _document(moment: Moment, view: View) -> dict[str, object]:
    top = zip(view.ids[:SHOWN].tolist(), view.p[:SHOWN].tolist(), strict=True)
    return {
        "survivors": len(view.ids),
        "entropy": view.entropy,
        "top": [{**moment.document(token), "p": p} for token, p in top],
    }
