"""Byte-level BPE: every text survives, special tokens are one id, and llama.cpp gives the same ids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.training.vocabularies import write_vocabulary
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import LoadOptions
from tui_chat.errors import UsageError
from tui_chat.models.resolve import builtin_path
from tui_chat.training.chunks import chunks
from tui_chat.training.dialogue import END_OF_TEXT, Dialogue
from tui_chat.training.tokenizer import (
    CONTROL_TOKENS,
    USER_DEFINED_TOKENS,
    PreTokenizer,
    TokenizerSettings,
    load_tokenizer,
    pre_tokenizer_of,
    shortfall,
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


Engines = dict[PreTokenizer, tuple[Engine, Tokenizer]]


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


def test_vocabulary_is_no_larger_than_the_text_supports() -> None:
    tokenizer = train_tokenizer(["one two three"] * 3, 4_000)
    n_tokens = tokenizer.get_vocab_size()
    assert 261 <= n_tokens < 300
    assert f"use --vocab {n_tokens} or fewer, or more text" in shortfall(tokenizer, 4_000)
    # As many as the message says are there: it can be followed.
    assert shortfall(train_tokenizer(["one two three"] * 3, TokenizerSettings(n_tokens, exact=True)), n_tokens) == ""
    with pytest.raises(UsageError, match=f"at most {n_tokens} tokens"):
        train_tokenizer(["one two three"] * 3, TokenizerSettings(n_tokens + 1, exact=True))


def test_settings_that_cannot_work_say_what_can() -> None:
    with pytest.raises(UsageError, match="use --vocab 261 or more"):
        TokenizerSettings(260)
    assert train_tokenizer(["ab"], TokenizerSettings(261)).get_vocab_size() == 261
    with pytest.raises(UsageError, match=r"lack <\|endoftext\|>"):
        TokenizerSettings(special_tokens=("<s>",))
    with pytest.raises(UsageError, match="white space"):
        TokenizerSettings(visible_tokens=("<a b>",))
    with pytest.raises(UsageError, match="twice"):
        TokenizerSettings(visible_tokens=("<a>", "<a>"))
    with pytest.raises(UsageError, match=r"'<a\[' begins '\[b>'"):
        TokenizerSettings(visible_tokens=("<a[", "[b>"))


def test_settings_are_in_the_saved_file(tmp_path: Path) -> None:
    settings = TokenizerSettings(300, (END_OF_TEXT, "<s>"), ("<note>",), PreTokenizer.GPT2)
    train_tokenizer(["one two three"] * 3, settings).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert [tokenizer.id_to_token(i) for i in range(3)] == [END_OF_TEXT, "<s>", "<note>"]
    assert pre_tokenizer_of(tokenizer) is PreTokenizer.GPT2
    assert tokenizer.decode(tokenizer.encode("<note>one<s>").ids) == "<note>one"


def test_pre_tokenizers_cut_numbers_as_they_say(trained: dict[PreTokenizer, Tokenizer]) -> None:
    # Every pair of digits is a merge in each, but only "gpt-2" lets digits stand in one word.
    counts = {name: len(tokenizer.encode("1212").ids) for name, tokenizer in trained.items()}
    assert counts[PreTokenizer.GPT2] < counts[PreTokenizer.QWEN2] == counts[PreTokenizer.SMOLLM] == 4
    assert pre_tokenizer_of(shipped_tokenizer()) is PreTokenizer.QWEN2


@pytest.fixture(scope="module")
def corpus_lines(dialogues: list[Dialogue]) -> list[str]:
    lines = dict.fromkeys(line for dialogue in dialogues for line in dialogue.text.split("\n"))
    return list(lines)[:10_000]


@pytest.fixture(scope="module")
def trained(corpus_lines: list[str]) -> dict[PreTokenizer, Tokenizer]:
    texts = [*corpus_lines[:3_000], *ODD_TEXTS, *ODD_TEXTS, "12 1212 12121212 " * 50]
    return {name: train_tokenizer(texts, TokenizerSettings(1_200, pre_tokenizer=name)) for name in PreTokenizer}


@pytest.fixture(scope="module")
def engines(trained: dict[PreTokenizer, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("vocabularies")
    loaded: Engines = {}
    for name, tokenizer in trained.items():
        path = write_vocabulary(folder / f"{name}.gguf", tokenizer)
        loaded[name] = (Engine.load(path, LoadOptions(n_ctx=64, n_threads=1)), tokenizer)
    yield loaded
    for engine, _ in loaded.values():
        engine.close()


def assert_same_ids(engines: Engines, name: PreTokenizer, text: str) -> None:
    engine, tokenizer = engines[name]
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    assert engine.vocab.tokenize(text, parse_special=True) == expected, text


every_pre_tokenizer = pytest.mark.parametrize("name", list(PreTokenizer))


@every_pre_tokenizer
def test_llama_cpp_gives_the_same_ids_for_odd_texts(engines: Engines, name: PreTokenizer) -> None:
    for text in ODD_TEXTS:
        assert_same_ids(engines, name, text)


@every_pre_tokenizer
def test_llama_cpp_gives_the_same_ids_for_ten_thousand_lines(
    engines: Engines, name: PreTokenizer, corpus_lines: list[str]
) -> None:
    assert len(corpus_lines) == 10_000
    for line in corpus_lines:
        assert_same_ids(engines, name, line)


@every_pre_tokenizer
def test_llama_cpp_gives_the_same_ids_beside_every_kind_of_character(engines: Engines, name: PreTokenizer) -> None:
    # Every character of the scripts with case, marks, digits and spaces of their own, then one in 127.
    for code in (*range(1, 0x2100), *range(0x2100, 0x110000, 127)):
        if not 0xD800 <= code < 0xE000:
            assert_same_ids(engines, name, "a{0}b {0}c1{0}2 !{0}?{0}{0} x{0}\n{0}".format(chr(code)))


@every_pre_tokenizer
@settings(max_examples=400)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80))
def test_llama_cpp_gives_the_same_ids_for_random_unicode(engines: Engines, name: PreTokenizer, text: str) -> None:
    assert_same_ids(engines, name, text)


@every_pre_tokenizer
@settings(max_examples=200)
@given(text=st.text(alphabet="ab1'sS .,_\n\r\t\u00a0\u3000é日²", max_size=60), size=st.integers(1, 20))
def test_pieces_of_a_long_text_have_its_ids(
    trained: dict[PreTokenizer, Tokenizer], name: PreTokenizer, text: str, size: int
) -> None:
    pieces = list(chunks(text, size))
    assert "".join(pieces) == text
    ids = [i for piece in pieces for i in trained[name].encode(piece, add_special_tokens=False).ids]
    assert ids == trained[name].encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_shipped_model_gives_the_same_ids(pocket: Engine, text: str) -> None:
    assert pocket.vocab.tokenize(text, parse_special=True) == shipped_ids(text)


def test_shipped_model_gives_the_same_ids_for_the_corpus(pocket: Engine, dialogues: list[Dialogue]) -> None:
    for dialogue in dialogues[:1_000]:
        assert pocket.vocab.tokenize(dialogue.text, parse_special=True) == shipped_ids(dialogue.text)


def test_shipped_think_tokens_are_visible_text() -> None:
    assert shipped_tokenizer().decode(shipped_ids("<think>\nhi\n</think><|im_end|>")) == "<think>\nhi\n</think>"


def test_vocabularies_have_the_same_entries(pocket: Engine) -> None:
    tokenizer = shipped_tokenizer()
    assert pocket.vocab.n_vocab == tokenizer.get_vocab_size()
    for text in CONTROL_TOKENS + USER_DEFINED_TOKENS:
        assert pocket.vocab.find(text) == token_id(tokenizer, text)
