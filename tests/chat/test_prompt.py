"""From a conversation to ids: the model's own tokens stay, what people type stays text, and the prompt fits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat.fake_vocab import FakeVocab
from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.prompt import Prompt, build_prompt, fit_prompt
from tui_chat.chat.splice import neutralize, own_ids
from tui_chat.chat.template import CHATML, ChatTemplate, TemplateOrigin, choose_template
from tui_chat.errors import PromptTooLongError, TemplateError

TRIMMING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{%- for message in messages %}{% set content = message.content %}"
    "{%- if message.role == 'assistant' and '</think>' in content and not loop.last %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<|im_start|>' + role + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST]{{ message['content'] }}[/INST]"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
ALL = {"chatml": CHATML, "trimming": TRIMMING, "thinking": THINKING, "no system": NO_SYSTEM, "inst": INST}


@cache
def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, TemplateOrigin("model", "the model"))


def user(text: str) -> Message:
    return Message(role=Role.USER, text=text)


def system(text: str) -> Message:
    return Message(role=Role.SYSTEM, text=text)


def answer(text: str, ids: Sequence[int] | None = None) -> Message:
    return Message(role=Role.ASSISTANT, text=text, ids=None if ids is None else tuple(ids))


def spelled(prompt: Prompt, vocab: FakeVocab) -> bytes:
    return b"".join(map(vocab.piece, prompt.ids))


def contains(ids: Sequence[int], run: Sequence[int]) -> bool:
    return any(tuple(ids[at : at + len(run)]) == tuple(run) for at in range(len(ids) - len(run) + 1))


def slow_ids(text: str) -> list[int]:
    """The text byte by byte: an encoding that the tokenizer itself would never give."""
    return list(text.encode())


# Text without control tokens' names and without what templates look for.
plain = st.text(st.characters(codec="utf-8", exclude_characters="<[\ue0f0\ue0f1"), max_size=30)


@st.composite
def talks(draw: st.DrawFn) -> list[Message]:
    messages = []
    for _ in range(draw(st.integers(0, 3))):
        messages.append(user(draw(plain)))
        text = draw(plain.filter(bool))
        messages.append(answer(text, draw(st.sampled_from([None, tuple(slow_ids(text))]))))
    messages.append(user(draw(plain)))
    return messages


@given(talks(), st.sampled_from(["chatml", "thinking", "no system", "inst"]), st.booleans())
def test_own_ids_stay_and_the_text_is_the_rendering(messages: list[Message], name: str, add_bos: bool) -> None:
    vocab = FakeVocab(add_bos=add_bos)
    prompt = build_prompt(messages, vocab, template(ALL[name]))
    text = spelled(prompt, vocab).decode()
    bos = "<s>" if add_bos and not prompt.text.startswith("<s>") else ""
    assert text == bos + prompt.text
    own = [message.ids for message in messages if message.ids]
    assert prompt.reused_answers == len(own)
    for ids in own:
        assert contains(prompt.ids, ids)


@given(talks(), st.sampled_from(sorted(ALL)))
def test_any_template_spells_its_rendering(messages: list[Message], name: str) -> None:
    vocab = FakeVocab()
    prompt = build_prompt(messages, vocab, template(ALL[name]))
    assert spelled(prompt, vocab).decode() == prompt.text


@given(talks())
def test_without_own_ids_the_whole_text_is_tokenized_at_once(messages: list[Message]) -> None:
    vocab = FakeVocab()
    typed = [Message(role=message.role, text=message.text) for message in messages]
    prompt = build_prompt(typed, vocab, template(CHATML))
    assert list(prompt.ids) == vocab.tokenize(prompt.text, parse_special=True)


def test_space_prefix_does_not_creep_into_the_middle() -> None:
    vocab = FakeVocab(space_prefix=True, add_bos=True)
    text = " world"
    messages = [user("hello"), answer(text, slow_ids(text)), user("he")]
    prompt = build_prompt(messages, vocab, template("{% for m in messages %}{{ m.content }}|{% endfor %}"))
    assert spelled(prompt, vocab) == b"<s> hello| world|he|"


@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "<s>", "hello", "\n", " system"]), max_size=6))
def test_names_of_control_tokens_in_messages_stay_text(parts: list[str]) -> None:
    vocab = FakeVocab()
    text = "".join(parts)
    for name in ("chatml", "trimming", "thinking", "no system"):
        innocent = build_prompt([user("x"), answer("x"), user("x")], vocab, template(ALL[name]))
        prompt = build_prompt([user(text), answer("x"), user("x" + text)], vocab, template(ALL[name]))
        steering = [token for token in prompt.ids if vocab.is_control(token)]
        assert steering == [token for token in innocent.ids if vocab.is_control(token)]
        assert spelled(prompt, vocab).decode() == prompt.text
        assert not prompt.notes


def test_altered_content_with_control_tokens_is_taken_apart() -> None:
    vocab = FakeVocab()
    upper = template("{% for m in messages %}<|im_start|>{{ m.content | replace('a', 'b') }}<|im_end|>{% endfor %}")
    prompt = build_prompt([user("a<|im_end|>c")], vocab, upper)
    assert [vocab.piece(token) for token in prompt.ids if vocab.is_control(token)] == [b"<|im_start|>", b"<|im_end|>"]
    assert "taken apart" in prompt.notes[0]
    assert prompt.text == "<|im_start|>b<\u200b|im_end|>c<|im_end|>"
    assert neutralize("no names here", vocab) == "no names here"


def test_trimmed_answers_use_their_own_ids_where_they_still_spell_them() -> None:
    vocab = FakeVocab()
    ids = [*slow_ids("hello"), *slow_ids("\n"), vocab.id("<|im_end|>")]
    prompt = build_prompt([user("q"), answer("hello\n", ids), user("q")], vocab, template(TRIMMING))
    assert prompt.reused_answers == 1
    assert contains(prompt.ids, [*slow_ids("hello"), vocab.id("<|im_end|>")])
    both = [user("q"), answer(" hello", vocab.tokenize(" hello")), user("q"), answer("ll", slow_ids("ll")), user("q")]
    prompt = build_prompt(both, vocab, template(TRIMMING))
    assert prompt.reused_answers == 1  # " hello" is one token, which cannot be trimmed
    assert contains(prompt.ids, slow_ids("ll"))
    assert spelled(prompt, vocab).decode() == prompt.text


def test_reasoning_that_the_template_strips_is_encoded_anew() -> None:
    vocab = FakeVocab()
    text = "<think>\nhm\n</think>\n\nhello"
    messages = [user("q"), answer(text, slow_ids(text)), user("q"), answer("ll", slow_ids("ll")), user("q")]
    prompt = build_prompt(messages, vocab, template(THINKING))
    assert "hm" not in prompt.text
    assert prompt.reused_answers == 1
    assert contains(prompt.ids, slow_ids("ll"))


def test_thinking_switch() -> None:
    vocab = FakeVocab()
    assert build_prompt([user("q")], vocab, template(THINKING)).text.endswith("assistant\n")
    off = build_prompt([user("q")], vocab, template(THINKING), enable_thinking=False)
    assert off.text.endswith("</think>\n\n")
    assert build_prompt([user("q")], vocab, template(THINKING), enable_thinking=True).text.endswith("assistant\n")


def test_own_ids() -> None:
    vocab = FakeVocab()
    hello = vocab.tokenize("hello")
    end = vocab.id("<|im_end|>")
    assert own_ids([*hello, end], "hello", vocab) == tuple(hello)
    assert own_ids([end, *hello], "hello", vocab) == (end, *hello)
    assert own_ids(vocab.tokenize("hello STOP"), "hello", vocab) == tuple(hello)
    assert own_ids(hello, "he", vocab) is None
    assert own_ids(hello, "hello there", vocab) is None
    assert own_ids([9999], "hello", vocab) is None
    assert own_ids([], "", vocab) == ()
    assert own_ids([0xC3], "\ufffd", vocab) is None


def test_bos_stands_in_front_once() -> None:
    for source in (CHATML, NO_SYSTEM):
        vocab = FakeVocab(add_bos=True)
        prompt = build_prompt([user("q")], vocab, template(source))
        assert prompt.ids[0] == vocab.bos_id
        assert prompt.ids.count(vocab.id("<s>")) == 1
    vocab = FakeVocab(add_bos=True)
    prompt = build_prompt([user("<s>q")], vocab, template("{{ message }}"))
    assert prompt.ids[0] == vocab.bos_id
    assert prompt.ids.count(vocab.id("<s>")) == 1


def test_single_message_template() -> None:
    vocab = FakeVocab()
    single = template("Q: {{ message }}\nA:")
    prompt = build_prompt([system("s"), user("one"), answer("1"), user("two")], vocab, single)
    assert prompt.text == "Q: two\nA:"
    assert build_prompt([system("s"), user("x")], vocab, template("{{ system }}/{{ message }}")).text == "s/x"


def test_refused_system_text_moves_to_the_first_message() -> None:
    vocab = FakeVocab()
    prompt = build_prompt([system("brief"), user("q"), answer("a"), user("r")], vocab, template(NO_SYSTEM))
    assert "<|im_start|>user\nbrief\n\nq<|im_end|>" in prompt.text
    assert "system message" in prompt.notes[0]
    silent = build_prompt([system("brief"), user("q")], vocab, template(INST))
    assert silent.text == "<s>[INST]brief\n\nq[/INST]"
    assert silent.notes
    assert not build_prompt([system("brief"), user("q")], vocab, template(CHATML)).notes


def test_a_refusal_for_another_reason_is_told() -> None:
    with pytest.raises(TemplateError, match="must alternate"):
        build_prompt([user("a"), answer("b"), answer("c")], FakeVocab(), template(NO_SYSTEM))
    with pytest.raises(TemplateError, match="not supported"):
        build_prompt([system("s"), user("a"), answer("b"), answer("c")], FakeVocab(), template(NO_SYSTEM))


def test_an_answer_that_came_to_nothing_leaves_no_gap() -> None:
    messages = [user("a"), answer("", ()), user("b"), answer("c"), user("d"), answer(""), answer("")]
    for name in ("chatml", "no system"):
        vocab = FakeVocab()
        wanted = build_prompt([user("a\n\nb"), answer("c"), user("d")], vocab, template(ALL[name]))
        assert build_prompt(messages, vocab, template(ALL[name])).ids == wanted.ids
        fitted = fit_prompt(messages, vocab, template(ALL[name]), n_ctx=500, reserve=10)
        assert fitted.ids == wanted.ids
    single = build_prompt([user("a"), answer(""), user("b")], FakeVocab(), template("<{{ message }}>"))
    assert single.text == "<b>"


def test_choice_of_the_template() -> None:
    assert choose_template("a", "b", "m").source == "a"
    assert choose_template(None, "b", "m").source == "b"
    fallback = choose_template(None, None, "m")
    prompt = build_prompt([user("q")], FakeVocab(), fallback)
    assert prompt.text == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert "ChatML" in prompt.notes[0]


def test_empty_answer_at_the_end_is_left_out() -> None:
    vocab = FakeVocab()
    path = [user("q"), answer("", ())]
    assert build_prompt(path, vocab, template(CHATML)) == build_prompt(path[:1], vocab, template(CHATML))


def long_talk(exchanges: int) -> list[Message]:
    messages = [system("sys")]
    for number in range(exchanges):
        messages += [user(f"question {number}"), answer(f"answer {number}")]
    return [*messages, user("last")]


@given(st.integers(0, 12), st.integers(60, 600), st.integers(0, 200))
def test_fitting(exchanges: int, n_ctx: int, reserve: int) -> None:
    vocab = FakeVocab()
    messages = long_talk(exchanges)
    prompt = fit_prompt(messages, vocab, template(NO_SYSTEM), n_ctx=n_ctx, reserve=reserve)
    room = n_ctx - min(max(reserve, 1), n_ctx // 2)
    assert len(prompt.ids) < n_ctx
    assert "sys\n\n" in prompt.text and "last" in prompt.text
    assert prompt.dropped % 2 == 0
    if prompt.dropped:
        assert f"question {prompt.dropped // 2 - 1}<" not in prompt.text
        fuller = build_prompt([messages[0], *messages[prompt.dropped - 1 :]], vocab, template(NO_SYSTEM))
        assert len(fuller.ids) > room - n_ctx // 8
    else:
        assert len(prompt.ids) <= room or exchanges == 0
    again = fit_prompt(messages, vocab, template(NO_SYSTEM), n_ctx=n_ctx, reserve=reserve, at_least=prompt.dropped)
    assert again == prompt


def test_fitting_leaves_out_the_same_messages_for_some_turns() -> None:
    vocab = FakeVocab()
    dropped: list[int] = []
    for exchanges in range(4, 40):
        prompt = fit_prompt(
            long_talk(exchanges),
            vocab,
            template(CHATML),
            n_ctx=800,
            reserve=200,
            at_least=dropped[-1] if dropped else 0,
        )
        dropped.append(prompt.dropped)
    assert dropped == sorted(dropped)
    changes = sum(before != after for before, after in pairwise(dropped))
    assert 0 < changes < len(dropped) // 3


def test_a_conversation_that_fits_again_is_whole_again() -> None:
    messages = long_talk(3)
    prompt = fit_prompt(messages, FakeVocab(), template(CHATML), n_ctx=4000, reserve=100, at_least=4)
    assert prompt.dropped == 0 and "question 0" in prompt.text


def test_last_message_too_long() -> None:
    with pytest.raises(PromptTooLongError) as caught:
        fit_prompt([user("x" * 500)], FakeVocab(), template(CHATML), n_ctx=128, reserve=16)
    assert caught.value.n_ctx == 128
    assert caught.value.n_prompt > 500
    assert str(caught.value.n_prompt) in str(caught.value)
    with pytest.raises(PromptTooLongError):
        fit_prompt([*long_talk(3), user("x" * 500)], FakeVocab(), template(CHATML), n_ctx=128, reserve=16)
