"""Lessons 4 to 7: from a list of logits to a token, again and again, and what is kept in between."""

from __future__ import annotations

import math
import time

import numpy as np

from tui_chat.display.figures import nats, percent, rate, span
from tui_chat.display.text import literal, piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import softmax
from tui_chat.engine.types import GeneratedToken, GenerationRequest, Limits, TokensGenerated
from tui_chat.language import _, n_
from tui_chat.lessons.allocation import Allocation, read_log
from tui_chat.lessons.course.explained import Explained
from tui_chat.lessons.moment import Moment, entropy, next_token
from tui_chat.lessons.report import Bar, Cell, Column, Curve, Span, Table, Tone, Words
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.stage_effect import entropy_curve
from tui_chat.lessons.watch import Watch

_TEMPERATURES = (0.5, 1.0, 2.0)
_SHOWN = 4
_CUTS = {"top_k": "top-k", "typical": "typical", "top_p": "top-p", "min_p": "min-p", "top_n_sigma": "top-n-sigma"}
_TAIL_FROM = 40
_PASSES = 6
_DECODED = 8


def about_temperature(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 4: the same logits at three temperatures."""
    question = _("Tell me a story.")
    moment = next_token(engine, watch, scene.asking(question))
    order = np.argsort(-moment.logits, kind="stable")
    values = moment.logits[order].astype(np.float64)
    values = values[np.isfinite(values)]
    p = {t: softmax(values / t) for t in _TEMPERATURES}
    entropies = {t: entropy(p[t]) for t in _TEMPERATURES}
    other = min(_SHOWN, len(values)) - 1
    gap, now = float(values[0] - values[other]), moment.params.temperature
    rows: list[tuple[Cell, ...]] = [
        (Span(moment.label(token), Tone.STRONG), f"{values[at]:.2f}", *(percent(float(p[t][at])) for t in p))
        for at, token in enumerate(order[:_SHOWN].tolist())
    ]
    rows.append((Span(_("entropy"), Tone.DIM), "", *(nats(entropies[t]) for t in p)))
    columns = (
        Column(_("token"), grows=True),
        Column(_("logit"), "right"),
        *(Column(f"T = {t:g}", "right") for t in _TEMPERATURES),
    )
    here = (now, entropy(softmax(values / now)) if now else 0.0)
    return Explained(
        (
            Words(
                _(
                    "Softmax makes probabilities of logits: each is e to its logit, divided by the sum of all. Only "
                    "differences count. At the beginning of an answer to “{question}”, “{best}” lies {gap:.2f} above "
                    "“{second}”, so it is e^{gap:.2f} = {odds:.3g} times as likely."
                ).format(
                    question=question,
                    best=moment.label(order[0]),
                    second=moment.label(order[other]),
                    gap=gap,
                    odds=_odds(gap),
                )
            ),
            Words(
                _(
                    "The temperature T divides all logits first. At T = 0.5 that difference counts twice, {cold:.3g} "
                    "times as likely; at T = 2 half, {hot:.3g} times. So a low temperature sharpens the choice and a "
                    "high one flattens it; at 0 the best token is simply taken."
                ).format(cold=_odds(gap / 0.5), hot=_odds(gap / 2))
            ),
            Table(columns, tuple(rows)),
            *_cut_before(moment),
            Curve(
                entropy_curve(values, max(2.0, now * 1.2)),
                (here,),
                _("Entropy in nats over the temperature; ◆ is your setting, {t:g}.").format(t=now),
                height=5,
            ),
        ),
        {
            "question": question,
            "gap": gap,
            "temperature": now,
            "top": [
                {"id": token, "text": moment.label(token), "logit": float(values[at])}
                for at, token in enumerate(order[:_SHOWN].tolist())
            ],
            "at": [
                {"temperature": t, "p": [float(x) for x in p[t][:_SHOWN]], "entropy": entropies[t]}
                for t in _TEMPERATURES
            ],
        },
    )


def _cut_before(moment: Moment) -> tuple[Words, ...]:
    """What the settings cut before the temperature acts: it spreads the choice over no more than they leave."""
    views, _choice = moment.chain(always=("temperature",))
    names = [name for name, _view in views]
    if "temperature" not in names:
        return ()
    before = views[: names.index("temperature")]
    cuts = [f"{_CUTS[name]}{_value(moment.params, name)}" for name, _view in before if name in _CUTS]
    if not cuts:
        return ()
    k = len(before[-1][1].ids)
    words = n_(
        "In your settings {cuts} come before the temperature and leave {k:,} token here: however high T is, nothing "
        "else is drawn, so a change of it may be hard to see. `/top-p off` and `/min-p off` let more through.",
        "In your settings {cuts} come before the temperature and leave {k:,} tokens here: however high T is, nothing "
        "else is drawn, so a change of it may be hard to see. `/top-p off` and `/min-p off` let more through.",
        k,
    )
    return (Words(words.format(cuts=", ".join(cuts), k=k)),)


def about_truncation(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 5: what each cut of the present settings leaves."""
    question = _("Tell me a story.")
    moment = next_token(engine, watch, scene.asking(question))
    views, choice = moment.chain(always=("top_k", "top_p", "min_p"))
    raw = views[0][1]
    n, tail = len(raw.ids), float(raw.p[_TAIL_FROM:].sum())
    left = [(_("whole vocabulary"), n, 1.0)] + [
        (f"{_CUTS[name]}{_value(moment.params, name)}", len(view.ids), float(raw.p[np.isin(raw.ids, view.ids)].sum()))
        for name, view in views[1:]
        if name in _CUTS
    ]
    table = Table(
        (Column(_("after")), Column(_("candidates"), "right"), Column(_("probability they had"), "right"), Column()),
        tuple((name, f"{k:,}", percent(min(1.0, held)), Bar(held)) for name, k, held in left),
    )
    return Explained(
        (
            Words(
                _(
                    "Behind the first choices comes a long tail. At the beginning of an answer to “{question}”, the "
                    "{others:,} tokens behind the best {best} hold {tail} together: hardly one of them makes sense, "
                    "yet the chance that 100 draws take at least one of them is {chance}."
                ).format(
                    question=question,
                    others=max(0, n - _TAIL_FROM),
                    best=_TAIL_FROM,
                    tail=percent(tail),
                    chance=percent(1 - (1 - tail) ** 100),
                )
            ),
            Words(
                _(
                    "Truncation cuts the tail off before the draw, and what is left is scaled to 100% again. Top-k "
                    "keeps the k best. Top-p keeps the fewest best that reach a sum of p, so more where the model is "
                    "unsure. Min-p keeps those with at least that share of the best one. Your settings, in order:"
                )
            ),
            table,
            Words(_("The token is drawn from the {k:,} that are left.").format(k=len(choice.ids))),
        ),
        {
            "question": question,
            "tail_from": _TAIL_FROM,
            "tail": tail,
            "stages": [{"after": name, "candidates": k, "p": held} for name, k, held in left],
            "left": len(choice.ids),
        },
    )


def about_the_loop(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 6: the first passes of an answer."""
    question = _("Tell me a story.")
    ids = scene.asking(question).fitted(engine).ids
    written: list[GeneratedToken] = []
    with engine.aside(len(ids) + _PASSES + 1) as aside:
        request = GenerationRequest(prompt_ids=ids, params=scene.sampling(engine), limits=Limits(max_tokens=_PASSES))
        for event in aside.generate(request, cancel=watch.cancel):
            watch.check()
            if isinstance(event, TokensGenerated):
                written += event.tokens
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            str(number),
            n_("the prompt, {n} token", "the prompt, {n} tokens", len(ids)).format(n=f"{len(ids):,}")
            if number == 1
            else piece_label(written[number - 2].piece),
            Span(piece_label(token.piece), Tone.STRONG),
            percent(token.trace.p) if token.trace is not None else "",
        )
        for number, token in enumerate(written, start=1)
    )
    columns = (Column(_("pass"), "right"), Column(_("reads")), Column(_("and gives")), Column("p", "right"))
    ends = ", ".join(
        f"`{literal(piece_label(engine.vocab.piece(token)))}`" for token in sorted(engine.info.eog_ids)[:2]
    )
    return Explained(
        (
            Words(
                _(
                    "A pass gives one token. To write more, the program puts that token behind the text and runs the "
                    "model again: this is the loop, and an answer of 100 tokens is 100 passes. The first passes of an "
                    "answer to “{question}”:"
                ).format(question=question)
            ),
            Table(columns, rows),
            Words(
                _(
                    "The model never takes a token back and does not know how its sentence will end; what it has "
                    "written is to it a text like any other. The loop ends when the model gives a token that means the "
                    "end ({ends}), after {limit:,} tokens by your settings, where a stop string comes, or when you "
                    "stop it."
                ).format(ends=ends or _("this one has none"), limit=scene.limits.max_tokens)
            ),
        ),
        {
            "question": question,
            "prompt_tokens": len(ids),
            "passes": [{"id": token.id, "p": None if token.trace is None else token.trace.p} for token in written],
            "max_tokens": scene.limits.max_tokens,
        },
    )


def about_the_cache(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 7: reading a prompt, writing token by token, and reading the same again."""
    text = " ".join([_("A model reads the whole prompt before it writes its first token.")] * 6)
    ids = list(scene.asking(text).fitted(engine).ids)
    with engine.aside(len(ids) + _DECODED + 2) as aside:
        begun = time.perf_counter()
        values = aside.logits(ids, watch.cancel)
        prefill_s = time.perf_counter() - begun
        begun = time.perf_counter()
        for _number in range(_DECODED):
            ids.append(int(np.argmax(values)))
            values = aside.logits(ids, watch.cancel)
        decode_s = time.perf_counter() - begun
    n = len(ids) - _DECODED
    found = read_log(engine.load_log)
    rows: tuple[tuple[Cell, ...], ...] = (
        (Span(_("prefill"), Tone.STRONG), _("{n} at once").format(n=f"{n:,}"), span(prefill_s), rate(n / prefill_s)),
        (
            Span(_("decode"), Tone.STRONG),
            _("{n}, one a pass").format(n=_DECODED),
            span(decode_s),
            rate(_DECODED / decode_s),
        ),
    )
    columns = (Column(_("phase")), Column(_("tokens")), Column(_("time"), "right"), Column(_("speed"), "right"))
    return Explained(
        (
            Words(
                _(
                    "An answer has two phases. In the prefill the model reads all tokens of the prompt at once. Then "
                    "it decodes: one pass for each token it writes. Measured just now on this machine:"
                )
            ),
            Table(columns, rows),
            Words(
                _kept(found)
                + " "
                + _(
                    "So a pass reads only what is new. Without it, each of those {m} passes would have read the {n} "
                    "tokens of the prompt again, about {time} a pass instead of {short}."
                ).format(m=_DECODED, n=f"{n:,}", time=span(prefill_s), short=span(decode_s / _DECODED))
            ),
            Words(
                _(
                    "The cache stays from message to message: the second prompt of a conversation begins like the "
                    "first one, and only what was added is read."
                )
            ),
        ),
        {
            "prompt_tokens": n,
            "prefill_s": prefill_s,
            "prefill_tokens_per_s": n / prefill_s,
            "decoded": _DECODED,
            "decode_s": decode_s,
            "decode_tokens_per_s": _DECODED / decode_s,
            "bytes_per_token": found.bytes_per_token,
        },
    )


def _kept(found: Allocation) -> str:
    """What the model keeps of the tokens it has read."""
    if found.recurrent and not found.caches:
        return _(
            "The layers of this model are recurrent: each keeps a state of what it has read, of a size that does not "
            "follow from the number of tokens."
        )
    size = found.bytes_per_token
    if size is None:
        return _(
            "Each layer keeps what it has worked out of every token it read: the KV cache, in this model something "
            "else than a key and a value (`/memory` shows what is known of it)."
        )
    if found.recurrent:
        words = _(
            "Some layers keep a key and a value of every token they read: the KV cache, here {size:,} bytes a token. "
            "The others are recurrent, and the state they keep does not grow."
        )
    else:
        words = _(
            "Each layer keeps what it has worked out of every token it read, a key and a value: the KV cache, here "
            "{size:,} bytes a token."
        )
    return words.format(size=size)


def _value(params: object, name: str) -> str:
    value = getattr(params, "typical_p" if name == "typical" else name)
    return f" {value:g}"


def _odds(gap: float) -> float:
    return math.exp(min(gap, 700))
