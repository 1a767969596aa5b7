"""`logits`: one forward pass, and the whole list the next token is taken from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_chat.display.figures import percent
from tui_chat.display.text import literal, piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.tracing import Distribution, Tracer
from tui_chat.errors import PromptTooLongError, UsageError
from tui_chat.language import _, n_
from tui_chat.lessons import excerpt
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.report import Bar, Block, Column, Facts, Heading, Report, Span, Table, Tone, Words
from tui_chat.lessons.scene import warning
from tui_chat.lessons.watch import Watch

MAX_SHOWN = 1000
"""Most candidates that may be asked for."""

_END_CHARACTERS = 24
"""Of a prompt, shown to say what was read."""


def logits(
    engine: Engine,
    watch: Watch,
    ids: Sequence[int],
    *,
    n: int = 5,
    dropped: int = 0,
    used: excerpt.Excerpt | None = None,
) -> Report:
    """The distribution after `ids`.

    Args:
        engine: Its cache stays as it is.
        watch: Stops it.
        ids: The prompt.
        n: How many of the best tokens to show.
        dropped: Messages that have no room in the prompt.
        used: The part of the text that `ids` are, where they are not all of it.

    Raises:
        UsageError: There is no token, or `n` is out of range.
        PromptTooLongError: The prompt does not fit into the context.
    """
    if not ids:
        raise UsageError(_("there is no prompt: give some text to continue"))
    if not 1 <= n <= MAX_SHOWN:
        raise UsageError(
            _("the number of tokens to show must be from 1 to {most}, not {n}").format(most=MAX_SHOWN, n=n)
        )
    if len(ids) >= engine.context.n_ctx:
        raise PromptTooLongError(len(ids), engine.context.n_ctx)
    with engine.aside(len(ids) + 1) as aside:
        values = aside.logits(ids, watch.cancel)
    found = Tracer(engine.info.n_vocab, n).measure(values, position=len(ids))
    top = [(token, token_text(engine.vocab.piece(token)), logit) for token, logit in found.top]
    prompt = token_text(b"".join(engine.vocab.piece(token) for token in ids))
    return Report(
        title=_("logits"),
        blocks=[*warning(dropped), *excerpt.warning(used), *_blocks(engine, len(ids), prompt, found)],
        document={
            "model": engine.info.name,
            "prompt": prompt,
            "prompt_tokens": len(ids),
            "prompt_ids": list(ids),
            "dropped": dropped,
            "excerpt": excerpt.document(used),
            "vocab_size": engine.info.n_vocab,
            "top": [
                {"rank": rank, "id": token, "text": text, "logit": logit, "p": math.exp(logit - found.logsumexp)}
                for rank, (token, text, logit) in enumerate(top, start=1)
            ],
            "entropy": found.entropy,
            "logsumexp": found.logsumexp,
            "greedy": {"id": top[0][0], "text": top[0][1]},
        },
    )


def _blocks(engine: Engine, n_prompt: int, text: str, found: Distribution) -> list[Block]:
    rows = []
    for rank, (token, logit) in enumerate(found.top, start=1):
        p = math.exp(logit - found.logsumexp)
        shown_as = Span(piece_label(engine.vocab.piece(token)), Tone.STRONG if rank == 1 else Tone.PLAIN)
        rows.append((str(rank), shown_as, percent(p), Bar(p), f"{logit:.3f}", str(token)))
    shown = sum(math.exp(logit - found.logsumexp) for _token, logit in found.top)
    best, best_logit = found.top[0]
    label = piece_label(engine.vocab.piece(best))
    prompt = n_("after {n} token of prompt", "after {n} tokens of prompt", n_prompt).format(n=f"{n_prompt:,}")
    return [
        Words(
            _("One pass through the model, {prompt}, gives a logit for each of the {vocab:,} tokens it knows.").format(
                prompt=prompt, vocab=engine.info.n_vocab
            )
        ),
        Words(
            _("The prompt, as it was read, ends in `{end}`; below are its {n:,} likeliest next tokens.").format(
                end=literal(_end(text)), n=len(found.top)
            ),
            Tone.DIM,
        ),
        Table(
            (
                Column("#", "right"),
                Column(_("token"), grows=True),
                Column("p", "right"),
                Column(),
                Column(_("logit"), "right"),
                Column("id", "right"),
            ),
            tuple(rows),
        ),
        Words(
            _("These hold {shown} of the probability; the rest is spread over {others:,} tokens.").format(
                shown=percent(min(1.0, shown)), others=engine.info.n_vocab - len(found.top)
            ),
            Tone.DIM,
        ),
        Heading(_("From logits to probabilities: softmax")),
        Words(
            _(
                "Each probability is e to the logit, divided by the sum of that over all tokens. The logarithm of the "
                "sum is the logsumexp, so a subtraction does it:"
            )
        ),
        Words(
            f"`p({literal(label)}) = e^({best_logit:.3f} − {found.logsumexp:.3f}) "
            f"= e^({best_logit - found.logsumexp:.3f}) = {math.exp(best_logit - found.logsumexp):.4f}`"
        ),
        Facts(
            (
                (_("entropy"), _entropy_words(found.entropy)),
                (_("greedy choice"), _("{token}, the first of the list: temperature 0 takes it").format(token=label)),
            )
        ),
    ]


def _end(text: str) -> str:
    """The last characters of a text as one line, with its spaces to be seen."""
    label = piece_label(text[-_END_CHARACTERS:].encode())
    return label if len(text) <= _END_CHARACTERS else "…" + label


def _entropy_words(entropy: float) -> str:
    return _("{nats:.3f} nats = {bits:.2f} bits: as unsure as between {n:,.1f} equally likely tokens").format(
        nats=entropy, bits=entropy / math.log(2), n=math.exp(entropy)
    )
