r"""Byte-level BPE: any text has ids, and the ids give back the very bytes.

Text is first cut into words by a regular expression that llama.cpp knows by name (`unicode_regex_split` in
llama-vocab.cpp), then each word is merged by itself, so the same merges give the same ids there. There is no
normaliser, because llama.cpp has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, permutations
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tui_chat.errors import UsageError
from tui_chat.training.chunks import chunks
from tui_chat.training.dialogue import END_OF_TEXT, IM_END, IM_START, THINK_CLOSE, THINK_OPEN

CONTROL_TOKENS = (END_OF_TEXT, IM_START, IM_END)
"""Only the chat template writes these; llama.cpp hides them in text for people."""

USER_DEFINED_TOKENS = (THINK_OPEN, THINK_CLOSE)
"""One token each, but part of the visible text."""

N_BYTES = 256
"""Tokens every vocabulary has, so that there is no text without ids."""


class PreTokenizer(StrEnum):
    """How text is cut into words before merging; the value is llama.cpp's name (`tokenizer.ggml.pre` in GGUF)."""

    QWEN2 = "qwen2"
    """A digit a word; punctuation may lead a word and takes the line end after it."""
    GPT2 = "gpt-2"
    """A number a word; only a space may lead a word."""
    SMOLLM = "smollm"
    """As gpt-2, with a digit a word."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The regular expressions, applied one after the other, each to the pieces the one before left."""
        return _PATTERNS[self]


_QWEN2_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_PATTERNS = {
    PreTokenizer.QWEN2: (_QWEN2_PATTERN,),
    PreTokenizer.GPT2: (_GPT2_PATTERN,),
    PreTokenizer.SMOLLM: (r"\p{N}", _GPT2_PATTERN),
}


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What kind of tokenizer to train. The defaults are those of the built-in model.

    Raises:
        UsageError: The vocabulary has no room for the bytes and special tokens, or a special token would not have the
            same meaning everywhere.
    """

    vocab_size: int = 4096
    """Tokens in all, special ones and bytes included."""
    special_tokens: tuple[str, ...] = CONTROL_TOKENS
    """Control tokens, first in the vocabulary; `<|endoftext|>` is one of them."""
    visible_tokens: tuple[str, ...] = USER_DEFINED_TOKENS
    """One token each as well, but part of the text people see."""
    pre_tokenizer: PreTokenizer = PreTokenizer.QWEN2
    exact: bool = False
    """Whether it is an error when the text gives fewer tokens than `vocab_size`."""

    def __post_init__(self) -> None:
        tokens = self.own_tokens
        if END_OF_TEXT not in self.special_tokens:
            raise UsageError(f"the special tokens lack {END_OF_TEXT}, which ends every text: add it")
        for token in tokens:
            # Long texts are cut at white space before they are encoded, and that must not cut a token.
            if not token or any(c.isspace() for c in token):
                raise UsageError(f"the special token {token!r} is empty or has white space in it: choose another")
        if len(set(tokens)) < len(tokens):
            raise UsageError("a special token is there twice: name each once")
        for first, second in permutations(tokens, 2):
            # Where two could claim the same letters, llama.cpp prefers the longer and tokenizers the one on the left.
            if any(first.endswith(second[:n]) for n in range(1, len(second))) and second not in first:
                raise UsageError(f"the end of the special token {first!r} begins {second!r}: change one of them")
        least = N_BYTES + len(tokens)
        if self.vocab_size < least:
            raise UsageError(
                f"a vocabulary of {self.vocab_size} is too small: {N_BYTES} bytes and {len(tokens)} special tokens "
                f"need {least}; use --vocab {least} or more"
            )

    @property
    def own_tokens(self) -> tuple[str, ...]:
        """Special and visible tokens in the order of their ids."""
        return self.special_tokens + self.visible_tokens


def train_tokenizer(texts: Iterable[str], settings: TokenizerSettings | int) -> Tokenizer:
    """Learn tokens from `texts`; the special ones come first, then the 256 bytes.

    The result has fewer tokens than wished where the texts do not hold that many different pieces (`shortfall` says
    so), except where the settings make that an error.

    Args:
        texts: What to learn from, in any order.
        settings: A number stands for the size of the vocabulary, all else as it is by default.

    Raises:
        UsageError: The settings do not hold, or ask for more tokens than the texts give.
    """
    if isinstance(settings, int):
        settings = TokenizerSettings(settings)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(p), behavior="isolated") for p in settings.pre_tokenizer.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(settings.own_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(chain.from_iterable(map(chunks, texts)), trainer=trainer)
    missing = shortfall(tokenizer, settings.vocab_size)
    if settings.exact and missing:
        raise UsageError(missing)
    return _with_visible_tokens(tokenizer, settings.visible_tokens)


def shortfall(tokenizer: Tokenizer, vocab_size: int) -> str:
    """What to tell when the vocabulary is smaller than `vocab_size`; empty when it is not."""
    n_tokens = tokenizer.get_vocab_size()
    if n_tokens >= vocab_size:
        return ""
    return (
        f"a vocabulary of {vocab_size} is more than the text gives, which is at most {n_tokens} tokens: "
        f"use --vocab {n_tokens} or fewer, or more text"
    )


def pre_tokenizer_of(tokenizer: Tokenizer) -> PreTokenizer:
    """How `tokenizer` cuts text into words.

    Raises:
        UsageError: It is none of those this program trains with.
    """
    steps = (json.loads(tokenizer.to_str())["pre_tokenizer"] or {}).get("pretokenizers", [])
    patterns = tuple(step["pattern"]["Regex"] for step in steps if "Regex" in step.get("pattern", {}))
    for name, known in _PATTERNS.items():
        if patterns == known:
            return name
    raise UsageError(f"the tokenizer cuts text in a way that is none of {', '.join(_PATTERNS)}")


def _with_visible_tokens(tokenizer: Tokenizer, visible: tuple[str, ...]) -> Tokenizer:
    """`tokenizer` with the `visible` tokens kept when ids are turned back into text for people.

    The trainer gives ids to special tokens only, and a special token cannot be made a plain one later; hence the JSON.
    """
    description = json.loads(tokenizer.to_str())
    for entry in description["added_tokens"]:
        entry["special"] = entry["content"] not in visible
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
