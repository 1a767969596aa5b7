"""`perplexity`: how well the model expected a text, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from rich.cells import cell_len

from tui_chat.display.cells import fit
from tui_chat.display.figures import devices, percent, perplexity_text, rate, span
from tui_chat.display.text import one_line, piece_label
from tui_chat.engine.engine import Engine
from tui_chat.errors import UsageError
from tui_chat.language import _, n_
from tui_chat.lessons import heat
from tui_chat.lessons.counting import WHOLE_CHARACTERS
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.reading import blocks
from tui_chat.lessons.report import (
    Block,
    Cell,
    Column,
    Facts,
    Flow,
    Heading,
    Report,
    Span,
    Table,
    Tone,
    Trend,
    Words,
)
from tui_chat.lessons.surprisal import Reading, read
from tui_chat.lessons.watch import Watch

DEFAULT_WINDOW = 512
"""Tokens of a window, where the context holds so many: that of llama.cpp's own `perplexity`."""
_ALL_SHOWN = 400
"""Tokens of a text that is shown whole; of a longer one, the two parts below."""
_BEGINNING, _TELLING = 200, 120
_LISTED = 6
_HIGHEST = 1e3
"""Nats that count where means are compared: a token the model rules out has infinitely many."""
_CONTEXT_CELLS, _LABEL_CELLS = 20, 14


def whole_text(file: BinaryIO, name: str) -> str:
    """The text of a file.

    Args:
        file: At its beginning.
        name: What to call it in an error.

    Raises:
        UsageError: It is empty, no UTF-8 text, or too long to be tokenized in one piece.
    """
    parts, n = [], 0
    for block in blocks(file, name):
        parts.append(block)
        n += len(block)
        if n > WHOLE_CHARACTERS:
            raise UsageError(
                _("{name} has more than {most:,} characters: give a part of it").format(
                    name=name, most=WHOLE_CHARACTERS
                )
            )
    if not n:
        raise UsageError(_("{name} is empty: give some text").format(name=name))
    return "".join(parts)


def perplexity(engine: Engine, watch: Watch, text: str, *, n_ctx: int | None = None) -> Report:
    """Perplexity over all positions of a text, and what it is made of.

    Args:
        engine: Its cache stays as it is.
        watch: Told how far it is; stops it.
        text: Plain text: what looks like a control token is read as the characters it is written with.
        n_ctx: Tokens of a window; `DEFAULT_WINDOW`, or as many as the context holds, by default.

    Raises:
        UsageError: The text has nothing to score, or `n_ctx` is out of range.
        EngineError: It was stopped, or llama.cpp failed.
    """
    most = engine.context.n_ctx
    if n_ctx is not None and not 2 <= n_ctx <= most:
        raise UsageError(
            _(
                "a window must have from 2 to {most:,} tokens, which the model's context was loaded with, not {n:,}: "
                "--n-ctx loads it with another"
            ).format(most=most, n=n_ctx)
        )
    reading = read(engine, watch, engine.vocab.tokenize(text), n_ctx or min(most, DEFAULT_WINDOW))
    return Report(_("perplexity"), _blocks(engine, reading), _document(engine, reading))


def _document(engine: Engine, reading: Reading) -> dict[str, object]:
    scored, likely = reading.scored, reading.most_expected

    def entry(at: int) -> dict[str, object]:
        token, best = reading.ids[at], int(reading.best[at])
        return {
            "position": at,
            "id": token,
            "text": token_text(engine.vocab.piece(token)),
            "surprisal": float(reading.surprisal[at]),
            "p": math.exp(-reading.surprisal[at]),
            "rank": int(reading.rank[at]),
            "entropy": float(reading.entropy[at]),
            "best": {"id": best, "text": token_text(engine.vocab.piece(best))},
        }

    return {
        "model": engine.info.name,
        "perplexity": reading.perplexity,
        "nll": reading.nll,
        "n_tokens": len(scored),
        "tokens_per_s": len(scored) / reading.seconds,
        "seconds": reading.seconds,
        "n_text_tokens": len(reading.ids),
        "n_ctx": reading.window,
        "windows": reading.n_windows,
        "bos": reading.has_bos,
        "vocab_size": engine.info.n_vocab,
        "bits_per_byte": _bits_per_byte(engine, reading),
        "entropy": float(reading.entropy[scored].mean()),
        "first_choice": float(np.mean(reading.rank[scored] == 1)),
        "most_expected": [entry(at) for at in likely[:_LISTED]],
        "least_expected": [entry(at) for at in likely[::-1][:_LISTED]],
        "ids": list(reading.ids),
        "surprisals": [
            float(value) if rank else None for value, rank in zip(reading.surprisal, reading.rank, strict=True)
        ],
    }


