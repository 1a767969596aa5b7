"""The stages of the sampler chain, each worked out on one token with the numbers that its trace kept.

A trace keeps how many tokens each stage left, the best raw logits, and the best probabilities after the chain. Where a
stage moved single logits before another one cut (penalties, DRY, biases), the cut cannot be retraced from these: then
the counts are given and nothing is reckoned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from tui_chat.display import figures
from tui_chat.engine.types import TokenTrace
from tui_chat.language import _, n_
from tui_chat.lessons.inspected import Inspected, NotKnownError, Stage, disagreement
from tui_chat.lessons.report import Cell, Column, Table
from tui_chat.lessons.working import Working, beside, braced, exact, nats, num, ordered

_ROUNDING = 1e-5
"""Single precision: a share nearer to a bound than this may lie on either side of it for llama.cpp."""

_TINY = 1e-300
"""A probability below cannot be divided by."""

_ROWS = 8
"""Lines of a table that show the tokens around a cut, or around the draw."""

# Penalties


def repeat_penalty(seen: Inspected) -> Working:
    """Divides a positive logit, multiplies another."""

    def line(case: _Penalties) -> str:
        sign = "÷" if case.logit > 0 else "×"
        return f"{nats(case.logit)} {sign} {exact(case.repeat)} = {nats(case.after_repeat)}"

    return _penalty(seen, "repeat_penalty", 1, line)


def frequency_penalty(seen: Inspected) -> Working:
    """Subtracted once for every time the token occurred."""

    def line(case: _Penalties) -> str:
        times = f"{case.n:,} × {braced(exact(case.frequency))}"
        return f"{nats(case.after_repeat)} − {times} = {nats(case.after_frequency)}"

    return _penalty(seen, "frequency_penalty", 0, line, "nats")


def presence_penalty(seen: Inspected) -> Working:
    """Subtracted once if the token occurred at all."""

    def line(case: _Penalties) -> str:
        return f"{nats(case.after_frequency)} − {braced(exact(case.presence))} = {nats(case.after_presence)}"

    return _penalty(seen, "presence_penalty", 0, line, "nats")


def _penalty(seen: Inspected, name: str, neutral: float, line: Callable[[_Penalties], str], unit: str = "") -> Working:
    value, last_n = seen.setting(name), seen.setting("repeat_last_n")
    others = (seen.setting("repeat_penalty"), seen.setting("frequency_penalty"), seen.setting("presence_penalty"))
    on = last_n != 0 and others != (1, 0, 0) and "penalties" in seen.order
    if on != (seen.stage("penalties") is not None):
        raise disagreement()
    if not on or value == neutral:
        return Working(value, _off(), unit, notes=(_("It is off: it changes no logit."),))
    try:
        case = _penalties(seen)
    except NotKnownError as unknown:
        return Working(value, exact(value), unit, notes=(str(unknown),))
    return Working(value, exact(value), unit, (line(case),) if case.n else (), notes=(case.where,))


@dataclass(frozen=True, slots=True)
class _Penalties:
    """The three penalties on one token (`llama_sampler_penalties_apply`)."""

    logit: float
    """As it came to them."""
    n: int
    """How often the token occurred in the window."""
    repeat: float
    frequency: float
    presence: float
    where: str
    """In words."""

    @property
    def after_repeat(self) -> float:
        return self.logit / self.repeat if self.logit > 0 else self.logit * self.repeat

    @property
    def after_frequency(self) -> float:
        return self.after_repeat - self.n * self.frequency

    @property
    def after_presence(self) -> float:
        return self.after_frequency - self.presence


def _penalties(seen: Inspected) -> _Penalties:
    """The penalties as they met the chosen token. Raises `NotKnownError` where what stood before it is not known."""
    before, last_n = seen.history, int(seen.setting("repeat_last_n"))
    window = before[-last_n:] if last_n > 0 else before
    n = window.count(seen.trace.id)
    where = n_("the last token", "the last {n} tokens", len(window)).format(n=f"{len(window):,}")
    if n:
        words = n_("The token stands {n} time among {where}.", "The token stands {n} times among {where}.", n)
    else:
        words = _("The token does not stand among {where}, so its logit stays as it is.")
    repeat, frequency, presence = (seen.setting(f"{name}_penalty") for name in ("repeat", "frequency", "presence"))
    logit = _logit_before(seen, "penalties")
    return _Penalties(logit, n, repeat, frequency, presence, words.format(n=n, where=where))


def _logit_before(seen: Inspected, name: str) -> float:
    """The logit of the chosen token as it came to a stage."""
    logit = seen.trace.logit
    for stage in seen.trace.stages:
        if stage.name == name:
            break
        if stage.name == "dry":
            raise NotKnownError(_("DRY changed the logits before, and by how much was not kept"))
        if stage.name == "logit_bias":
            logit += _bias(seen)
        elif stage.name == "penalties":
            case = _penalties(seen)
            logit = case.after_presence if case.n else logit
        elif stage.name == "temperature" and (temperature := seen.setting("temperature")) > 0:
            logit /= temperature
    return logit


def _bias(seen: Inspected) -> float:
    """What was added to the logit of the chosen token."""
    pairs = seen.settings.get("logit_bias", ())
    if not isinstance(pairs, list | tuple) or any(
        isinstance(token, str) and value is not None and math.isfinite(float(value)) for token, value in pairs
    ):
        raise NotKnownError(_("the setting {name} was not kept with this answer").format(name="logit_bias"))
    added = math.fsum(-math.inf if value is None else float(value) for token, value in pairs if token == seen.trace.id)
    return added if math.isfinite(added) else 0.0  # a ban that would have left no candidate: the best one stays


# Temperature


def temperature(seen: Inspected) -> Working:
    """Divides every logit, and so raises the odds between two tokens to the power 1 ÷ T."""
    trace, value, stage = seen.trace, seen.setting("temperature"), seen.stage("temperature")
    if stage is None:
        return Working(None, _off(), notes=(_("It is off: the logits stay as they are, which is the same as 1."),))
    if value == 0:
        if trace.u is not None:
            raise disagreement()
        return Working(
            0.0, _("0, greedy"), notes=(_("At 0 nothing is divided and nothing is drawn: the best is taken."),)
        )
    lines, notes = [], []
    try:
        logit = _logit_before(seen, "temperature")
        lines.append(f"{nats(logit)} ÷ {exact(value)} = {nats(logit / value)}")
    except NotKnownError as unknown:
        notes.append(str(unknown))
    pair = None if _moved(trace) else _pair(trace)
    if pair is not None:
        (first, l_1, p_1), (second, l_2, p_2) = pair
        slack = 1e-3 + 1e-6 * max(abs(l_1), abs(l_2)) / value
        if abs(math.log(p_1 / p_2) - (l_1 - l_2) / value) > slack:
            raise disagreement()
        difference = f"{nats(l_1)} − {braced(nats(l_2))}"
        lines += [
            f"e^({difference}) = {num(math.exp(l_1 - l_2))}",
            f"e^(({difference}) ÷ {exact(value)}) = {num(math.exp((l_1 - l_2) / value))}",
            f"{num(p_1)} ÷ {num(p_2)} = {num(p_1 / p_2)}",
        ]
        notes.append(
            _(
                "“{first}” was {before} times as likely as “{second}” in the model's own distribution, and {after} "
                "times as likely in the one that was drawn from."
            ).format(
                first=seen.label(first),
                second=seen.label(second),
                before=_times(math.exp(l_1 - l_2)),
                after=_times(p_1 / p_2),
            )
        )
    return Working(value, exact(value), lines=tuple(lines), notes=tuple(notes))


def _times(ratio: float) -> str:
    return f"{ratio:.3g}"


_Known = tuple[int, float, float]
"""A token, its raw logit, and its probability after the chain."""


def _pair(trace: TokenTrace) -> tuple[_Known, _Known] | None:
    """The best token after the chain, and the chosen one or, where it is the best, the next; None without a second."""
    raw = dict(trace.top)
    known = [(token, raw[token], p) for token, p in trace.final if token in raw and p > _TINY]
    if len(known) < 2:
        return None
    return known[0], next((entry for entry in known[1:] if entry[0] == trace.id), known[1])


def _moved(trace: TokenTrace) -> bool:
    """Whether a stage moved single logits, so that those of the trace are not the ones the draw was made from."""
    return any(stage.name in ("logit_bias", "penalties", "dry") for stage in trace.stages)


# Cuts


def top_k(seen: Inspected) -> Working:
    """Keeps the k best."""
    k, stage = int(seen.setting("top_k")), seen.stage("top_k")
    if stage is None:
        return _cuts_nothing()
    lines: tuple[str, ...] = ()
    if stage.n_before is not None:
        if stage.n_after != min(k, stage.n_before):
            raise disagreement()
        lines = (f"min({k:,}, {stage.n_before:,}) = {stage.n_after:,}",)
    return _cut(stage, lines)


def top_p(seen: Inspected) -> Working:
    """Keeps the fewest of the best whose probabilities reach p."""
    trace, bound, stage = seen.trace, seen.setting("top_p"), seen.stage("top_p")
    if stage is None:
        return _cuts_nothing()
    known = _known(seen, stage)
    n = stage.n_after
    if isinstance(known, str) or n > len(known.weights):
        return _cut(stage, notes=(known if isinstance(known, str) else _too_deep(trace),))
    before, after = math.fsum(known.weights[: n - 1]), math.fsum(known.weights[:n])
    if before / known.high >= bound + _ROUNDING or after / known.low < bound - _ROUNDING:
        raise disagreement()
    if before / known.low >= bound or after / known.high < bound:
        return _cut(stage, notes=(_too_coarse(trace) if known.high > known.low else _by_rounding(),))
    lines = [f"{num(after)} ÷ {num(known.high)} = {beside(after / known.high, bound)} ≥ {exact(bound)}"]
    if n > 1:
        lines.insert(0, f"{num(before)} ÷ {num(known.low)} = {beside(before / known.low, bound)} < {exact(bound)}")
    return _cut(stage, tuple(lines), _cut_table(seen, known, n), (_running_words(known),))


def min_p(seen: Inspected) -> Working:
    """Keeps what has at least this share of the best token's probability."""
    trace, bound, stage = seen.trace, seen.setting("min_p"), seen.stage("min_p")
    if stage is None:
        return _cuts_nothing()
    known = _known(seen, stage)
    if isinstance(known, str):
        return _cut(stage, notes=(known,))
    weights, n = known.weights, stage.n_after
    least = bound * weights[0]
    last = weights[min(n, len(weights)) - 1]
    first_out = weights[n] if n < len(weights) else None
    if last < least * (1 - _ROUNDING) or (first_out is not None and first_out > least * (1 + _ROUNDING)):
        raise disagreement()
    lines = [f"{exact(bound)} × {num(weights[0])} = {num(least)}"]
    notes = []
    if last < least or (first_out is not None and first_out >= least):
        notes.append(_by_rounding())
    else:
        lines.append("{1} ≥ {0}".format(*ordered(least, last)) if last > least else f"{num(last)} ≥ {num(least)}")
        if first_out is not None:
            lines.append("{} < {}".format(*ordered(first_out, least)))
    if n > len(weights):
        notes.append(_too_deep(trace))
    return _cut(stage, tuple(lines), _cut_table(seen, known, n, running=False), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Running:
    """The tokens that came to a cut, as far as the trace has them, best first."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    """Raw probabilities; where temperature came before, e^((logit − best) ÷ T)."""
    low: float
    """What the weights of all that came to the cut add up to, at least."""
    high: float
    """The same, at most."""
    raw: bool
    """Whether the weights are the raw probabilities."""


def _known(seen: Inspected, stage: Stage) -> _Running | str:
    """What came to a cut, or why that is not known."""
    trace, t = seen.trace, stage.temperature
    if stage.spoiled_by is not None:
        return _(
            "{stage} acted before it, and the trace keeps neither the logits nor the tokens that left; so only the "
            "counts are known."
        ).format(stage=figures.stage_name(stage.spoiled_by))
    top = trace.top[: stage.n_before]
    zero = trace.logsumexp if t == 1 else top[0][1]
    weights = tuple(math.exp((logit - zero) / t) for _token, logit in top)
    low = high = math.fsum(weights)
    if t == 1 and stage.n_before in (None, seen.n_vocab):
        low = high = 1.0  # shares of the whole vocabulary
    elif stage.n_before is not None and stage.n_before > len(top):
        high = low + (stage.n_before - len(top)) * weights[-1]
        high = max(low, min(high, 1.0)) if t == 1 else high
    return _Running(tuple(token for token, _logit in top), weights, low, high, raw=t == 1)


def _cut_table(seen: Inspected, known: _Running, n: int, *, running: bool = True) -> Table:
    """The tokens around a cut."""
    shown = min(n + 2, len(known.weights))
    places = range(shown) if shown <= _ROWS else (*range(3), *range(shown - _ROWS + 4, shown))
    totals = list(accumulate(known.weights))
    rows: list[tuple[Cell, ...]] = []
    for place in places:
        if rows and place and place - 1 not in places:
            rows.append(("…", *[""] * (4 if running else 3)))
        row = [str(place + 1), seen.label(known.ids[place]), num(known.weights[place])]
        if running:
            row.append(num(totals[place]))
        rows.append((*row, _("stays") if place < n else _("out")))
    columns = [Column("#", "right"), Column(_("token")), Column("p" if known.raw else _("weight"), "right")]
    if running:
        columns.append(Column(_("sum"), "right"))
    return Table((*columns, Column()), tuple(rows))


def _running_words(known: _Running) -> str:
    if num(known.low) == num(known.high):
        return _("All that came to the cut hold {sum} together.").format(sum=num(known.low))
    return _(
        "The trace keeps the best {n} of them. All that came to the cut hold between {low} and {high} together, and "
        "either way the cut falls here."
    ).format(n=len(known.weights), low=num(known.low), high=num(known.high))


def _cut(stage: Stage, lines: tuple[str, ...] = (), table: Table | None = None, notes: tuple[str, ...] = ()) -> Working:
    if stage.n_before is None:
        text = n_("{n} token left", "{n} tokens left", stage.n_after).format(n=f"{stage.n_after:,}")
    else:
        text = _("{n} of {before} tokens left").format(n=f"{stage.n_after:,}", before=f"{stage.n_before:,}")
    return Working(stage.n_after, text, "tokens", lines, table, notes)


def _cuts_nothing() -> Working:
    return Working(None, _off(), notes=(_("It is off: no token was removed."),))


def _off() -> str:
    return _("off")


def _by_rounding() -> str:
    return _("A token lies so near the bound that the rounding of llama.cpp's single precision decided.")


def _too_deep(trace: TokenTrace) -> str:
    return _("It cuts below the best {n}, which are all that the trace keeps.").format(n=len(trace.top))


def _too_coarse(trace: TokenTrace) -> str:
    return _(
        "The trace keeps the best {n} tokens; those below hold too much of the probability to say by which numbers the "
        "cut fell here."
    ).format(n=len(trace.top))


# What was drawn from, and the draw


def after_chain(seen: Inspected) -> Working:
    """The probability the token was drawn with: what is left, made to sum to 1 again."""
    trace = seen.trace
    n, raw = trace.stages[-1].survivors if trace.stages else seen.n_vocab, dict(trace.top)
    p = dict(trace.final).get(trace.id)
    if p is None:
        raise NotKnownError(
            _("the trace keeps the best {n} after the chain, and this token is not among them").format(
                n=len(trace.final)
            )
        )
    if trace.u is None:
        return Working(p, figures.percent(p), notes=(_("Greedy: the best token is taken, whatever its share."),))
    if _moved(trace) or n != len(trace.final) or any(token not in raw for token, _p in trace.final):
        note = _("The trace does not keep the logits of all tokens that were left, so the sum is not written out.")
        return Working(p, figures.percent(p), notes=(note,))
    t = seen.setting("temperature") if seen.stage("temperature") is not None else 1.0
    powers = [math.exp((raw[token] - trace.logsumexp) / t) for token, _p in trace.final]
    own, total = math.exp(-trace.surprisal / t), math.fsum(powers)
    if abs(own / total - p) > 1e-3:
        raise disagreement()
    power = num(trace.p) if t == 1 else f"{num(trace.p)}^(1 ÷ {exact(t)})"
    lines = [] if t == 1 else [f"{power} = {num(own)}"]
    lines.append(f"{num(own)} ÷ {num(total)} = {num(p)}")
    note = n_(
        "{total} is what the {n} token that was left has together, reckoned the same way.",
        "{total} is what the {n} tokens that were left have together, reckoned the same way.",
        len(powers),
    )
    return Working(p, figures.percent(p), lines=tuple(lines), notes=(note.format(total=num(total), n=len(powers)),))


def draw(seen: Inspected) -> Working:
    """A number from seed and position, and the token whose part of the sum it falls into."""
    from tui_chat.engine.sampling import uniform

    trace = seen.trace
    if trace.u is None:
        if seen.setting("temperature") != 0:
            raise disagreement()
        return Working(
            None, _("none, greedy"), notes=(_("At temperature 0 the best token is taken and nothing drawn."),)
        )
    seed = int(seen.setting("seed"))
    if uniform(seed, trace.position) != trace.u:
        raise disagreement()
    u = f"{trace.u:.6f}"
    lines = [f"Philox({seed}, {trace.position}) = {u}"]
    ids = [token for token, _p in trace.final]
    notes, table = [], None
    if trace.id in ids:
        place = ids.index(trace.id)
        sums = list(accumulate((p for _token, p in trace.final), initial=0.0))
        lines.append(f"{beside(sums[place], trace.u)} ≤ {u} < {beside(sums[place + 1], trace.u)}")
        rows: list[tuple[Cell, ...]] = [
            (seen.label(token), num(p), num(sums[index + 1]), "◀" if index == place else "")
            for index, (token, p) in enumerate(trace.final)
            if index < _ROWS or index == place
        ]
        table = Table((Column(_("token")), Column("p", "right"), Column(_("sum"), "right"), Column()), tuple(rows))
    else:
        notes.append(
            _(
                "The token lies below the best {n}, which are all the trace keeps; so the sums around it are not known."
            ).format(n=len(ids))
        )
    return Working(trace.u, f"{trace.u:.4f}", lines=tuple(lines), table=table, notes=tuple(notes))
