"""What a demonstration is shown on: the prompt a chat would send, where the context does not hold all of it, and bans
that only the engine thread can look up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.commands.recorder import Recorder
from tests.lessons.contracts import check
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.commands.chatting import default_registry
from tui_chat.config import InferenceSettings
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import Limits, SamplingParams
from tui_chat.errors import SamplingError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.moment import next_token
from tui_chat.lessons.report import Report
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch
from tui_chat.ui.requests import RequestBuilder

REGISTRY = default_registry()


def talk(turns: int, system: str | None = None) -> Conversation:
    """A conversation of so many exchanges, and a message that is not answered yet."""
    conversation = Conversation()
    if system is not None:
        conversation.set_system(system)
    for turn in range(turns):
        conversation.append(Role.USER, f"What is number {turn}? " + "a piece of text " * 6)
        conversation.append(Role.ASSISTANT, f"It is {turn}. " + "one token after the other " * 4)
    conversation.append(Role.USER, "And what is a token?")
    return conversation


def text(report: Report) -> str:
    return " ".join(text_of(line).strip() for line in draw(report.blocks, 100))


def logits(context: Recorder, line: str = "/logits") -> dict[str, object]:
    return check("logits", found_on(context, line).document)


def found_on(context: Recorder, line: str) -> Report:
    REGISTRY.execute(line, context)
    return context.reports[-1]


def test_logits_without_a_prompt_is_the_beginning_of_the_last_answer(pocket: Engine) -> None:
    context = Recorder(engine=pocket)
    context.conversation.append(Role.USER, "What is a token?")
    asked = logits(context)
    context.conversation.append(Role.ASSISTANT, "A token is a piece of text.")
    assert logits(context) == asked
    assert asked["prompt_ids"] == list(context.scene().unanswered().prompt(pocket).ids)


@pytest.mark.parametrize("line", ["/logits x ²", f"/logits x {'9' * 5000}", f"/logits {'9' * 5000}"])
def test_what_is_no_number_to_count_to_is_text(pocket: Engine, line: str) -> None:
    context = Recorder(engine=pocket)
    found = logits(context, line)
    assert len(found["top"]) == 5  # type: ignore[arg-type]
    ids = pocket.vocab.tokenize(line.removeprefix("/logits "), add_special=True, parse_special=True)
    assert found["prompt_ids"] == ids[-511:]  # what the context has room for


def test_a_number_behind_the_text_is_how_many_to_show(pocket: Engine) -> None:
    context = Recorder(engine=pocket)
    for line, n in (("/logits x 7", 7), ("/logits x ٧", 7), ('/logits "x 7"', 5), ('/logits "a \\"b\\" 7" 3', 3)):
        assert len(logits(context, line)["top"]) == n, line  # type: ignore[arg-type]
    for line in ("/logits 1 2 3 4 5", "/logits the 1 of 3"):
        assert logits(context, line)["prompt"] == line.removeprefix("/logits ")
        assert len(context.reports[-1].document["top"]) == 5, line  # type: ignore[arg-type]
    assert "ends in 1·2·3·4·5;" in text(found_on(context, "/logits 1 2 3 4 5"))
    assert len(logits(context, '/logits "1 2 3" 4')["top"]) == 4  # type: ignore[arg-type]
    ids = pocket.vocab.tokenize('a "b" 7', add_special=True, parse_special=True)
    assert logits(context, '/logits "a \\"b\\" 7" 3')["prompt_ids"] == ids


@pytest.mark.parametrize("line", ["/logits", "/explain", "/template", "/temp", "/seed", "/tokens", "/system"])
def test_a_conversation_longer_than_the_context_says_what_is_left_out(pocket: Engine, line: str) -> None:
    context = Recorder(engine=pocket, system_text="Be brief.")
    context.conversation = talk(9, "Be brief.")
    context.limits["max_tokens"] = 8
    dropped = context.scene().fitted(pocket).dropped
    assert dropped > 0
    REGISTRY.execute(line, context)
    report = context.reports[-1]
    assert f"the first {dropped} messages are left out" in text(report)
    assert report.document["dropped"] == dropped


@pytest.mark.parametrize("line", ["/logits", "/explain", "/template", "/temp", "/system"])
def test_nothing_is_said_where_nothing_is_left_out(pocket: Engine, line: str) -> None:
    context = Recorder(engine=pocket, system_text="Be brief.")
    context.conversation = talk(1, "Be brief.")
    context.limits["max_tokens"] = 8
    REGISTRY.execute(line, context)
    assert context.reports[-1].document["dropped"] == 0 and "left out" not in text(context.reports[-1])


def test_the_system_text_is_weighed_on_the_same_messages(pocket: Engine) -> None:
    """Without it, one more exchange would have room: that must not be counted as what the text does."""
    system = "Be brief. " * 12
    context = Recorder(engine=pocket, system_text=system)
    context.limits["max_tokens"] = 8
    for turns in range(2, 10):
        context.conversation = talk(turns, system)
        scene = context.scene()
        told = scene.fitted(pocket)
        bare = replace(scene, messages=[m for m in scene.messages if m.role is not Role.SYSTEM]).fitted(pocket)
        if told.dropped > bare.dropped:
            break
    else:
        raise AssertionError("the system text never crowds out a message")
    REGISTRY.execute("/system", context)
    takes = context.reports[-1].document["n_tokens"]
    assert isinstance(takes, int)
    assert 0 < takes < len(pocket.vocab.tokenize(system)) + 20


def test_it_leaves_out_what_the_chat_left_out(pocket: Engine) -> None:
    """When the context overflows, the chat lets more go than it must, and keeps to that for some turns."""
    builder, inference = RequestBuilder(None, lambda _: None), InferenceSettings(max_length=8)

    def sent(messages: Sequence[Message]) -> tuple[int, ...]:
        return builder(pocket, messages, SamplingParams(), inference).prompt_ids

    conversation, differed = Conversation(), False
    for turn in range(40):
        conversation.append(Role.USER, f"What is number {turn}? " + "a piece of text " * 4)
        messages = conversation.path
        ids = sent(messages)
        scene = Scene(messages=messages, limits=Limits(max_tokens=8), left_out=builder.left_out)
        assert scene.fitted(pocket).ids == next_token(pocket, Watch(), scene).ids == ids
        differed = differed or replace(scene, left_out=lambda _: 0).fitted(pocket).ids != ids
        conversation.append(Role.ASSISTANT, f"It is {turn}.")
    assert differed, "the conversation was too short to show it"
    assert builder.left_out(talk(1).path) == 0, "another conversation"


def test_bans_by_text_are_looked_up_by_the_engine(pocket: Engine) -> None:
    banned = Scene(biased=InferenceSettings(ban=(" token", "/^ ?the$/"), logit_bias=((5, 1.0),)))
    ids = pocket.vocab.resolve("/^ ?the$/")
    bans = [(" token", -math.inf), *((token, -math.inf) for token in ids)]
    assert sorted(map(str, banned.sampling(pocket).logit_bias)) == sorted(map(str, [(5, 1.0), *bans]))
    moment = next_token(pocket, Watch(), banned.asking("What is a token?"))
    assert moment.params == banned.sampling(pocket)
    unknown = replace(banned, biased=InferenceSettings(ban=("/no such token/",)))
    unknown.fitted(pocket)
    with pytest.raises(SamplingError, match="no such token"):
        unknown.sampling(pocket)
