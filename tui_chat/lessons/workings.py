"""The figures of a token, of its answer and of the model, each worked out with the numbers it came from."""

from __future__ import annotations

import math

from tui_chat.display import figures
from tui_chat.language import _, n_
from tui_chat.lessons.inspected import Inspected, NotKnownError
from tui_chat.lessons.report import Cell, Column, Table
from tui_chat.lessons.working import Working, braced, nats, num

_TERMS = 4
"""Tokens whose terms of a sum over the vocabulary are written out."""

_LATER_S = 0.0005
"""A token this long after the first one is not the first."""

# The token's place in the distribution


def probability(seen: Inspected) -> Working:
    """e^(logit − logsumexp)."""
    trace = seen.trace
    power = f"e^({nats(trace.logit)} − {braced(nats(trace.logsumexp))}) = e^({nats(-trace.surprisal)}) = {num(trace.p)}"
    return Working(trace.p, figures.percent(trace.p), lines=(power,))


def rank(seen: Inspected) -> Working:
    """One more than there are tokens with a higher logit."""
    trace = seen.trace
    above = [pair for pair in trace.top if pair[1] > trace.logit][:_TERMS]
    rows = [(str(place), seen.label(token), nats(logit)) for place, (token, logit) in enumerate(above, start=1)]
    rows.append((str(trace.rank), seen.label(trace.id), nats(trace.logit)))
    if len(rows) < trace.rank:
        more = trace.rank - len(rows)
        rows.insert(-1, ("…", n_("{n} more", "{n} more", more).format(n=f"{more:,}"), ""))
    columns = (Column("#", "right"), Column(_("token")), Column(_("logit"), "right"))
    text = f"{trace.rank:,}" if seen.n_vocab is None else _("{rank:,} of {n:,}").format(rank=trace.rank, n=seen.n_vocab)
    return Working(
        trace.rank, text, lines=(f"1 + {trace.rank - 1:,} = {trace.rank:,}",), table=Table(columns, (*rows,))
    )


def logit(seen: Inspected) -> Working:
    """logsumexp + ln p: the other way round than a probability."""
    trace = seen.trace
    ln_p = braced(nats(-trace.surprisal))
    notes = []
    if seen.n_vocab is not None:
        notes.append(
            _(
                "In this model h and w(t) have {n:,} numbers each. They are not kept, so the sum itself cannot be "
                "written out; from the probability one gets back to the same logit."
            ).format(n=seen.writer.n_embd)
        )
    return Working(
        trace.logit,
        nats(trace.logit),
        lines=(
            f"ln {num(trace.p)} = {nats(-trace.surprisal)}",
            f"{nats(trace.logsumexp)} + {ln_p} = {nats(trace.logit)}",
        ),
        notes=tuple(notes),
    )


def logsumexp(seen: Inspected) -> Working:
    """best + ln of the sum of e^(logit − best), so that no power overflows."""
    trace = seen.trace
    best = trace.top[0][1]
    total = math.exp(trace.logsumexp - best)
    terms = [math.exp(logit - best) for _token, logit in trace.top[:_TERMS]]
    rest = max(0.0, total - math.fsum(terms))
    total = math.fsum(terms) + rest
    columns = (Column(_("token")), Column(_("logit"), "right"), Column(_("e^(logit − best)"), "right"))
    rows: list[tuple[Cell, ...]] = [
        (seen.label(token), nats(logit), num(term)) for (token, logit), term in zip(trace.top, terms, strict=False)
    ]
    rows.append((_others(seen, len(terms)), "", num(rest)))
    return Working(
        trace.logsumexp,
        nats(trace.logsumexp),
        lines=(
            f"{' + '.join(map(num, terms))} + {num(rest)} = {num(total)}",
            f"{nats(best)} + ln {num(total)} = {nats(trace.logsumexp)}",
        ),
        table=Table(columns, tuple(rows)),
    )


