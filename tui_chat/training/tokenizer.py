"""Byte-level BPE: any text has ids, and the ids give back the very bytes.

The pre-tokenizer is the regular expression llama.cpp calls "qwen2" (`unicode_regex_split` in llama-vocab.cpp), so the
same merges give the same ids there. There is no normaliser, because llama.cpp has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tui_chat.training.dialogue import END_OF_TEXT, IM_END, IM_START, THINK_CLOSE, THINK_OPEN

CONTROL_TOKENS = (END_OF_TEXT, IM_START, IM_END)
"""Only the chat template writes these; llama.cpp hides them in text for people."""

USER_DEFINED_TOKENS = (THINK_OPEN, THINK_CLOSE)
"""One token each, but part of the visible text."""

PRE_TOKENIZER_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn `vocab_size` tokens from `texts`; the special ones come first, then the 256 bytes.

    The result has fewer tokens where the texts do not hold that many different pieces.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[*CONTROL_TOKENS, *USER_DEFINED_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return _with_visible_tokens(tokenizer)


def _with_visible_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """`tokenizer` with its user-defined tokens kept when ids are turned back into text for people.

    The trainer gives ids to special tokens only, and a special token cannot be made a plain one later; hence the JSON.
    """
    description = json.loads(tokenizer.to_str())
    for entry in description["added_tokens"]:
        entry["special"] = entry["content"] not in USER_DEFINED_TOKENS
    return Tokenizer.from_str(json.dumps(description))


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that was saved as `tokenizer.json`."""
    return Tokenizer.from_file(str(path))


def token_id(tokenizer: Tokenizer, text: str) -> int:
    """The id of the token whose text is exactly `text`.

    Raises:
        KeyError: The vocabulary has no such token.
    """
    found = tokenizer.token_to_id(text)
    if found is None:
        raise KeyError(text)
    return int(found)
