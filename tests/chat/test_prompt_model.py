"""Prompts for the built-in model: its own template, its real vocabulary, and the cache across turns."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.prompt import build_prompt, fit_prompt
from tui_chat.chat.template import ChatTemplate, choose_template
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import GenerationFinished, GenerationRequest, Limits, SamplingParams, TokensGenerated

NAMES = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")

typed = st.lists(st.one_of(st.text(max_size=12), st.sampled_from([*NAMES, " hello", "\n"])), max_size=4).map("".join)


def template_of(engine: Engine) -> ChatTemplate:
    return choose_template(None, engine.info.chat_template, engine.info.name)


def control(engine: Engine, ids: Sequence[int]) -> list[int]:
    return [token for token in ids if engine.vocab.is_control(token)]


def user(text: str) -> Message:
    return Message(role=Role.USER, text=text)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(typed, min_size=1, max_size=3), st.data())
def test_any_text_any_ids(pocket: Engine, texts: list[str], data: st.DataObject) -> None:
    """Random tokens as answers: they stay as they are, and what is typed never steers the model."""
    vocab, template = pocket.vocab, template_of(pocket)
    plain = [token for token in range(vocab.n_vocab) if not vocab.is_control(token)]
    messages, expected = [], []
    for text in texts:
        ids = tuple(data.draw(st.lists(st.sampled_from(plain), min_size=1, max_size=6)))
        try:
            answer = vocab.detokenize(ids).decode()
        except UnicodeDecodeError:
            answer, ids = "hello", tuple(vocab.tokenize("hello"))
        messages += [user(text), Message(role=Role.ASSISTANT, text=answer, ids=ids)]
        expected.append(ids)
    messages.append(user("last"))
    prompt = build_prompt(messages, vocab, template)
    spelled = b"".join(map(vocab.piece, prompt.ids))
    assert spelled == prompt.text.encode("utf-8", "replace")
    assert prompt.reused_answers == len(expected)
    innocent = [message if message.ids else user("x") for message in messages]
    assert control(pocket, prompt.ids) == control(pocket, build_prompt(innocent, vocab, template).ids)
    at = 0
    for ids in expected:
        at = next(i for i in range(at, len(prompt.ids)) if prompt.ids[i : i + len(ids)] == ids) + len(ids)


def test_a_second_turn_prefills_only_what_is_new(pocket: Engine) -> None:
    template = template_of(pocket)
    conversation = Conversation()
    conversation.append(Role.USER, "hello")
    reused = prompt_length = generated = 0
    for turn in range(3):
        prompt = build_prompt(conversation.path, pocket.vocab, template)
        request = GenerationRequest(
            prompt_ids=prompt.ids,
            params=SamplingParams(temperature=1.5, seed=turn, min_p=0, top_k=0, top_p=1),
            limits=Limits(max_tokens=12, ignore_eos=True),
        )
        ids: list[int] = []
        text = ""
        for event in pocket.generate(request):
            if isinstance(event, TokensGenerated):
                ids += [token.id for token in event.tokens]
                text += event.text
            if isinstance(event, GenerationFinished):
                reused = event.usage.reused
        if turn:
            # Everything up to the last generated token; that one was never evaluated, or was cut off the text.
            assert prompt.reused_answers == turn
            assert reused >= prompt_length + generated - 1
        prompt_length, generated = len(prompt.ids), len(ids)
        answer = Message(role=Role.ASSISTANT, text=text, ids=tuple(ids), parent_id=conversation.path[-1].id)
        conversation.add(answer)
        conversation.append(Role.USER, "and then?")


def test_fitting_into_the_context(pocket: Engine) -> None:
    messages = []
    for number in range(60):
        messages += [user(f"question {number}"), Message(role=Role.ASSISTANT, text=f"answer {number}")]
    messages.append(user("last question"))
    prompt = fit_prompt(messages, pocket.vocab, template_of(pocket), n_ctx=512, reserve=128)
    assert 0 < prompt.dropped < 120
    assert 512 - 128 - 128 < len(prompt.ids) <= 512 - 128
    assert "last question" in prompt.text and "question 0\n" not in prompt.text


def test_thinking_reaches_the_template(pocket: Engine) -> None:
    template = template_of(pocket)
    off = build_prompt([user("hi")], pocket.vocab, template, enable_thinking=False)
    assert off.text.endswith("<think>\n\n</think>\n\n")
    assert build_prompt([user("hi")], pocket.vocab, template).text != off.text