def entropy(seen: Inspected) -> Working:
    """−Σ p ln p: the surprisal to be expected."""
    trace = seen.trace
    best = [(token, math.exp(logit - trace.logsumexp), trace.logsumexp - logit) for token, logit in trace.top[:_TERMS]]
    terms = [p * surprisal for _token, p, surprisal in best]
    rest = max(0.0, trace.entropy - math.fsum(terms))
    total = nats(trace.entropy)
    columns = (Column(_("token")), Column("p", "right"), Column("−ln p", "right"), Column("−p ln p", "right"))
    rows = [
        (seen.label(token), num(p), nats(surprisal), nats(term))
        for (token, p, surprisal), term in zip(best, terms, strict=True)
    ]
    rows.append((_others(seen, len(best)), "", "", nats(rest)))
    lines = [
        f"{' + '.join(map(nats, terms))} + {nats(rest)} = {total}",
        f"{total} ÷ ln 2 = {nats(trace.entropy / math.log(2))}",
        f"e^{total} = {num(math.exp(trace.entropy))}",
    ]
    notes = [
        _("That is {bits:.2f} bits: as unsure as between {n:,.1f} equally likely tokens.").format(
            bits=trace.entropy / math.log(2), n=math.exp(trace.entropy)
        )
    ]
    if seen.n_vocab is not None and seen.n_vocab > 1:
        most = math.log(seen.n_vocab)
        lines.append(f"{total} ÷ ln {seen.n_vocab:,} = {nats(trace.entropy / most)}")
        notes.append(
            _("It is {share} of the most there could be, {most:.2f} nats with all tokens equally likely.").format(
                share=figures.percent(trace.entropy / most), most=most
            )
        )
    return Working(
        trace.entropy, _nats(trace.entropy), "nats", tuple(lines), Table(columns, tuple(rows)), (" ".join(notes),)
    )


def surprisal(seen: Inspected) -> Working:
    """logsumexp − logit = −ln p."""
    trace = seen.trace
    value = nats(trace.surprisal)
    lines = (
        f"{nats(trace.logsumexp)} − {braced(nats(trace.logit))} = {value}",
        f"{value} ÷ ln 2 = {nats(trace.surprisal / math.log(2))}",
    )
    if trace.surprisal > trace.entropy:
        note = _("More than the entropy, {entropy:.2f} nats, had led to expect: a surprise.")
    else:
        note = _("No more than the entropy, {entropy:.2f} nats, had led to expect.")
    return Working(trace.surprisal, _nats(trace.surprisal), "nats", lines, notes=(note.format(entropy=trace.entropy),))


# The answer


def perplexity(seen: Inspected) -> Working:
    """e to the mean surprisal of the answer's tokens."""
    if not seen.tokens:
        raise NotKnownError(_("nothing was answered yet: send a message, then ask again"))
    surprisals = [token.trace.surprisal for token in seen.tokens if token.trace is not None]
    if not surprisals:
        raise NotKnownError(_("no figures were kept of these tokens"))
    n, total = len(surprisals), math.fsum(surprisals)
    notes = []
    if left_out := len(seen.tokens) - n:
        notes.append(
            n_(
                "{n} token is left out: no figures of it are at hand.",
                "{n} tokens are left out: no figures of them are at hand.",
                left_out,
            ).format(n=f"{left_out:,}")
        )
    value = figures.perplexity(total / n)
    return Working(
        value,
        figures.perplexity_text(value),
        lines=(f"{nats(total)} ÷ {n:,} = {nats(total / n)}", f"e^{nats(total / n)} = {num(value)}"),
        notes=tuple(notes),
    )


def speed(seen: Inspected) -> Working:
    """Tokens after the first, divided by the time from the first to the end."""
    if seen.usage is None or seen.timings is None:
        raise _no_times(seen)
    n, decode_s = seen.usage.generated, seen.timings.decode_s
    if n < 2 or decode_s <= 0:
        raise NotKnownError(_("the first token belongs to the prefill, and this answer has no second one"))
    value = (n - 1) / decode_s
    line = f"({n:,} − 1) ÷ {num(decode_s)} = {num(value)}"
    notes = (_("One token took {ms:.2f} ms.").format(ms=1000 / value),)
    return Working(value, figures.rate(value), "tokens/s", (line,), notes=notes)


