"""A tokenizer as a GGUF file of noise, so that llama.cpp can be asked for its ids."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
from tokenizers import Tokenizer

from tui_chat.models.geometry import Geometry, Vocabulary, write_model
from tui_chat.training.dialogue import IM_END
from tui_chat.training.tokenizer import pre_tokenizer_of, token_id


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The tokenizer section of a GGUF file, from what `tokenizer.json` says."""
    description = json.loads(tokenizer.to_str())
    special = {entry["content"]: entry["special"] for entry in description["added_tokens"]}
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED, None: gguf.TokenType.NORMAL}
    tokens = tuple(tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size()))
    return Vocabulary(
        tokens=tokens,
        types=tuple(int(kinds[special.get(token)]) for token in tokens),
        merges=tuple(" ".join(pair) for pair in description["model"]["merges"]),
        pre=pre_tokenizer_of(tokenizer).value,
        eos_id=token_id(tokenizer, IM_END),
        template=None,
    )


def write_vocabulary(path: Path, tokenizer: Tokenizer) -> Path:
    """A tiny model of noise with the tokens of `tokenizer`."""
    geometry = Geometry("noise", "qwen3", 1, 32, 1, 1, 32, 32, tokenizer.get_vocab_size(), True, 1e4)
    write_model(path, geometry, vocabulary(tokenizer))
    return path
