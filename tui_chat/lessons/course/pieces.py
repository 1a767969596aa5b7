"""Lessons 1 to 3: tokens, how the vocabulary came about, and the one thing a model does."""

from __future__ import annotations

import math
from typing import Any

from tui_chat.display.figures import percent
from tui_chat.display.text import piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.gguf import read_header
from tui_chat.language import _
from tui_chat.lessons.course.explained import Explained, first, last
from tui_chat.lessons.logits import logits
from tui_chat.lessons.merging import Merges
from tui_chat.lessons.report import Flow, Table, Tone, Words
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.tokens import tokens
from tui_chat.lessons.watch import Watch


def about_tokens(engine: Engine, watch: Watch, _scene: Scene) -> Explained:
    """Lesson 1: a sentence as the model reads it."""
    text = _("An unbelievable thing: models read tokens, not letters.")
    report = tokens(engine.vocab, read_header(engine.info.path), watch, [text], special=False)
    ids = engine.vocab.tokenize(text)
    return Explained(
        (
            Words(
                _(
                    "A language model reads no letters. It reads tokens: numbers that stand for pieces of text. All "
                    "the pieces it knows are its vocabulary; that of {model} has {vocab:,}, and the model can read and "
                    "write nothing else. A sentence of {characters} characters becomes {n} tokens:"
                ).format(model=engine.info.name, vocab=engine.info.n_vocab, characters=len(text), n=len(ids))
            ),
            first(report, Flow),
            Words(_("The numbers are all that the model gets: {ids}").format(ids=" ".join(map(str, ids))), Tone.DIM),
            Words(
                _(
                    "A space (·) belongs to the piece behind it. Common words are one piece, rare ones are cut into "
                    "several: here it is {ratio:.1f} characters a token. Time, memory and the limit of this context "
                    "({n_ctx:,}) are all counted in tokens."
                ).format(ratio=len(text) / len(ids), n_ctx=engine.info.n_ctx)
            ),
        ),
        {
            "text": text,
            "n_tokens": len(ids),
            "ids": ids,
            "vocab_size": engine.info.n_vocab,
            "characters_per_token": len(text) / len(ids),
        },
    )


def about_merges(engine: Engine, watch: Watch, _scene: Scene) -> Explained:
    """Lesson 2: a word, put together by the merges of the vocabulary."""
    word = _("unbelievable")
    header = read_header(engine.info.path)
    report = tokens(engine.vocab, header, watch, [word], special=False)
    merges = Merges.of(header)
    built = report.document["merges"]
    figures: dict[str, object] = {"word": word, "n_merges": None, "steps": None, "pieces": None}
    origin = Words(
        _(
            "Nobody chose the pieces by hand. Byte-pair encoding (BPE) begins with single bytes, looks in a great deal "
            "of text for the two neighbours that stand together most often, makes one new piece of them, and begins "
            "again."
        )
    )
    if merges is None:
        return Explained(
            (origin, Words(_("The model that is loaded does it in another way.")), last(report, Words)), figures
        )
    if not isinstance(built, dict):
        return Explained(
            (
                origin,
                Words(
                    _(
                        "The vocabulary of this model lists {n:,} such merges, but its word “{word}” is not made by "
                        "them alone, so there are no steps to show."
                    ).format(n=merges.n_merges, word=word)
                ),
            ),
            {**figures, "n_merges": merges.n_merges},
        )
    pieces = [piece_label(engine.vocab.piece(token)) for token in built["ids"]]
    steps = len(built["steps"])
    return Explained(
        (
            origin,
            Words(
                _(
                    "This model's vocabulary lists {n:,} such merges, the one that was learnt first at the top. To cut "
                    "a word, the list is played again: of all neighbouring pairs, the one highest in the list is "
                    "joined. “{word}” takes {steps} merges:"
                ).format(n=merges.n_merges, word=word, steps=steps)
            ),
            last(report, Table),
            Words(
                _(
                    "No further pair is in the list, so it stays at {n} tokens: {pieces}. A word that came often "
                    "enough in that text would be one. Any text can be read, since at worst it stays single bytes."
                ).format(n=len(pieces), pieces=" ".join(f"“{piece}”" for piece in pieces))
            ),
        ),
        {**figures, "n_merges": merges.n_merges, "steps": steps, "pieces": pieces},
    )


def about_prediction(engine: Engine, watch: Watch, _scene: Scene) -> Explained:
    """Lesson 3: one pass, and the list that comes of it."""
    text = _("The sky is")
    report = logits(engine, watch, tuple(engine.vocab.tokenize(text, add_special=True)))
    figures: dict[str, Any] = {key: report.document[key] for key in ("prompt_tokens", "vocab_size", "top", "entropy")}
    best = figures["top"][0]
    return Explained(
        (
            Words(
                _(
                    "A model does one thing: it reads tokens and gives each token it knows a number, the logit, that "
                    "says how well that one would come next. One pass over “{text}” ({n} tokens) gave {vocab:,} of "
                    "them. As probabilities, the best are:"
                ).format(text=text, n=figures["prompt_tokens"], vocab=figures["vocab_size"])
            ),
            first(report, Table),
            Words(
                _(
                    "It gives {p} to “{token}”. Over the whole list it is as unsure as between {n:,.1f} equally likely "
                    "tokens: an entropy of {nats:.2f} nats. What a pass gives is this list of numbers and nothing "
                    "else. The same text always gives the same list; chance comes in only when a token is drawn from "
                    "it."
                ).format(
                    p=percent(best["p"]),
                    token=piece_label(best["text"].encode()),
                    n=math.exp(figures["entropy"]),
                    nats=figures["entropy"],
                )
            ),
        ),
        {"text": text, **figures},
    )
