"""The training's text is the very text the model's chat template gives later."""

from __future__ import annotations

from dataclasses import replace

import jinja2
import pytest

from tui_chat.checkpoints.template import CHAT_TEMPLATE
from tui_chat.training.dialogue import EMPTY_THINK, Dialogue, Exchange, Thinking

HELLO = Exchange("greeting", "Hello", "Hi!")
TOKEN = Exchange("token", "What is a token?", "A piece of text.", think="About tokens.")

SWITCH: dict[Thinking, dict[str, bool]] = {
    Thinking.FREE: {},
    Thinking.ON: {"enable_thinking": True},
    Thinking.OFF: {"enable_thinking": False},
}


def messages(dialogue: Dialogue) -> list[dict[str, str]]:
    result = [] if dialogue.system is None else [{"role": "system", "content": dialogue.system}]
    for exchange in dialogue.exchanges:
        result += [{"role": "user", "content": exchange.user}, {"role": "assistant", "content": exchange.reply}]
    return result


@pytest.mark.parametrize("thinking", list(Thinking))
@pytest.mark.parametrize("system", [None, "Be kind.", ""])
@pytest.mark.parametrize("trim", [True, False])
def test_prompt_is_what_the_template_renders(thinking: Thinking, system: str | None, trim: bool) -> None:
    last = replace(TOKEN, think="") if thinking is Thinking.OFF else TOKEN
    dialogue = Dialogue((HELLO, last), system, thinking)
    environment = jinja2.Environment(trim_blocks=trim, lstrip_blocks=trim)
    rendered = environment.from_string(CHAT_TEMPLATE).render(
        messages=messages(dialogue)[:-1], add_generation_prompt=True, **SWITCH[thinking]
    )
    assert rendered == dialogue.prompt()
    assert dialogue.text == rendered + f"{last.reply}<|im_end|>\n"


def test_whole_dialogue_is_what_the_template_renders() -> None:
    dialogue = Dialogue((HELLO, TOKEN), "Be kind.")
    rendered = jinja2.Environment().from_string(CHAT_TEMPLATE).render(messages=messages(dialogue))
    assert rendered == dialogue.text


def test_only_replies_are_the_models_own() -> None:
    own = [text for text, is_own in Dialogue((HELLO, TOKEN), "Be kind.").render() if is_own]
    assert own == ["Hi!<|im_end|>", "<think>\nAbout tokens.\n</think>\n\nA piece of text.<|im_end|>"]


def test_an_opened_dialogue_ends_with_the_first_sentence_of_its_answer() -> None:
    long = replace(TOKEN, answer="A piece of text. Often a word.", think="")
    opened = Dialogue((HELLO, long), "Be kind.", opened=True)
    whole = replace(opened, opened=False)
    assert [text for text, is_own in opened.render() if is_own] == ["Hi!<|im_end|>", "A piece of text."]
    assert opened.prompt() == whole.prompt()
    assert opened.text == whole.prompt() + "A piece of text."


def test_empty_think_block_stands_before_the_newest_answer_only() -> None:
    dialogue = Dialogue((HELLO, HELLO), None, Thinking.OFF)
    assert dialogue.text.count(EMPTY_THINK) == 1
    assert dialogue.prompt().endswith("<|im_start|>assistant\n" + EMPTY_THINK)
