"""`/set`, `/think`, `/prefill` and what a setting without a value shows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.commands.recorder import Recorder, Unloaded
from tui_chat.chat.conversation import Role
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.every_setting import ABOUT
from tui_chat.commands.settings import KNOBS, shown
from tui_chat.config import InferenceSettings, parse_setting
from tui_chat.engine.engine import Engine
from tui_chat.errors import ConfigError, TuiChatError, UsageError
from tui_chat.lessons.drawing import draw, text_of

REGISTRY = default_registry()


def run(line: str, context: Recorder | None = None) -> Recorder:
    context = context or Recorder()
    assert REGISTRY.execute(line, context)
    return context


def text(context: Recorder, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(context.reports[-1].blocks, width))


@pytest.fixture
def talking(pocket: Engine) -> Recorder:
    context = Recorder(engine=pocket)
    context.conversation.append(Role.USER, "What is a token?")
    return context


def test_every_setting_of_inference_is_there() -> None:
    assert {*ABOUT, "system"} == set(InferenceSettings.model_fields)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("/set typical_p 0.9", "typical_p", 0.9),
        ("/set typical-p 1", "typical_p", 1.0),
        ("/set typ 0.8", "typical_p", 0.8),
        ("/set xtc-t 0.2", "xtc_threshold", 0.2),
        ("/set TEMP 0.3", "temperature", 0.3),
        ("/set order top_k, temperature", "order", ("top_k", "temperature")),
        ("/set logit_bias {42: 1.5, 7: -inf}", "logit_bias", ((42, 1.5), (7, float("-inf")))),
        ('/set ban [42, " however"]', "ban", (42, " however")),
        ('/set ban " however"', "ban", (" however",)),
        ("/set stop ['###', END]", "stop", ("###", "END")),
        ("/set seed 5", "seed", 5),
        ("/set seed null", "seed", None),
        ("/set time_limit_s 2.5", "time_limit_s", 2.5),
        ("/set enable_thinking false", "enable_thinking", False),
        ("/set max_length 9", "max_tokens", 9),
        ("/set max_tokens 9", "max_tokens", 9),
    ],
)
def test_a_setting_by_its_name(line: str, name: str, value: object) -> None:
    context = run(line)
    assert context.get_setting(name) == value
    assert len(context.notices) == 1 and "is now" in context.notices[0]


def test_back_to_what_it_was() -> None:
    context = run("/set typical_p default", run("/set typical_p 0.5"))
    assert context.get_setting("typical_p") == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/set typcal_p 1", "did you mean typical_p"),
        ("/set xtc 1", "did you mean xtc_threshold or xtc_probability"),
        ("/set n_ctx 5", "there is no setting n_ctx: /set lists all"),
        ("/set system be brief", "change it with /system"),
        ("/set top_k many", "inference.top_k must be a whole number, not the text 'many'"),
        ("/set top_p 2", "must be from 0 to 1"),
        ("/set max_length 0", "at least 1"),
        ("/set order top_q", "unknown sampling stage"),
        ("/set ban {", "is not a value in YAML"),
        ("/set enable_thinking on", "true or false"),
        ("/think maybe", "on, off or auto"),
    ],
)
def test_wrong_use_says_what_to_write(line: str, words: str) -> None:
    context = Recorder()
    with pytest.raises(UsageError) as caught:
        REGISTRY.execute(line, context)
    assert words in str(caught.value) and context == Recorder()


def test_values_written_as_in_the_environment() -> None:
    assert parse_setting("llm.n_ctx", "2048") == 2048
    assert parse_setting("inference.system", "on: [it]") == "on: [it]"
    with pytest.raises(ConfigError, match="did you mean inference\\.temperature"):
        parse_setting("inference.temprature", "1")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.7, "0.7"), (None, "none"), ((), "none"), (("top_k", "min_p"), "top_k, min_p"), (("a b",), "'a b'"),
        (((42, 1.5),), "42: 1.5"), (True, "True"), (40, "40"),
    ],
)  # fmt: skip
def test_values_as_people_write_them(value: object, words: str) -> None:
    assert shown(value) == words


def test_all_settings_are_listed_with_what_was_changed() -> None:
    context = run("/set", run("/set top_k 3"))
    named = [line.split()[0] for line in text(context, 54).splitlines()[1 : len(ABOUT) + 1]]
    assert named == list(ABOUT)
    assert "3 (was 40)" in text(context, 54) and "0.95" in text(context)


@pytest.mark.parametrize("line", [*(f"/{knob.command}" for knob in KNOBS), "/seed", "/tokens", "/set dry_base"])
def test_without_a_value_it_shows_what_it_does(talking: Recorder, line: str) -> None:
    run(line, talking)
    assert talking.shown == [] and talking.calls == [f"report {line}"]
    assert "What it does to the next token" in text(talking, 54)


def test_what_it_does_follows_the_setting(talking: Recorder) -> None:
    run("/top-k", run("/set top_k 3", talking))
    document = talking.reports[-1].document
    assert document["value"] == 3 and document["after"]["survivors"] == 3  # type: ignore[index]
    run("/stop", run("/stop '###'", talking))
    assert talking.reports[-1].document["setting"] == "stop"
    run("/set ban", run('/set ban [" token"]', talking))
    after = talking.reports[-1].document["after"]
    assert after["survivors"] == 4091  # type: ignore[index]  # all that hold it


@pytest.mark.parametrize("line", ["/temp", "/seed", "/tokens", "/set dry_base", "/set stop", "/stop", "/system"])
def test_without_a_model_it_is_said_in_words(line: str) -> None:
    context = Unloaded()
    context.conversation.append(Role.USER, "Hi")
    run(line, context)
    assert context.shown and not context.calls


def test_an_example_stands_in_where_nothing_was_asked(pocket: Engine) -> None:
    context = run("/temp", Recorder(engine=pocket))
    assert context.reports[-1].document["example"] is True
    assert "Nothing was asked yet" in text(context) and len(context.conversation.path) == 0


def test_the_system_text_shows_what_it_does(pocket: Engine) -> None:
    context = Recorder(engine=pocket, system_text="Answer in Spanish.")
    context.conversation.append(Role.SYSTEM, "Answer in Spanish.")
    context.conversation.append(Role.USER, "What is a token?")
    assert "divergence" in run("/system", context).reports[-1].document


def test_thinking(talking: Recorder) -> None:
    for word, state in (("on", True), ("OFF", False), ("auto", None)):
        run(f"/think {word}", talking)
        assert talking.get_setting("enable_thinking") is state
        assert talking.notices[-1] == f"thinking is {word.lower()} from the next answer on"
        assert talking.reports[-1].document["enable_thinking"] is state
    run("/think", talking)
    assert len(talking.notices) == 3 and len(talking.reports) == 4
    context = run("/think off", Unloaded())
    assert context.get_setting("enable_thinking") is False and context.calls == []
    assert "Thinking is **off**" in context.shown[0]


def test_prefilling() -> None:
    context = run('/prefill "Well, "')
    assert context.begins_with == "Well, " and context.notices == ["the next answer begins with 'Well, '"]
    assert "    Well, " in run("/prefill", context).shown[0]
    assert run("/prefill It's *so* `so`", context).begins_with == "It's *so* `so`"
    run("/prefill off", context)
    assert context.begins_with == "" and "Nothing begins" in run("/prefill", context).shown[-1]


def test_the_prompt_of_the_last_message(talking: Recorder) -> None:
    run("/prefill Well", talking)
    talking.conversation.append(Role.ASSISTANT, "An answer.")
    document = run("/template", talking).reports[-1].document
    messages = document["messages"]
    assert isinstance(messages, Sequence) and len(messages) == 1
    assert str(document["text"]).endswith("<|im_start|>assistant\nWell")


def test_a_message_longer_than_the_context(talking: Recorder) -> None:
    talking.conversation.append(Role.USER, "word " * 600)
    with pytest.raises(TuiChatError, match="the context holds"):
        run("/temp", talking)
