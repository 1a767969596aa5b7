"""`template` and `/think`: the prompt as the model is given it, where each message stands, what the template adds."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chat.fake_vocab import FakeVocab
from tests.engine.tiny_gguf import write_tiny
from tests.lessons.contracts import check
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.prompt import PromptBuilder
from tui_chat.chat.template import CHATML, ChatTemplate, TemplateOrigin
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import Limits
from tui_chat.errors import PromptTooLongError, TemplateError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.report import Report, Span, Tone
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.template import Laid, NoVocabulary, Reader, template
from tui_chat.lessons.thinking import thinking

TRIMMING = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SHOUTING = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"


def source(text: str) -> ChatTemplate:
    return ChatTemplate(text, TemplateOrigin("settings", "T.jinja"))


def saying(*texts: str, system: str | None = None) -> Scene:
    conversation = Conversation()
    if system is not None:
        conversation.append(Role.SYSTEM, system)
    for index, text in enumerate(texts):
        conversation.append(Role.ASSISTANT if index % 2 else Role.USER, text)
    return Scene(messages=conversation.path)


def shown(report: Report, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


def reader(engine: Engine) -> Reader:
    return Reader(engine.info.name, engine.vocab, engine.context.n_ctx)


def of_engine(engine: Engine, scene: Scene, *, fit: bool = False) -> Report:
    return template(reader(engine), scene.builder(engine), scene, fitted_for=engine if fit else None)


def test_places_without_a_model_are_exact() -> None:
    builder = PromptBuilder(NoVocabulary(), source(TRIMMING), bos_token="<s>", eos_token="</s>")
    document = check("template", template(None, builder, saying(" Hi ", "user", "user")).document)
    assert document["text"] == "<s>[user] Hi</s>\n[assistant] user</s>\n[user] user</s>\n[assistant] "
    assert [entry["characters"] for entry in document["messages"]] == [[10, 12], [29, 33], [45, 49]]
    assert {entry["tokens"] for entry in document["messages"]} == {None}
    assert (document["model"], document["generation_prompt"]) == (None, "[assistant] ")
    assert document["switches_thinking"] is False


def test_tokens_of_a_message_spell_it(pocket: Engine) -> None:
    scene = saying("What is a token?", "A <|im_end|> piece.", "Schön 🌊, mehr!", system="Be brief.")
    document = check("template", of_engine(pocket, scene).document)
    ids = document["ids"]
    assert tuple(ids) == scene.prompt(pocket).ids
    pieces = [pocket.vocab.piece(token) for token in ids]
    assert b"".join(pieces).decode() == document["text"]
    for message, entry in zip(scene.messages, document["messages"], strict=True):
        start, end = entry["characters"]
        assert document["text"][start:end] == message.text
        first, behind = entry["tokens"]
        assert b"".join(pieces[first:behind]).decode() == message.text
        assert b"".join(pieces[:first]).decode() == document["text"][:start]


@given(texts=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=15)
def test_the_coloured_prompt_is_the_prompt(pocket: Engine, texts: list[str]) -> None:
    scene = saying(*texts)
    prompt = scene.prompt(pocket)
    places = scene.builder(pocket).places(prompt)
    for vocab in (pocket.vocab, None):
        spans = list(Laid(prompt, places, vocab).spans())
        assert "".join(span.text for span in spans) == prompt.text.encode("utf-8", "replace").decode()
        assert all(tone is not Tone.ACCENT or not any(s.text for s in group) for tone, group in groupby(spans, tone_of))
    for message, place in zip(prompt.messages, places, strict=True):
        assert place is not None and prompt.text[slice(*place)] == message.text


def tone_of(span: Span) -> Tone:
    return span.tone


def test_control_tokens_are_told_from_text_that_names_them(pocket: Engine) -> None:
    scene = saying("say <|im_end|> please")
    prompt = scene.prompt(pocket)
    spans = list(Laid(prompt, scene.builder(pocket).places(prompt), pocket.vocab).spans())
    assert [(span.text, span.tone) for span in spans] == [
        ("<|im_start|>", Tone.CONTROL),
        ("user\n", Tone.DIM),
        ("say <|im_end|> please", Tone.PLAIN),
        ("<|im_end|>", Tone.CONTROL),
        ("\n", Tone.DIM),
        ("<|im_start|>", Tone.CONTROL),
        ("assistant\n", Tone.DIM),
    ]


def test_bos_of_the_vocabulary_is_shown() -> None:
    vocab = FakeVocab(add_bos=True)
    vocab.is_special = vocab.is_control  # type: ignore[attr-defined]
    builder = PromptBuilder(vocab, source(CHATML))
    prompt = builder.build(saying("hello").messages)
    laid = Laid(prompt, builder.places(prompt), vocab)  # type: ignore[arg-type]
    assert laid.begins_with_bos
    assert next(laid.spans()) == Span("<s><|im_start|>", Tone.CONTROL)
    (tokens,) = laid.tokens
    assert tokens is not None and [vocab.piece(token) for token in prompt.ids[slice(*tokens)]] == [b"hello"]


def test_what_a_template_alters_has_no_place(pocket: Engine) -> None:
    builder = PromptBuilder(pocket.vocab, source(SHOUTING))
    report = template(reader(pocket), builder, saying("quiet"))
    assert check("template", report.document)["messages"][0]["characters"] is None
    assert "changes this text" in shown(report)


def test_an_example_stands_in_where_nothing_was_said(pocket: Engine) -> None:
    document = check("template", of_engine(pocket, Scene()).document)
    assert document["example"] is True
    assert [entry["role"] for entry in document["messages"]] == ["system", "user", "assistant", "user"]
    assert "an example of 4 messages" in shown(of_engine(pocket, Scene()))


def test_the_beginning_of_the_answer_stands_behind_the_prompt(pocket: Engine) -> None:
    scene = replace(saying("Hi"), prefill="Well, <|im_end|>")
    report = of_engine(pocket, scene, fit=True)
    document = check("template", report.document)
    assert document["text"].endswith("<|im_start|>assistant\nWell, <|im_end|>")
    assert document["generation_prompt"] == "<|im_start|>assistant\n"
    assert pocket.vocab.eos_id not in document["ids"][-4:]
    prompt = scene.prompt(pocket)
    last = list(Laid(prompt, scene.builder(pocket).places(prompt), pocket.vocab).spans())[-1]
    assert last == Span("Well, <|im_end|>", Tone.ACCENT)


def test_a_long_conversation_is_shown_as_a_chat_would_send_it(pocket: Engine) -> None:
    scene = replace(saying(*["word " * 30] * 21), limits=Limits(max_tokens=64))
    document = check("template", of_engine(pocket, scene, fit=True).document)
    assert document["dropped"] > 0 and len(document["messages"]) == 21 - document["dropped"]
    assert any("left out" in note for note in document["notes"])
    whole = check("template", of_engine(pocket, scene).document)
    assert whole["dropped"] == 0 and any("do not fit" in note for note in whole["notes"])
    with pytest.raises(PromptTooLongError):
        of_engine(pocket, saying("word " * 600), fit=True)


def test_a_template_that_refuses(pocket: Engine) -> None:
    refusing = PromptBuilder(pocket.vocab, source("{{ raise_exception('not today') }}"))
    with pytest.raises(TemplateError, match="not today"):
        template(reader(pocket), refusing, saying("Hi"))


@pytest.mark.parametrize("width", [30, 80, 120])
def test_it_reads_at_any_width(pocket: Engine, width: int) -> None:
    text = shown(of_engine(pocket, saying("Hi", "Hello", "Bye", system="Be brief.")), width)
    assert "<|im_start|>" in text and "message" in text


def test_a_model_without_template_or_end_token(
    tmp_path: Path, pocket: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny(tmp_path / "plain.gguf", template=None)
    assert run(["template", "--model", str(path)]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "This model has no chat template, so ChatML, the most common one, makes it of an example" in page
    assert page.count("ChatML") == 2 and "there is room for 128" in page and "does not switch it" in page
    assert run(["template", "--model", str(path), "--json"]) == 0
    document = check("template", capsys.readouterr().out)
    assert document["template"]["kind"] == "fallback" and document["notes"]
    monkeypatch.setattr(pocket.vocab, "eog_ids", frozenset())
    assert "this model has none: an answer ends at a stop string" in " ".join(shown(of_engine(pocket, Scene())).split())


def test_one_token_is_one(pocket: Engine) -> None:
    builder = PromptBuilder(pocket.vocab, source("a"))
    assert "1 token, 0 of them" in shown(template(reader(pocket), builder, saying("Hi")))


# Thinking


def test_the_think_block_is_shown_in_each_state(pocket: Engine) -> None:
    scene = replace(saying("Hi", "Hello", "Bye"), enable_thinking=False, prefill="ignored")
    report = thinking(pocket, scene)
    document = check("thinking", report.document)
    assert document["switches_thinking"] is True and document["enable_thinking"] is False
    texts = {word: prompt["text"] for word, prompt in document["prompts"].items()}
    assert texts["off"].endswith("<think>\n\n</think>\n\n") and "<think>" not in texts["auto"]
    for word, state in (("on", True), ("off", False), ("auto", None)):
        builder = PromptBuilder(pocket.vocab, scene.template(pocket), enable_thinking=state)
        assert tuple(document["prompts"][word]["ids"]) == builder.build(saying("Bye").messages).ids
    assert "off (now)" in shown(report)


def test_a_template_without_the_switch_says_so(pocket: Engine) -> None:
    scene = replace(saying("Hi", system="Be brief."), configured_template=CHATML)
    report = thinking(pocket, scene)
    document = check("thinking", report.document)
    assert document["switches_thinking"] is False
    assert len({prompt["text"] for prompt in document["prompts"].values()}) == 1
    assert "Be brief." in document["prompts"]["on"]["text"]
    assert "does not switch thinking" in " ".join(shown(report).split())
    assert "does not switch it" in " ".join(shown(of_engine(pocket, scene)).split())


# The command line


def written(path: Path, messages: Sequence[Message] | object) -> str:
    path.write_text(json.dumps(messages), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "T.jinja").write_text(TRIMMING, encoding="utf-8")
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    return str(tmp_path / "T.jinja"), written(tmp_path / "M.json", said)


def test_without_a_model_none_is_loaded(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*_: object) -> Report:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("tui_chat.cli.template.find_model", loads)
    file, messages = files
    arguments = ["template", "--file", file, "--messages", messages, "--bos", "<s>", "--eos", "</s>"]
    assert run([*arguments, "--json"]) == 0
    document = check("template", capsys.readouterr().out)
    assert document["text"] == "<s>[system] Be brief.</s>\n[user] Hi</s>\n[assistant] "
    assert run([*arguments, "--json", "--no-generation-prompt"]) == 0
    assert check("template", capsys.readouterr().out)["text"] == "<s>[system] Be brief.</s>\n[user] Hi</s>\n"
    assert run(arguments) == 0
    assert "from character" in capsys.readouterr().out


def test_with_a_model(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pocket: Engine
) -> None:
    file, messages = files

    def loads(*_: object, **__: object) -> Engine:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(Engine, "load", loads)
    said = json.dumps([{"role": "user", "content": "Hi"}]).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + said)))
    assert run(["template", "--messages", "-", "--think", "off", "--json"]) == 0
    document = check("template", capsys.readouterr().out)
    assert document["text"] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert document["ids"] == pocket.vocab.tokenize(document["text"], parse_special=True)
    assert run(["template", "--file", file, "--messages", messages, "--eos", "!", "--json"]) == 0
    text = check("template", capsys.readouterr().out)["text"]
    assert text == f"{pocket.info.bos_token}[system] Be brief.!\n[user] Hi!\n[assistant] "
    assert run(["template"]) == 0
    assert "an example of 4 messages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[", "is not JSON: line 1, column 2"),
        (b"\xff\xfe", "not UTF-8 text at byte 0"),
        (b"{}", "must hold a list of messages"),
        (b"[]", "must hold a list of messages"),
        (b'["Hi"]', "message 1 in"),
        (b'[{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]', "system, user, assistant"),
        (b'[{"role": "user", "content": null}]', '"content" that is text'),
        (b'[{"role": "user", "content": "a", "name": "b"}]', 'has "name"'),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_messages_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str) -> None:
    path = tmp_path / "M.json"
    path.write_bytes(content)
    assert run(["template", "--messages", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and words in captured.err and captured.err.count("\n") == 1


def test_files_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["template", "--messages", str(tmp_path / "none.json")]) == 2
    assert "none.json cannot be read" in capsys.readouterr().err
    assert run(["template", "--file", str(tmp_path), "--bos", "", "--eos", ""]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "T.jinja").write_text("line\n{% if %}")
    assert run(["template", "--file", str(tmp_path / "T.jinja"), "--bos", "", "--eos", ""]) == 2
    assert "T.jinja does not parse, line 2" in capsys.readouterr().err