def _bits_per_byte(engine: Engine, reading: Reading) -> float:
    """What the text would take if the model compressed it: comparable between vocabularies."""
    n_bytes = sum(len(engine.vocab.piece(reading.ids[at])) for at in reading.scored)
    return reading.nll * len(reading.scored) / math.log(2) / max(1, n_bytes)


def _blocks(engine: Engine, reading: Reading) -> list[Block]:
    n, nll, likely = len(reading.scored), reading.nll, reading.most_expected
    return [
        Words(
            _(
                "The model read the text and said at each place how probable every token was to come next. A token's "
                "surprisal is −ln p of the one that came; perplexity is e to the mean of that."
            )
        ),
        Words(f"`e^({nll * n:,.2f} / {n:,}) = e^{nll:.3f} = {perplexity_text(reading.perplexity)}`"),
        _facts(engine, reading),
        *_course(reading),
        *_map(engine, reading),
        Heading(_("What it expected least")),
        _table(engine, reading, likely[::-1][:_LISTED], instead=True),
        Heading(_("What it expected most")),
        _table(engine, reading, likely[:_LISTED], instead=False),
        Heading(_("How it was read")),
        Words(_how(reading)),
    ]


def _facts(engine: Engine, reading: Reading) -> Facts:
    scored, nll = reading.scored, reading.nll
    return Facts(
        (
            (_("perplexity"), _meaning(reading.perplexity, engine.info.n_vocab)),
            (
                _("surprisal"),
                _("{nats:.3f} nats = {bits:.3f} bits a token, {per_byte:.3f} bits a byte of text").format(
                    nats=nll, bits=nll / math.log(2), per_byte=_bits_per_byte(engine, reading)
                ),
            ),
            (
                _("entropy"),
                _("{nats:.3f} nats: the surprisal that the model itself expected").format(
                    nats=float(reading.entropy[scored].mean())
                ),
            ),
            (
                _("first choice"),
                _("{share} of the tokens were the one it found likeliest").format(
                    share=percent(float(np.mean(reading.rank[scored] == 1)))
                ),
            ),
            (
                _("speed"),
                _("{rate}, {seconds} on {devices}").format(
                    rate=rate(len(scored) / reading.seconds),
                    seconds=span(reading.seconds),
                    devices=devices(engine.info),
                ),
            ),
        )
    )


def _meaning(value: float, n_vocab: int) -> str:
    if value >= n_vocab + 1:  # a uniform model has n_vocab but for rounding
        words = _("{perplexity}: worse than guessing among all {vocab:,} tokens; the model was sure of something else")
    else:
        words = _("{perplexity}: like guessing among so many equally likely tokens; the vocabulary has {vocab:,}")
    return words.format(perplexity=perplexity_text(value), vocab=n_vocab)


def _course(reading: Reading) -> list[Block]:
    """Surprisal from the beginning to the end."""

    def caption(n: int, low: float, high: float) -> str:
        columns = n_("Each column is {n:,} token", "Each column is the mean of {n:,} tokens", n).format(n=n)
        return _("{columns}; the lowest stands for {low:.2f} nats, the highest for {high:.2f}.").format(
            columns=columns, low=low, high=high
        )

    values = np.minimum(reading.surprisal[reading.scored], _HIGHEST)
    return [Heading(_("Surprisal from beginning to end")), Trend(tuple(values.tolist()), caption)]


