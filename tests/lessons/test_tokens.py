"""`tokens`: every token and any text there and back, merges step by step, documents counted in pieces, bad input."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands.recorder import Recorder
from tests.engine.tiny_gguf import write_tiny
from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.engine.engine import Engine
from tui_chat.engine.gguf import GgufHeader, read_header
from tui_chat.engine.vocabulary import Vocabulary, open_vocabulary
from tui_chat.errors import CancelledError, UsageError
from tui_chat.lessons import counting
from tui_chat.lessons import tokens as lesson
from tui_chat.lessons.counting import count
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.merging import Merges
from tui_chat.lessons.reading import blocks
from tui_chat.lessons.report import Report
from tui_chat.lessons.tokens import token_document, tokens, tokens_of
from tui_chat.lessons.watch import Watch
from tui_chat.models.resolve import builtin_path

Source = tuple[Vocabulary, GgufHeader]


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """The built-in model's vocabulary, without its weights."""
    with open_vocabulary(builtin_path()) as opened:
        yield opened


@pytest.fixture
def sentencepiece(tmp_path: Path) -> Iterator[Source]:
    """A small SentencePiece vocabulary that, as many do, puts a space in front of a text."""
    parts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, 3, *(6 for _ in range(256))]
    words = ["▁", *"abcdehlorw", "he", "ll", "▁he", "▁hell", "▁hello", "or", "▁w", "▁wor", "ld", "▁▁"]
    path = write_tiny(
        tmp_path / "spm.gguf",
        tokens=parts + words,
        tokenizer=False,
        extra={
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": parts + words,
            "tokenizer.ggml.scores": [0.0] * len(parts) + [-float(place) for place in range(len(words))],
            "tokenizer.ggml.token_type": kinds + [1] * len(words),
            "tokenizer.ggml.add_bos_token": True,
        },
    )
    with open_vocabulary(path) as opened:
        yield opened


def report_of(source: Source, text: str, **options: Any) -> Report:
    return tokens(*source, Watch(), [text], **options)


def document_of(source: Source, text: str, **options: Any) -> dict[str, Any]:
    return check("tokens", report_of(source, text, **options).document)


def drawn(report: Report, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


def bytes_of(listed: list[dict[str, Any]]) -> bytes:
    return b"".join(bytes.fromhex(token["bytes"]) for token in listed)


def test_every_token_goes_there_and_back(source: Source) -> None:
    vocab, _ = source
    text = ""
    for token, piece in enumerate(vocab.pieces()):
        listed = token_document(vocab, token)
        assert bytes.fromhex(str(listed["bytes"])) == piece
        assert listed["special"] == vocab.is_special(token)
        if "\N{REPLACEMENT CHARACTER}" in str(listed["text"]):
            continue  # part of a character, which no text of its own gives
        assert str(listed["text"]).encode() == piece
        ids = vocab.tokenize(str(listed["text"]), parse_special=True)
        assert b"".join(map(vocab.piece, ids)) == piece
        text += str(listed["text"])
    document = document_of(source, text)
    assert document["text"] == text and bytes_of(document["tokens"]) == text.encode()
    assert [token["id"] for token in document["tokens"]] == vocab.tokenize(text, parse_special=True)


def test_ten_thousand_random_texts_go_there_and_back(source: Source) -> None:
    vocab, _ = source
    draw_from = random.Random(4)
    planes = ((0x20, 0x7F), (0, 0x250), (0x250, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000))
    for _ in range(10_000):
        text = "".join(chr(draw_from.randrange(*draw_from.choice(planes))) for _ in range(draw_from.randrange(1, 16)))
        ids = vocab.tokenize(text)
        assert bytes_of([token_document(vocab, token) for token in ids]) == text.encode()


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=60))
def test_what_is_listed_is_what_is_counted(source: Source, text: str) -> None:
    document = document_of(source, text, special=False)
    assert bytes_of(document["tokens"]) == text.encode()
    assert document["listed"]
    assert document["n_tokens"] == len(document["tokens"]) == count(source[0], [text], special=False).n_tokens
    assert (document["n_characters"], document["n_bytes"]) == (len(text), len(text.encode()))
    assert document["characters_per_token"] == len(text) / document["n_tokens"]