def prefill(seen: Inspected) -> Working:
    """Prompt tokens that were not in the cache yet, divided by the time they took."""
    if seen.usage is None or seen.timings is None:
        raise _no_times(seen)
    prompt, reused, prefill_s = seen.usage.prompt, seen.usage.reused, seen.timings.prefill_s
    if prefill_s <= 0 or not seen.usage.generated:
        raise NotKnownError(_("the prompt was not read to its end"))
    value = (prompt - reused) / prefill_s
    line = f"({prompt:,} − {reused:,}) ÷ {num(prefill_s)} = {num(value)}"
    return Working(value, figures.rate(value), "tokens/s", (line,))


def first_token(seen: Inspected) -> Working:
    """The time the prompt took, and what the first choice added to it."""
    if seen.timings is None or seen.usage is None:
        raise _no_times(seen)
    if not seen.usage.generated:
        raise NotKnownError(_("no token came"))
    ttft, prefill_s = seen.timings.ttft_s, seen.timings.prefill_s
    lines = [f"{num(prefill_s)} + {num(ttft - prefill_s)} = {num(ttft)}"]
    notes = []
    trace = seen.token.trace if seen.token is not None else None
    if trace is not None and trace.seconds - ttft >= _LATER_S:
        lines.append(f"{num(trace.seconds)} − {num(ttft)} = {num(trace.seconds - ttft)}")
        notes.append(
            _("The selected token came {at} after the request, {later} after the first one.").format(
                at=figures.span(trace.seconds), later=figures.span(trace.seconds - ttft)
            )
        )
    return Working(ttft, figures.span(ttft), "s", tuple(lines), notes=tuple(notes))


def context(seen: Inspected) -> Working:
    """Tokens in the context, divided by the places it has."""
    used, n_ctx = seen.n_used, seen.writer.n_ctx
    value = used / n_ctx
    lines = [f"{used:,} ÷ {n_ctx:,} = {num(value)}"]
    if seen.usage is not None:
        lines.insert(0, f"{seen.usage.prompt:,} + {seen.usage.generated:,} = {used:,}")
    text = _("{used:,} of {n_ctx:,} tokens, {share}").format(used=used, n_ctx=n_ctx, share=figures.percent(value))
    return Working(value, text, lines=tuple(lines))


# The model


def kv_bytes(seen: Inspected) -> Working:
    """Layers × (numbers of a key × bytes + numbers of a value × bytes), for each token."""
    memory, model = seen.memory, seen.model
    if memory is None or model is None:
        raise NotKnownError(_("it is read from the model's load log, which is at hand when no answer is under way"))
    a_token = memory.bytes_per_token
    if a_token is None:
        raise NotKnownError(
            _("this model does not keep one key and one value of each token; /memory shows what it keeps")
        )
    lines = [f"{memory.formula} = {a_token:,}"]
    notes = []
    if all(cache.cells >= model.n_ctx for cache in memory.caches):
        lines.append(f"{a_token:,} × {model.n_ctx:,} = {a_token * model.n_ctx:,}")
        notes.append(
            _("All {n_ctx:,} places of the context take {size}.").format(
                n_ctx=model.n_ctx, size=figures.size(a_token * model.n_ctx)
            )
        )
    return Working(a_token, _("{n:,} bytes a token").format(n=a_token), "bytes", tuple(lines), notes=tuple(notes))


def _no_times(seen: Inspected) -> NotKnownError:
    if not seen.tokens and seen.usage is None:
        return NotKnownError(_("nothing was answered yet: send a message, then ask again"))
    return NotKnownError(_("the answer has not ended, or its times were not kept"))


def _nats(value: float) -> str:
    return _("{n:.3f} nats").format(n=value)


def _others(seen: Inspected, shown: int) -> str:
    """Names the tokens that are not written out."""
    if seen.n_vocab is None:
        return _("all others")
    n = seen.n_vocab - shown
    return n_("{n} other", "{n} others", n).format(n=f"{n:,}")
