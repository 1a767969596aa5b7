"""Byte-level BPE: every text survives, special tokens are one id, and llama.cpp gives the same ids."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tui_chat.engine.engine import Engine
from tui_chat.models.resolve import builtin_path
from tui_chat.training.dialogue import Dialogue
from tui_chat.training.tokenizer import (
    CONTROL_TOKENS,
    USER_DEFINED_TOKENS,
    load_tokenizer,
    token_id,
    train_tokenizer,
)

ODD_TEXTS = (
    "",
    " ",
    "\n",
    "\r\n\r\n  x",
    "\t\ttabs",
    "I'll we're they've CAN'T don'ts ’s",
    "12345 1.5e-3 ٣٤٥ ½ ²",
    "naïve café — “quoted” …",
    "日本語のテキスト 한국어 العربية עברית",
    "👩‍👩‍👧‍👦 🇩🇪 e\u0301 \u200b\u00a0\u3000x",
    "<|im_start|>user\nhi<|im_end|>\n<think>\n\n</think>\n\n<|endoftext|>",
    "<|im_start|><|im_start|> <think></think ><|im_end",
    "a" * 500,
    "!?!?...---***```python\nx = {}\n```",
    "\x00\x01\x7f\ufffd",
)


@cache
def shipped_tokenizer() -> Tokenizer:
    return load_tokenizer(builtin_path().with_name("tokenizer.json"))


def shipped_ids(text: str) -> list[int]:
    return list(shipped_tokenizer().encode(text, add_special_tokens=False).ids)


@given(st.text())
def test_every_text_comes_back(tiny_tokenizer: Tokenizer, text: str) -> None:
    encoding = tiny_tokenizer.encode(text, add_special_tokens=False)
    assert tiny_tokenizer.decode(encoding.ids, skip_special_tokens=False) == text


def test_special_tokens_are_one_id(tiny_tokenizer: Tokenizer) -> None:
    for text in CONTROL_TOKENS + USER_DEFINED_TOKENS:
        assert tiny_tokenizer.encode(f"a{text}b").ids.count(token_id(tiny_tokenizer, text)) == 1
    with pytest.raises(KeyError):
        token_id(tiny_tokenizer, "<no such token>")


def test_think_tokens_are_text_for_people_and_control_tokens_are_not(tiny_tokenizer: Tokenizer) -> None:
    ids = tiny_tokenizer.encode("<think>\nhi\n</think><|im_end|>").ids
    assert tiny_tokenizer.decode(ids) == "<think>\nhi\n</think>"


def test_vocabulary_is_no_larger_than_asked_for() -> None:
    tokenizer = train_tokenizer(["one two three"] * 3, vocab_size=4_000)
    assert 261 <= tokenizer.get_vocab_size() < 300


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_llama_cpp_gives_the_same_ids_for_odd_texts(pocket: Engine, text: str) -> None:
    assert pocket.vocab.tokenize(text, parse_special=True) == shipped_ids(text)


def test_llama_cpp_gives_the_same_ids_for_the_corpus(pocket: Engine, dialogues: list[Dialogue]) -> None:
    for dialogue in dialogues:
        assert pocket.vocab.tokenize(dialogue.text, parse_special=True) == shipped_ids(dialogue.text)


@settings(max_examples=400)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80))
def test_llama_cpp_gives_the_same_ids_for_random_unicode(pocket: Engine, text: str) -> None:
    assert pocket.vocab.tokenize(text, parse_special=True) == shipped_ids(text)


def test_shipped_think_tokens_are_visible_text() -> None:
    assert shipped_tokenizer().decode(shipped_ids("<think>\nhi\n</think><|im_end|>")) == "<think>\nhi\n</think>"


def test_vocabularies_have_the_same_entries(pocket: Engine) -> None:
    tokenizer = shipped_tokenizer()
    assert pocket.vocab.n_vocab == tokenizer.get_vocab_size()
    for text in CONTROL_TOKENS + USER_DEFINED_TOKENS:
        assert pocket.vocab.find(text) == token_id(tokenizer, text)