def test_merges_in_the_order_of_the_list() -> None:
    merges = Merges(["h e", "l l", "he ll", "l o", "Ġ he"])
    assert merges.start(b"hello") == (b"h", b"e", b"l", b"l", b"o")
    assert [(step.number, step.left, step.right, step.pieces) for step in merges.steps(b"hello")] == [
        (1, b"h", b"e", (b"he", b"l", b"l", b"o")),
        (2, b"l", b"l", (b"he", b"ll", b"o")),
        (3, b"he", b"ll", (b"hell", b"o")),
    ]
    assert [step.pieces for step in merges.steps(b" he")][-1] == (b" he",)
    # Of equal pairs the first one goes first: three in a row leave the last one over.
    assert [step.pieces for step in merges.steps(b"lll")] == [(b"ll", b"l")]
    assert list(merges.steps(b"xyz")) == []


def test_merges_written_in_characters() -> None:
    merges = Merges(["▁ ñ", "▁ñ a"], raw=True)
    assert merges.start(" ña".encode()) == (b" ", "ñ".encode(), b"a")
    assert [step.pieces for step in merges.steps(" ña".encode())][-1] == (" ña".encode(),)


def test_the_merges_build_every_token_of_the_vocabulary(source: Source) -> None:
    vocab, header = source
    merges = Merges.of(header)
    assert merges is not None and merges.n_merges > 3000
    built = 0
    for token, piece in enumerate(vocab.pieces()):
        if len(piece) > 1 and not vocab.is_special(token):
            assert list(merges.steps(piece))[-1].pieces == (piece,)
            built += 1
    assert built > 3000


def test_the_longest_word_is_put_together(source: Source) -> None:
    vocab, _ = source
    report = report_of(source, "It is an unbelievably long word.")
    merges = check("tokens", report.document)["merges"]
    assert merges["word"] == " unbelievably"
    assert [bytes.fromhex(piece) for piece in merges["steps"][-1]["pieces"]] == [*map(vocab.piece, merges["ids"])]
    assert merges["ids"] == vocab.tokenize(" unbelievably")
    text = drawn(report)
    assert "How ·unbelievably is put together" in text and "␣ u n b e l i e v a b l y" in text
    assert document_of(source, "1 2 3")["merges"] is None


def test_tokens_can_be_read(source: Source) -> None:
    vocab, _ = source
    text = drawn(report_of(source, "a naïve\n👍 <|im_end|>"), 80)
    assert "<|im_end|>  control  3C 7C 69 6D 5F 65 6E 64 7C 3E" in text
    assert "⏎" in text and "·na" in text and "⟨F0⟩" in text
    assert f"its vocabulary has {vocab.n_vocab:,}" in text
    assert "20 characters, 24 bytes" in text
    assert "2,048 tokens that the model was made for" in text
    long = drawn(report_of(source, "one two three " * 100))
    assert "These are the first 64 of" in long and len(long.splitlines()) < 110


def test_control_tokens_are_read_or_not(source: Source) -> None:
    read, plain = document_of(source, "<|im_end|>"), document_of(source, "<|im_end|>", special=False)
    assert [token["special"] for token in read["tokens"]] == [True]
    assert plain["n_tokens"] > 1 and not any(token["special"] for token in plain["tokens"])
    assert bytes_of(plain["tokens"]) == b"<|im_end|>"


