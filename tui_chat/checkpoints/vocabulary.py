"""The tokenizer of a checkpoint in llama.cpp's terms, read from its `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from tui_chat.checkpoints.facts import TOKENIZER
from tui_chat.errors import ModelFileError

END_OF_TEXT, IM_END = "<|endoftext|>", "<|im_end|>"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_QWEN2 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PRE_TOKENIZERS = {
    (_QWEN2,): "qwen2",
    (_GPT2,): "gpt-2",
    (r"\p{N}", _GPT2): "smollm",
}
"""How text is cut into words before merging, as regular expressions applied in turn, to llama.cpp's name for it
(`llm_tokenizer_bpe` in llama-vocab.cpp)."""


class TokenKind(Enum):
    """What a token is for; the values are llama.cpp's (`llama_token_type`)."""

    NORMAL = 1
    CONTROL = 3
    """Written by templates only, and hidden from people."""
    USER_DEFINED = 4
    """Always one token, and part of the visible text."""
    UNUSED = 5
    """Fills the table where the model has more rows than the tokenizer has tokens."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE."""

    tokens: tuple[str, ...]
    """By id, in the spelling of byte-level BPE."""
    kinds: tuple[TokenKind, ...]
    merges: tuple[str, ...]
    """Pairs with a space between them, first learnt first."""
    pre_tokenizer: str
    end_of_text: int
    """Id of the token between texts; also the first and the padding one."""
    end_of_answer: int
    """Id of the token a model stops with."""


def read_vocabulary(checkpoint: Path, size: int, kind: str) -> Vocabulary:
    """The vocabulary of the checkpoint in a folder.

    Args:
        checkpoint: The folder.
        size: Rows of the model's table of tokens.
        kind: "chat" or "text": what ends an answer.

    Raises:
        ModelFileError: It cannot be read, does not fit the model, or lacks a token that is needed.
    """
    path = checkpoint / TOKENIZER
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        model = description["model"]
        ids = {text: int(token) for text, token in model["vocab"].items()}
        added = {entry["content"]: entry for entry in description["added_tokens"]}
        ids |= {text: int(entry["id"]) for text, entry in added.items()}
        merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
        patterns = tuple(_patterns(description["pre_tokenizer"]))
        special = {text for text, entry in added.items() if entry["special"]}
    except OSError as error:
        raise ModelFileError(f"the tokenizer cannot be read ({error.strerror or error})", path=path) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"this is not a tokenizer that a training wrote ({error})", path=path) from error
    if patterns not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS.values())
        raise ModelFileError(f"it cuts text into words as none of {known} does, so llama.cpp cannot", path=path)
    tokens = _in_order(ids, size, path)
    kinds = (_kind(text, text in ids, text in added, text in special) for text in tokens)
    last = IM_END if kind == "chat" else END_OF_TEXT
    for text in (END_OF_TEXT, last):
        if text not in ids:
            raise ModelFileError(f"the vocabulary lacks {text}, which a model of the kind {kind!r} needs", path=path)
    return Vocabulary(
        tokens=tuple(tokens),
        kinds=tuple(kinds),
        merges=merges,
        pre_tokenizer=PRE_TOKENIZERS[patterns],
        end_of_text=ids[END_OF_TEXT],
        end_of_answer=ids[last],
    )


def _patterns(description: dict[str, Any]) -> Iterable[str]:
    for step in description["pretokenizers"]:
        if step["type"] == "Split":
            yield step["pattern"]["Regex"]


def _in_order(ids: dict[str, int], size: int, path: Path) -> list[str]:
    if len(set(ids.values())) < len(ids) or any(not 0 <= token < size for token in ids.values()):
        raise ModelFileError(f"its {len(ids)} tokens do not fit the {size} rows of the model's table", path=path)
    texts = {token: text for text, token in ids.items()}
    return [texts.get(token, f"[unused{token}]") for token in range(size)]


def _kind(text: str, known: bool, added: bool, special: bool) -> TokenKind:
    if not known:
        return TokenKind.UNUSED
    if not added:
        return TokenKind.NORMAL
    return TokenKind.CONTROL if special else TokenKind.USER_DEFINED
