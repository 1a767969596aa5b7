"""From a corpus to what the training reads: tokenizer, rows to train on, rows to validate with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from tui_chat.training.config import LossOn, TrainConfig
from tui_chat.training.dataset import Rows, Windows, pack
from tui_chat.training.dialogue import END_OF_TEXT, Dialogue, Exchange
from tui_chat.training.events import DATA, TOKENIZER, StageBegan
from tui_chat.training.grammar import Grammar
from tui_chat.training.memmap import open_array
from tui_chat.training.packing import encoded, open_rows, pack_on_disk
from tui_chat.training.sources import normalised
from tui_chat.training.split import split_dialogues, split_documents
from tui_chat.training.texts import Corpus, CorpusKind
from tui_chat.training.tokenizer import TokenizerSettings, shortfall, token_id, train_tokenizer
from tui_chat.training.windows import check_documents, write_documents

_VALIDATION_SEED_STEP = 7_919
"""Added to the seed, so that validation dialogues come from another stream."""

_TOKENIZER_DIALOGUES = 40_000
"""More would not change the merges much; the grammar repeats itself."""

_N_PROMPTS, _PROMPT_WORDS = 3, 4
"""Of samples nobody gave prompts for."""

_N_MERGES = 12
"""Told of a new tokenizer."""

_PLAN = "rows.json"

Tell = Callable[[StageBegan], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the loop needs of a corpus."""

    tokenizer: Tokenizer
    training: tuple[Rows, ...]
    """One for each row length, in the order in which they are trained on."""
    validation: Rows | None
    """None where the corpus is too small to keep a row for it."""
    prompts: tuple[str, ...]
    """As the model reads them, for samples; `shown` has what people see of them."""
    shown: tuple[str, ...]