def test_a_vocabulary_without_merges_says_so(sentencepiece: Source) -> None:
    vocab, header = sentencepiece
    assert Merges.of(header) is None
    report = report_of(sentencepiece, "hello world")
    document = check("tokens", report.document)
    assert document["merges"] is None
    assert [token["text"] for token in document["tokens"]] == ["<s>", " hello", " wor", "ld"]
    assert document["n_added"] == 1 and document["characters_per_token"] == 11 / 3
    text = drawn(report)
    assert "SentencePiece kind and has no list of merges" in text
    assert "1 token, which the vocabulary puts around a prompt" in text
    assert [token["text"] for token in document_of(sentencepiece, "hello", special=False)["tokens"]] == [" hello"]
    assert vocab.add_bos


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_a_document_has_as_many_tokens_in_pieces_as_whole(
    kind: str, source: Source, sentencepiece: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocab, _ = source if kind == "byte-level" else sentencepiece
    draw_from = random.Random(5)
    words = [
        "hello",
        "world",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "12",
        "345",
        "é",
        "👍",
        "<|im_end|>",
        "</s>",
        "don't",
        "。",
        "中文",
    ]
    text = "".join(draw_from.choice(words) + draw_from.choice(["", " ", " ", "\n"]) for _ in range(20_000))
    lengths: list[int] = []
    tokenize = vocab.tokenize

    def noted(part: str, **options: bool) -> list[int]:
        lengths.append(len(part))
        return tokenize(part, **options)

    monkeypatch.setattr(vocab, "tokenize", noted)
    parts = [text[at : at + 4001] for at in range(0, len(text), 4001)]
    for special in (True, False):
        told: list[int] = []
        counted = count(vocab, parts, special=special, on_progress=told.append)
        assert counted.n_tokens == len(tokenize(text, add_special=special, parse_special=special))
        assert (counted.n_characters, counted.n_bytes) == (len(text), len(text.encode()))
        assert told == sorted(told) and told[-1] == len(text.encode())
    assert max(lengths) < 20_000


def test_what_cannot_be_cut_stays_whole(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab, _ = source
    parts = ["3" * 5000] * 3
    assert count(vocab, parts, special=False).n_tokens == len(vocab.tokenize("".join(parts)))
    monkeypatch.setattr(counting, "WHOLE_CHARACTERS", 6000)
    with pytest.raises(UsageError, match="no place to cut 10,000 characters"):
        count(vocab, parts, special=False)


def test_a_long_document_is_counted_only(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson, "LISTED_BYTES", 1000)
    path = tmp_path / "notes.txt"
    path.write_text("A token is a piece of text.\r\n" * 100, newline="")
    said: list[str] = []
    report = tokens_of(*source, Watch(on_progress=said.append), str(path), price_per_million=2.5)
    document = check("tokens", report.document)
    whole = source[0].tokenize(path.read_bytes().decode())
    assert (document["n_tokens"], document["text"]) == (len(whole), None)
    assert (document["tokens"], document["listed"]) == ([], False)
    assert document["document"] == str(path)
    assert document["price"] == pytest.approx(len(whole) * 2.5e-6)
    assert "2.9 kB counted" in said
    assert "for a million tokens" in drawn(report)
    stopped = Watch()
    stopped.cancel.set()
    with pytest.raises(CancelledError):
        tokens_of(*source, stopped, str(path))


def test_prices_are_written_out(source: Source) -> None:
    assert "0.00000015, at 0.15 for a million tokens" in drawn(report_of(source, "a", price_per_million=0.15))
    assert "0, at 0 for" in drawn(report_of(source, "a", price_per_million=0))
    for price in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="must be 0 or more"):
            report_of(source, "a", price_per_million=price)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"abc\xe9def", r"not UTF-8 text at byte 3 \(0xe9\)"),
        (b"ab\xc3", r"not UTF-8 text at byte 2 \(0xc3\)"),
        (b"ab\xe2\x82x\0", r"not UTF-8 text at byte 2 \(0xe2\)"),
        (b"abcd\0\xff", "byte 4 is zero"),
        (b"\xff\xfea\0", r"not UTF-8 text at byte 0 \(0xff\)"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_what_is_no_text_is_named_with_its_byte(content: bytes, words: str, size: int) -> None:
    with pytest.raises(UsageError, match=f"^it is .*{words}"):
        list(blocks(io.BytesIO(content), "it", size))


@given(st.text(max_size=30), st.integers(1, 9))
def test_text_is_read_whole_in_blocks_of_any_size(text: str, size: int) -> None:
    text = text.replace("\0", "0")
    assert "".join(blocks(io.BytesIO(text.encode()), "it", size)) == text


def test_bad_input(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the text is empty"):
        tokens_of(*source, Watch(), "")
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="empty is empty"):
        tokens_of(*source, Watch(), str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"at byte 2 \(0xff\)"):
        tokens_of(*source, Watch(), "ab\udcff")
    missing = drawn(tokens_of(*source, Watch(), str(tmp_path / "missing.txt")))
    assert "the name itself was read as the text: correct it" in " ".join(missing.split())
    assert "no file" not in drawn(tokens_of(*source, Watch(), "some words"))
    assert tokens_of(*source, Watch(), str(tmp_path)).document["document"] is None  # a directory
    assert tokens_of(*source, Watch(), "~nobody-of-that-name/x" * 300).document["document"] is None


def test_in_the_app(pocket: Engine, tmp_path: Path) -> None:
    before = list(pocket.context.ids)
    context = Recorder(engine=pocket)
    registry = default_registry()
    with pytest.raises(UsageError, match="nothing was said yet"):
        registry.execute("/tokens-demo", context)
    path = tmp_path / "a file.txt"
    path.write_text("one two")
    for line in ("/tokens-demo it's 5", '/tokens-demo "a  b"', f"/tokens-demo {path}"):
        registry.execute(line, context)
    texts = [report.document["text"] for report in context.reports]
    assert texts == ["it's 5", "a  b", "one two"]
    assert context.calls[0] == "report /tokens-demo it's 5"
    assert list(pocket.context.ids) == before


def test_on_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Engine, "load", classmethod(lambda *_: pytest.fail("the weights were loaded")))

    def listed(*arguments: str) -> dict[str, Any]:
        assert run(["tokens", *arguments, "--json"]) == 0
        out, err = capsys.readouterr()
        assert not err
        return check("tokens", out)

    assert listed("What is a token?")["text"] == "What is a token?"
    assert listed("<|im_end|>")["n_tokens"] == 1
    assert listed("<|im_end|>", "--no-special")["n_tokens"] > 1
    assert listed("hello", "--price", "2")["price"] == pytest.approx(listed("hello")["n_tokens"] * 2e-6)
    assert listed()["merges"]
    path = tmp_path / "notes.txt"
    path.write_text("one\ntwo")
    assert listed(str(path))["document"] == str(path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("in né\r\n".encode())))
    read = listed("--stdin")
    assert (read["text"], read["document"]) == ("in né\r\n", "standard input")
    assert run(["tokens", "two words"]) == 0
    assert "2 tokens" in capsys.readouterr().out

    def refusal(*arguments: str) -> str:
        assert run(["tokens", *arguments]) == 2
        out, err = capsys.readouterr()
        assert not out
        return err

    assert "the text is empty" in refusal("")
    assert "not both" in refusal("a", "--stdin")
    assert "standard input is empty" in refusal("--stdin")
    assert "must be 0 or more" in refusal("a", "--price", "-1")
    path.write_bytes(b"a\xff")
    assert "notes.txt is not UTF-8 text at byte 1 (0xff)" in refusal(str(path))


def test_a_vocabulary_alone_is_that_of_the_whole_model(source: Source, pocket: Engine) -> None:
    vocab, header = source
    assert vocab.pieces() == pocket.vocab.pieces()
    assert (vocab.bos_id, vocab.eos_id, vocab.eog_ids) == (
        pocket.vocab.bos_id,
        pocket.vocab.eos_id,
        pocket.vocab.eog_ids,
    )
    assert header == read_header(builtin_path())
    assert vocab.tokenize("a token") == pocket.vocab.tokenize("a token")
