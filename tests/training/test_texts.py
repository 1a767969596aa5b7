"""Reading corpora: what is taken, what is passed over, and what is refused with the place and the remedy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tui_chat.errors import UsageError
from tui_chat.training.dialogue import Exchange
from tui_chat.training.texts import MIN_CHARACTERS, CorpusKind, read_corpus

STORY = "The baker opens at six. The harbour wakes up slowly.\n\n" * 10


def jsonl(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def asked(question: str, answer: str) -> dict[str, str]:
    return {"prompt": question, "completion": answer}


def test_a_file_is_one_document_whatever_its_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(b"\xef\xbb\xbf" + STORY.replace("\n", "\r\n").encode())
    corpus = read_corpus(path)
    assert corpus.kind is CorpusKind.TEXT
    assert corpus.documents == (STORY,)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert corpus.summary == f"1 document, {len(STORY)} characters"


def test_end_of_text_on_a_line_of_its_own_separates(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text(f"<|endoftext|>\n{STORY}<|endoftext|>\n  \n<|endoftext|>\nIn a line <|endoftext|> it is text.\n")
    assert read_corpus(path).documents == (STORY, "In a line <|endoftext|> it is text.\n")


def test_a_folder_gives_its_text_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in (
        ("z.MD", "last " * 60),
        ("b/a.text", "second " * 60),
        ("a.txt", "first " * 60),
        ("empty.txt", "\n"),
        ("picture.png", "?"),
        (".git/notes.txt", "hidden"),
    ):
        (tmp_path / name).write_text(text)
    corpus = read_corpus(tmp_path)
    assert [document.split()[0] for document in corpus.documents] == ["first", "second", "last"]
    assert (corpus.n_files, corpus.n_ignored, corpus.n_empty) == (4, 1, 1)
    assert corpus.summary == "4 files, 3 documents, 1,080 characters, 1 other file ignored, 1 empty file passed over"
    before = corpus.sha256
    assert read_corpus(str(tmp_path)).sha256 == before
    (tmp_path / "a.txt").rename(tmp_path / "aa.txt")
    assert read_corpus(tmp_path).sha256 != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (STORY.encode() + b"caf\xe9 x", rf"is not UTF-8 at byte {len(STORY) + 3} \(0xe9\): save it as UTF-8"),
        (b"\xef\xbb\xbfab\xff", r"is not UTF-8 at byte 5 \(0xff\)"),
        (STORY.encode("utf-16"), r"is not UTF-8 at byte 0: by its first bytes it is UTF-16"),
        (STORY.encode() + b"\0", rf"zero byte at byte {len(STORY)}"),
        (b"", "is empty: give at least 200 characters"),
        (b"<|endoftext|>\n", "is empty"),
        (b"x" * (MIN_CHARACTERS - 1), "holds only 199 characters: give at least 200"),
        (b"x", "holds only 1 character:"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_corpus(path)
    assert str(path) in str(caught.value)
    # In a folder it is the file that is named too, where one file alone is to blame.
    if len(content) > MIN_CHARACTERS:
        with pytest.raises(UsageError, match=r"story\.txt"):
            read_corpus(tmp_path)


def test_the_smallest_size_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("x" * MIN_CHARACTERS)
    assert read_corpus(path).n_characters == MIN_CHARACTERS


def test_what_is_not_there_or_holds_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_corpus(tmp_path / "nothing.txt")
    with pytest.raises(UsageError, match=r"has no .txt, .md, .text file"):
        read_corpus(tmp_path)
    path = jsonl(tmp_path / "chat.jsonl", asked("a", "b"))
    with pytest.raises(UsageError, match=f"give {path} itself"):
        read_corpus(tmp_path)


def test_conversations_become_dialogues(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi\u2028there"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello."},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Bye."},
    ]
    lines = [json.dumps({"messages": messages}, ensure_ascii=False), "", json.dumps(asked("2 + 2?", "4"))]
    path.write_bytes("\r\n".join(lines).encode())
    corpus = read_corpus(path)
    assert corpus.kind is CorpusKind.CHAT
    first, second = corpus.dialogues
    assert first.system == "Be brief."
    assert first.exchanges[1] == Exchange("", "Bye", "Bye.")
    assert "".join(text for text, own in first.render() if own) == (
        "<think>\nhm\n</think>\n\nHello.<|im_end|>Bye.<|im_end|>"
    )
    assert second.text == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
    assert corpus.summary == "2 conversations"


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": [', "not JSON at column 15"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 10_000, "a number too long"),
        ("[1]", "a list where an object is needed"),
        ('{"text": "x"}', 'neither "messages" nor "prompt" and "completion" is there, but "text"'),
        ("{}", "is there, but nothing"),
        ('{"prompt": "x"}', 'but "prompt": write'),
        ('{"prompt": "x", "completion": null}', '"completion" is null where text is needed'),
        ('{"messages": "x"}', '"messages" is text where a list is needed'),
        ('{"messages": []}', "no question and no answer"),
        ('{"messages": [1]}', "message 1 is a number where an object"),
        ('{"messages": [{"role": "user"}]}', 'message 1 has no "content"'),
        ('{"messages": [{"role": "tool", "content": "x"}]}', 'message 1 has the role "tool": use one of system, user'),
        ('{"messages": [{"role": [], "content": "x"}]}', r"message 1 has the role \[\]"),
        (json.dumps({"messages": [USER]}), "the last message is the user's"),
        (json.dumps({"messages": [ANSWER]}), 'message 1 is of "assistant" where "user" is due'),
        (json.dumps({"messages": [{**USER, "role": "system"}, ANSWER]}), 'message 2 is of "assistant"'),
        (json.dumps({"messages": [USER, USER]}), 'message 2 is of "user" where "assistant" is due'),
        (json.dumps({"messages": [USER, {**ANSWER, "content": " "}]}), '"content" of message 2 is empty'),
        (json.dumps(asked("x", "y<|im_end|>")), r"holds the control token <\|im_end\|>"),
        (json.dumps(asked("x", "y\ud800")), r"holds half of a character \(\\ud800\)"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(asked("a", "b")) + "\n\n" + line + "\n")
    with pytest.raises(UsageError, match=message) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_too_few_conversations(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds 0 conversations: at least 2 different ones"):
        read_corpus(jsonl(tmp_path / "none.jsonl"))
    with pytest.raises(UsageError, match="holds 1 conversation:"):
        read_corpus(jsonl(tmp_path / "one.jsonl", asked("a", "b")))


def test_the_builtin_corpus_comes_as_sources() -> None:
    corpus = read_corpus("builtin")
    assert corpus.kind is CorpusKind.CHAT
    assert corpus.sources is not None
    assert corpus.sha256 == corpus.sources.sha256