def _map(engine: Engine, reading: Reading) -> list[Block]:
    n = len(reading.ids)
    legend = heat.legend(unscored=not reading.has_bos)
    if n <= _ALL_SHOWN:
        return [Heading(_("Token by token")), legend, _flow(engine, reading, 0, n)]
    start = _most_telling(reading)
    return [
        Heading(_("Token by token: the beginning, tokens 1 to {last:,}").format(last=_BEGINNING)),
        legend,
        _flow(engine, reading, 0, _BEGINNING),
        Heading(
            _("Where it was surprised most: tokens {first:,} to {last:,}").format(
                first=start + 1, last=start + _TELLING
            )
        ),
        _flow(engine, reading, start, start + _TELLING),
    ]


def _most_telling(reading: Reading) -> int:
    """Where the part of the highest mean surprisal behind the beginning begins."""
    surprise = np.minimum(np.nan_to_num(reading.surprisal[_BEGINNING:], posinf=_HIGHEST), _HIGHEST)
    sums = np.concatenate(([0.0], np.cumsum(surprise)))
    return _BEGINNING + int(np.argmax(sums[_TELLING:] - sums[:-_TELLING]))


def _flow(engine: Engine, reading: Reading, start: int, stop: int) -> Flow:
    return Flow(
        tuple(
            heat.marked(engine.vocab.piece(reading.ids[at]), float(reading.surprisal[at]) if reading.rank[at] else None)
            for at in range(start, stop)
        )
    )


def _table(engine: Engine, reading: Reading, places: Sequence[int], *, instead: bool) -> Table:
    def label(token: int) -> str:
        text = piece_label(engine.vocab.piece(token))
        return text if cell_len(text) <= _LABEL_CELLS else fit(text, _LABEL_CELLS)

    rows: list[tuple[Cell, ...]] = []
    for at in places:
        nats = float(reading.surprisal[at])
        rows.append(
            (
                Span(_before(engine, reading, at), Tone.DIM),
                Span(label(reading.ids[at]), Tone.STRONG),
                *((label(int(reading.best[at])),) if instead else ()),
                percent(math.exp(-nats)),
                f"{nats:.3f}" if nats >= 0.0005 else "<.001",
                *((f"{reading.rank[at]:,}",) if instead else ()),
                f"{at + 1:,}",
            )
        )
    columns = (
        Column(_("after"), "right"),
        Column(_("came")),
        *((Column(_("it expected")),) if instead else ()),
        Column("p", "right"),
        Column(_("nats"), "right"),
        *((Column(_("rank"), "right"),) if instead else ()),
        Column("#", "right"),
    )
    return Table(columns, tuple(rows))


def _before(engine: Engine, reading: Reading, at: int) -> str:
    """The end of what the model had read of the text when it came to a token."""
    start = max(at // reading.size * reading.size, at - _CONTEXT_CELLS)
    text = one_line(token_text(b"".join(engine.vocab.piece(token) for token in reading.ids[start:at])))
    if cell_len(text) <= _CONTEXT_CELLS:
        return text
    while cell_len(text) >= _CONTEXT_CELLS:
        text = text[1:]
    return "…" + text


def _how(reading: Reading) -> str:
    n, scored = len(reading.ids), len(reading.scored)
    if reading.n_windows == 1:
        used = _("All {n:,} tokens of the text were read in one window.").format(n=n)
    else:
        used = _(
            "All {n:,} tokens of the text were read in {windows:,} windows of at most {window:,} tokens, which do not "
            "overlap: at the beginning of each the model knows nothing of what came before."
        ).format(n=n, windows=reading.n_windows, window=reading.window)
    if reading.has_bos:
        first = _("A window begins with the token for the beginning of a text, so that every token of the text counts.")
    else:
        first = _(
            "The first token of a window has nothing before it and does not count: {scored:,} of {n:,} are scored."
        ).format(scored=scored, n=n)
    return " ".join(
        (
            used,
            first,
            _(
                "llama.cpp's own perplexity tool scores the second half of each whole window alone, so its figure is "
                "usually lower."
            ),
        )
    )
