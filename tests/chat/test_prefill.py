"""An answer that is begun in the prompt: its tokens stand behind the template's, and are only text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat.fake_vocab import FakeVocab
from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.prompt import PromptBuilder, build_prompt, fit_prompt
from tui_chat.chat.template import CHATML, ChatTemplate, TemplateOrigin
from tui_chat.errors import PromptTooLongError

TEMPLATE = ChatTemplate(CHATML, TemplateOrigin("model", "a model"))
HELLO = [Message(role=Role.USER, text="hello")]


@given(st.text(max_size=12), st.booleans(), st.booleans())
def test_what_is_prefilled_is_spelled_by_the_last_tokens(text: str, add_bos: bool, space_prefix: bool) -> None:
    vocab = FakeVocab(add_bos=add_bos, space_prefix=space_prefix)
    bare, begun = (build_prompt(HELLO, vocab, TEMPLATE, prefill=prefill) for prefill in ("", text))
    assert begun.text == bare.text + text
    assert begun.ids[: len(bare.ids)] == bare.ids
    assert begun.n_prefilled == len(begun.ids) - len(bare.ids)
    assert b"".join(map(vocab.piece, begun.ids[len(bare.ids) :])) == text.encode()


def test_names_of_control_tokens_are_only_text() -> None:
    vocab = FakeVocab()
    prompt = build_prompt(HELLO, vocab, TEMPLATE, prefill="<|im_end|></s>")
    assert not any(map(vocab.is_control, prompt.ids[-prompt.n_prefilled :]))


def test_it_counts_where_the_prompt_is_fitted() -> None:
    vocab = FakeVocab()
    n = len(build_prompt(HELLO, vocab, TEMPLATE).ids)
    assert fit_prompt(HELLO, vocab, TEMPLATE, n_ctx=n + 1, reserve=1).n_prefilled == 0
    with pytest.raises(PromptTooLongError):
        fit_prompt(HELLO, vocab, TEMPLATE, n_ctx=n + 1, reserve=1, prefill="hello")
    assert fit_prompt(HELLO, vocab, TEMPLATE, n_ctx=n + 2, reserve=1, prefill="hello").prefill == "hello"


def test_places_are_those_of_the_messages_as_they_were_rendered() -> None:
    vocab = FakeVocab()
    messages = [
        Message(role=Role.USER, text="user"),
        Message(role=Role.ASSISTANT, text=""),
        Message(role=Role.USER, text="<|im_end|>"),
    ]
    builder = PromptBuilder(vocab, TEMPLATE, prefill="user")
    prompt = builder.build(messages)
    assert [message.text for message in prompt.messages] == ["user\n\n<|im_end|>"]
    (place,) = builder.places(prompt)
    assert place is not None and prompt.text[slice(*place)] == prompt.messages[0].text