def prepare(corpus: Corpus, config: TrainConfig, folder: Path, tokenizer: Tokenizer | None, tell: Tell) -> Prepared:
    """Learn the tokens, split off the validation, write the rows.

    Args:
        corpus: What was read.
        config: How.
        folder: Place for the rows; `open_training` finds them there.
        tokenizer: Use this one instead of learning one, when a training goes on from another.
        tell: Called when a stage begins and when there is more to say of it.

    Raises:
        UsageError: The corpus does not suit the settings.
        StorageError: The rows cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if corpus.kind is CorpusKind.TEXT:
        return _from_documents(corpus, config, folder, tokenizer, tell)
    if corpus.sources is None:
        split = split_dialogues(corpus.dialogues, config.seed, config.validation_share)
        return _from_dialogues(
            split.training, len(split.training), lambda: (split.validation, 0), config, folder, tokenizer, tell
        )
    grammar, known = Grammar(corpus.sources), set[tuple[str, ...]]()
    return _from_dialogues(
        _remembered(grammar.dialogues(config.seed, config.n_dialogues), known),
        config.n_dialogues,
        lambda: _without_leaks(grammar, known, config.seed + _VALIDATION_SEED_STEP, config.n_validation),
        config,
        folder,
        tokenizer,
        tell,
    )


def open_training(folder: Path) -> tuple[Rows, ...]:
    """The rows to train on that `prepare` wrote: for the other processes of the same training.

    Raises:
        StorageError: They are not there or not whole.
    """
    plan = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    if plan["kind"] == CorpusKind.TEXT:
        return (Windows(open_array(folder / "training.npy"), plan["length"], plan["stride"]),)
    return tuple(open_rows(folder / f"training-{length}", length) for length in plan["lengths"])


def chat_prompt(question: str) -> str:
    """What a model for conversations reads up to its answer to `question`."""
    return Dialogue((Exchange("", question, ""),)).prompt()


def validation_split(grammar: Grammar, training: list[Dialogue], seed: int, count: int) -> tuple[list[Dialogue], int]:
    """Dialogues from another seed without those whose questions all stand in one training dialogue in that order.

    Returns:
        The dialogues and how many were taken out.
    """
    return _without_leaks(grammar, {_questions(dialogue) for dialogue in training}, seed, count)


def _from_documents(
    corpus: Corpus, config: TrainConfig, folder: Path, tokenizer: Tokenizer | None, tell: Tell
) -> Prepared:
    split = split_documents(corpus.documents, config.seed, config.validation_share)
    if tokenizer is None:
        tokenizer = _learn_tokens(split.training, config, tell)
    tell(StageBegan(DATA, "the text becomes one line of ids, read through windows"))
    stride = config.stride or config.length
    line = write_documents(folder / "training.npy", split.training, tokenizer)
    check_documents(line, config.length, token_id(tokenizer, END_OF_TEXT))
    training = Windows(line, config.length, stride)
    plan = {"kind": CorpusKind.TEXT, "length": config.length, "stride": stride}
    (folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")
    ids = write_documents(folder / "validation.npy", split.validation, tokenizer)
    # The end of a short text may be shorter than a row of the training, and tells something all the same.
    length = min(config.length, len(ids) - 1)
    validation = Windows(ids, length, length) if length > 1 else None
    shown = config.sample_prompts or _beginnings(split.training, config.seed)
    _tell_rows(tell, (training,), validation, "windows")
    return Prepared(tokenizer, (training,), validation, shown, shown)


def _from_dialogues(
    dialogues: Sequence[Dialogue] | Iterator[Dialogue],
    count: int,
    validate: Callable[[], tuple[Sequence[Dialogue], int]],
    config: TrainConfig,
    folder: Path,
    tokenizer: Tokenizer | None,
    tell: Tell,
) -> Prepared:
    """`validate` is called once the `count` training dialogues have all been seen."""
    source = iter(dialogues)
    if tokenizer is None:
        # The others are never all in memory at once.
        first = list(islice(source, _TOKENIZER_DIALOGUES))
        tokenizer = _learn_tokens([dialogue.text for dialogue in first], config, tell)
        source = chain(first, source)
    tell(StageBegan(DATA, f"{count:,} conversations become ids, packed whole into rows"))
    pad, vocab_size = token_id(tokenizer, END_OF_TEXT), tokenizer.get_vocab_size()
    given, opening = 1.0 if config.loss_on is LossOn.ALL else config.prompt_weight, config.opening_weight
    ids = encoded(source, tokenizer)
    border = round(count * (1 - config.long_share)) if len(config.row_lengths) > 1 else count
    training = []
    for length, part in zip(config.row_lengths, (islice(ids, border), ids), strict=False):
        path = folder / f"training-{length}"
        training.append(pack_on_disk(part, length, pad, path, vocab_size, prompt_weight=given, opening_weight=opening))
    plan = {"kind": CorpusKind.CHAT, "lengths": config.row_lengths}
    (folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")
    kept, n_leaks = validate()
    validation: Rows | None
    try:
        validation = pack(encoded(kept, tokenizer), config.length, pad, prompt_weight=given, opening_weight=opening)
    except ValueError:  # none of them fits into a row
        validation = None
    # The first are unknown to the model, but a small corpus may not have kept enough of them back.
    shown = config.sample_prompts or _questions_of(chain(kept, dialogues if isinstance(dialogues, Sequence) else ()))
    _tell_rows(tell, tuple(training), validation, "rows", sum(r.n_left_out for r in training), n_leaks)
    return Prepared(tokenizer, tuple(training), validation, tuple(map(chat_prompt, shown)), shown)


def _learn_tokens(texts: Sequence[str], config: TrainConfig, tell: Tell) -> Tokenizer:
    wished = config.shape.vocab_size
    tell(StageBegan(TOKENIZER, f"learning up to {wished:,} tokens: bytes, then the pairs that come most often"))
    settings = TokenizerSettings(wished, pre_tokenizer=config.pre_tokenizer)
    tokenizer = train_tokenizer(texts, settings)
    n_tokens = tokenizer.get_vocab_size()
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]][:_N_MERGES]
    # The byte alphabet of GPT-2 writes a space as Ġ and a line end as Ċ.
    readable = [tuple(part.replace("Ġ", " ").replace("Ċ", "\n") for part in pair) for pair in merges]
    note = f" ({shortfall(tokenizer, wished)})" if n_tokens < wished else ""
    tell(StageBegan(TOKENIZER, f"{n_tokens:,} tokens{note}", {"vocab_size": n_tokens, "merges": readable}))
    return tokenizer


def _tell_rows(
    tell: Tell, training: tuple[Rows, ...], validation: Rows | None, noun: str, n_left_out: int = 0, n_leaks: int = 0
) -> None:
    n_rows, n_tokens = sum(rows.n_rows for rows in training), sum(rows.n_tokens for rows in training)
    lengths = [rows.length for rows in training]
    n_validation = 0 if validation is None else validation.n_rows
    parts = [f"{n_tokens:,} tokens in {n_rows:,} {noun} of {' and '.join(map(str, lengths))}"]
    parts.append(f"{n_validation:,} for validation" if n_validation else "too little for a validation")
    if n_leaks:
        parts.append(f"{n_leaks:,} conversations kept out of it, as the training has them")
    if n_left_out:
        parts.append(f"{n_left_out:,} conversations too long for a row left out")
    facts = {"n_rows": n_rows, "n_tokens": n_tokens, "n_validation_rows": n_validation, "row_lengths": lengths}
    tell(StageBegan(DATA, "; ".join(parts), facts))


def _remembered(dialogues: Iterator[Dialogue], known: set[tuple[str, ...]]) -> Iterator[Dialogue]:
    """The same dialogues; their questions are in `known` once they have passed."""
    for dialogue in dialogues:
        known.add(_questions(dialogue))
        yield dialogue


def _without_leaks(grammar: Grammar, known: set[tuple[str, ...]], seed: int, count: int) -> tuple[list[Dialogue], int]:
    rng = Random(seed)
    candidates = [grammar.dialogue(rng) for _ in range(count)]
    kept = [dialogue for dialogue in candidates if dialogue.exchanges and _questions(dialogue) not in known]
    return kept, len(candidates) - len(kept)


def _questions(dialogue: Dialogue) -> tuple[str, ...]:
    return tuple(normalised(exchange.user) for exchange in dialogue.exchanges)


def _questions_of(dialogues: Iterable[Dialogue]) -> tuple[str, ...]:
    """What the user says first in the first dialogues, each once."""
    found: dict[str, None] = {}
    for dialogue in dialogues:
        found[dialogue.exchanges[0].user] = None
        if len(found) == _N_PROMPTS:
            break
    return tuple(found)


def _beginnings(documents: Sequence[str], seed: int) -> tuple[str, ...]:
    """First words of some paragraphs."""
    rng = Random(seed)
    paragraphs = [
        text for document in documents for text in document.split("\n\n") if len(text.split()) > _PROMPT_WORDS
    ]
    if not paragraphs:
        return tuple(" ".join(document.split()[:1]) for document in documents[:1])
    chosen = rng.sample(paragraphs, min(_N_PROMPTS, len(paragraphs)))
    return tuple(dict.fromkeys(" ".join(text.split()[:_PROMPT_WORDS]) for text in chosen))
