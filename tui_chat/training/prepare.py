"""From the written corpus to what the training reads: tokenizer, packed rows, validation rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from random import Random

from tokenizers import Tokenizer

from tui_chat.training.dataset import PackedRows, encode, pack
from tui_chat.training.dialogue import END_OF_TEXT, Dialogue
from tui_chat.training.grammar import Grammar, normalised
from tui_chat.training.sources import Sources
from tui_chat.training.tokenizer import token_id, train_tokenizer

_VALIDATION_SEED_STEP = 7_919
"""Added to the seed, so that validation dialogues come from another stream."""

_TOKENIZER_DIALOGUES = 20_000
"""More would not change the merges much; the grammar repeats itself."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the loop needs, and what is worth telling about it."""

    tokenizer: Tokenizer
    short: PackedRows
    long: PackedRows
    validation: PackedRows
    n_dialogues: int
    n_validation: int
    n_leaks: int
    """Validation dialogues taken out because the training had the same questions."""


def prepare(
    sources: Sources,
    *,
    seed: int,
    n_dialogues: int,
    n_validation: int,
    vocab_size: int,
    length: int,
    long_length: int,
    long_share: float,
    tokenizer: Tokenizer | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Make dialogues, learn the tokens, pack the rows.

    Args:
        sources: The written corpus.
        seed: Of the grammar.
        n_dialogues: Training dialogues, all different.
        n_validation: Validation dialogues before leaks are taken out.
        vocab_size: Tokens to learn.
        length: Tokens of a row in the first part of the training.
        long_length: Tokens of a row in the last part.
        long_share: Share of the training that reads long rows.
        tokenizer: Use this one instead of learning one (when a training goes on).
        on_stage: Called with a line for people when a stage begins.
    """
    grammar = Grammar(sources)
    on_stage(f"corpus: {n_dialogues:,} dialogues")
    dialogues = list(grammar.dialogues(seed, n_dialogues))
    validation, n_leaks = validation_split(grammar, dialogues, seed + _VALIDATION_SEED_STEP, n_validation)
    if tokenizer is None:
        on_stage(f"tokenizer: {vocab_size:,} entries")
        tokenizer = train_tokenizer((d.text for d in islice(dialogues, _TOKENIZER_DIALOGUES)), vocab_size)
    on_stage("rows: encoding and packing")
    pad = token_id(tokenizer, END_OF_TEXT)
    encoded = encode(dialogues, tokenizer)
    border = round(len(encoded) * (1 - long_share))
    return Prepared(
        tokenizer=tokenizer,
        short=pack(encoded[:border], length, pad),
        long=pack(encoded[border:], long_length, pad),
        validation=pack(encode(validation, tokenizer), length, pad),
        n_dialogues=len(dialogues),
        n_validation=len(validation),
        n_leaks=n_leaks,
    )


def validation_split(grammar: Grammar, training: list[Dialogue], seed: int, count: int) -> tuple[list[Dialogue], int]:
    """Dialogues from another seed without those whose questions all stand in one training dialogue in that order.

    Returns:
        The dialogues and how many were taken out.
    """
    known = {_questions(dialogue) for dialogue in training}
    rng = Random(seed)
    candidates = [grammar.dialogue(rng) for _ in range(count)]
    kept = [dialogue for dialogue in candidates if dialogue.exchanges and _questions(dialogue) not in known]
    return kept, len(candidates) - len(kept)


def _questions(dialogue: Dialogue) -> tuple[str, ...]:
    return tuple(normalised(exchange.user) for exchange in dialogue.exchanges)
