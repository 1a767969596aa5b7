"""Slash commands: parsing, what each does through its context, and what it says to a wrong value."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.commands.recorder import Recorder, Unloaded
from tui_chat.chat.conversation import Role
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.help import TWINS
from tui_chat.commands.parsing import parse_command, unescape
from tui_chat.commands.registry import Command, Registry
from tui_chat.commands.settings import KNOBS, MAX_TOKENS
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import SamplingParams
from tui_chat.errors import SamplingError, TuiChatError, UsageError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.report import Facts, Report

REGISTRY = default_registry()


def run(line: str, context: Recorder | None = None) -> Recorder:
    context = context or Recorder()
    assert REGISTRY.execute(line, context)
    return context


def refusal(line: str) -> str:
    context = Recorder()
    with pytest.raises(UsageError) as caught:
        REGISTRY.execute(line, context)
    assert context == Recorder()
    return str(caught.value)


@pytest.mark.parametrize(
    "line", ["hello", "/usr/bin is full", "/", "/ temp", "//temp 1", "", "a /temp 1", "/2", "/temp:1"]
)
def test_messages_are_not_commands(line: str) -> None:
    assert parse_command(line) is None
    assert not REGISTRY.execute(line, Recorder())


def test_parsing() -> None:
    invocation = parse_command('  /System  it\'s "fine" ')
    assert invocation is not None
    assert (invocation.name, invocation.rest) == ("system", 'it\'s "fine"')
    assert invocation.text() == 'it\'s "fine"'
    for rest, text in (('"a b"', "a b"), ("'it'", "it"), ("'it's'", "'it's'"), ('"', '"'), ("a 'b'", "a 'b'")):
        parsed = parse_command(f"/x {rest}")
        assert parsed is not None and parsed.text() == text
    for rest, text in (('"a \\"b\\" c"', 'a "b" c'), ("''", ""), ('"a" "b"', '"a" "b"'), ("'a' b", "'a' b")):
        parsed = parse_command(f"/x {rest}")
        assert parsed is not None and parsed.text() == text
    quoted = parse_command("/x one \"two three\" four\\ five ''")
    assert quoted is not None and quoted.words() == ("one", "two three", "four five", "")
    for rest, words in (("it's", "not closed"), ("a\\", "backslash")):
        broken = parse_command(f"/x {rest}")
        assert broken is not None
        with pytest.raises(UsageError, match=words):
            broken.words()
    assert unescape("//temp") == "/temp"
    assert unescape("/usr") == "/usr"


@given(st.text(max_size=40))
def test_any_line_is_a_message_a_command_or_a_usage_error(line: str) -> None:
    try:
        REGISTRY.execute(line, Recorder())
        REGISTRY.execute("/" + line, Recorder())
    except TuiChatError as error:
        assert str(error)


def test_a_setting_changes() -> None:
    assert run("/temp 0.35").sampling["temperature"] == 0.35
    assert run("/TEMPERATURE 2").sampling["temperature"] == 2
    assert run("/top-k 7").sampling["top_k"] == 7
    assert run("/top-k off").sampling["top_k"] == 0
    assert run("/top-p '0.5'").sampling["top_p"] == 0.5
    assert run("/min-p off").sampling["min_p"] == 0
    assert run("/repeat-penalty off").sampling["repeat_penalty"] == 1
    context = run("/temp 0.1")
    assert context.notices == ["temperature is now 0.1"]
    assert run("/temp default", context).sampling["temperature"] == SamplingParams().temperature


def test_a_setting_without_value_is_shown() -> None:
    context = run("/top-p", Unloaded())
    assert context.sampling == Recorder().sampling
    assert "0.95" in context.shown[0] and "0 to 1" in context.shown[0]


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.command)
def test_the_shown_range_is_the_true_one(knob: object) -> None:
    from tui_chat.commands.settings import Knob

    assert isinstance(knob, Knob)
    step = 1 if knob.whole else 1e-6
    low, *high = map(float, re.findall(r"[\d.]+", knob.range.partition(",")[0]))
    for value in (low, *high, knob.off, float(knob.example)):
        if value is not None:
            SamplingParams(**{knob.field: value})  # type: ignore[arg-type]
    assert knob.range.partition(", ")[2] == ("" if knob.off is None else f"{knob.off:g} is off")
    for value in (low - step, *(top * (1 + 1e-6) + step for top in high)):
        with pytest.raises(SamplingError):
            SamplingParams(**{knob.field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/temp -1", "temperature must be from 0 to 100"),
        ("/temp 101", "temperature must be from 0 to 100"),
        ("/temp nan", "nan"),
        ("/temp warm", "for example /temp 0.7"),
        ("/temp 0,7", "write 0.7"),
        ("/temp 1,2,3", "for example /temp 0.7"),
        ("/tokens 1.024", "write it without separators"),
        ("/temp 1 2", "takes one value"),
        ("/top-k 4.5", "whole number"),
        ("/top-p 1.5", "top_p must be from 0 to 1"),
        ("/seed -1", "seed must be from 0"),
        ("/seed x", "whole number"),
        ("/tokens 0", "from 1"),
        ("/tokens many", "whole number"),
        ("/new now", "takes no argument"),
        ("/tmp 1", "did you mean /temp"),
        ("/hlep", "/help"),
        ("/xyzzy", "/help lists all commands"),
        ("/theme drak", "there is no theme drak"),
        ("/theme tui-chat-drak", "did you mean tui-chat-dark"),
        ("/help nothing-like-it", "no command"),
        ("/stop it's", "not closed"),
    ],
)
def test_wrong_use_says_what_to_write(line: str, words: str) -> None:
    assert words in refusal(line)


def test_seed() -> None:
    assert run("/seed 42").sampling["seed"] == 42
    drawn = run("/seed random").sampling["seed"]
    assert isinstance(drawn, int) and 0 <= drawn < 2**32
    context = run("/seed fresh", run("/seed 42"))
    assert context.sampling["seed"] is None
    assert "fresh" in run("/seed", Unloaded()).shown[0]
    assert run(f"/seed {2**64 - 1}").sampling["seed"] == 2**64 - 1


def test_tokens() -> None:
    assert run("/tokens 77").limits["max_tokens"] == 77
    assert "512" in run("/tokens", Unloaded()).shown[0]
    assert REGISTRY.find("tokens").arguments[0].hint == f"1 to {MAX_TOKENS}"


def test_system_takes_the_line_as_it_is() -> None:
    assert run("/system You're a pirate. Don't break it.").system_text == "You're a pirate. Don't break it."
    assert run('/system "be  brief"').system_text == "be  brief"
    assert run("/system a\nb").system_text == "a\nb"
    context = Recorder(system_text="old\ntext")
    assert "> old\n> text" in run("/system", context).shown[0]
    assert run("/system off", context).system_text is None
    assert "no system text" in run("/system", context).shown[1]


def test_stop() -> None:
    assert run("/stop", Recorder(answering=True)).calls == ["stop"]
    context = run("/stop '###' END", Unloaded())
    assert context.limits["stop"] == ("###", "END")
    assert "'###', 'END'" in run("/stop", context).shown[0]
    assert run("/stop off", context).limits["stop"] == ()
    assert context.calls == []


def test_program_commands() -> None:
    assert run("/new").calls == ["new"]
    assert run("/clear").calls == ["new"]
    assert run("/retry").calls == ["retry"]
    assert run("/quit").calls == ["quit"]
    assert run("/train").calls == ["trainings None"]
    assert run("/train the sea").calls == ["trainings the sea"]
    assert run("/model owner/name:file.gguf").calls == ["model owner/name:file.gguf"]
    assert run("/model '/a b/c.gguf'").calls == ["model /a b/c.gguf"]
    assert run("/model /a b/c.gguf").calls == ["model /a b/c.gguf"]
    assert "`/model builtin`" in run("/model").shown[0].replace("/model builtin", "`/model builtin`", 1)
    assert run("/theme AMBER").theme_name == "amber"
    assert "tui-chat-light" in run("/theme").shown[0]


def drawn(report: Report, width: int = 71) -> str:
    """A report as a card of a terminal of 80 cells shows it."""
    lines = [text_of(line) for line in draw(report.blocks, width)]
    assert all(len(line) <= width and "…" not in line for line in lines)
    return "\n".join(lines)


def test_help_names_every_command_once_in_its_group() -> None:
    (report,) = run("/help").reports
    text = drawn(report)
    groups = list(dict.fromkeys(command.group for command in REGISTRY))
    assert groups == ["Conversation", "Sampling", "See how it works", "Program"]
    places = [text.index(group) for group in groups]
    assert places == sorted(places)
    for command in REGISTRY:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{command.syntax}  ")]
        assert line[:26].rstrip() == command.syntax, "the summaries stand in one column"
        assert command.summary.split()[0] in line[26:]
    assert [entry["name"] for entry in report.document["commands"]] == [c.name for c in REGISTRY]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", REGISTRY, ids=lambda command: command.name)
def test_help_of_one_command(command: Command) -> None:
    for line in (f"/help {command.name}", f"/help /{command.name}", *(f"/help {alias}" for alias in command.aliases)):
        (report,) = run(line).reports
        text = drawn(report)
        assert command.syntax in text
        assert " ".join(command.summary.split()) in " ".join(text.split())
        assert all(example in text for example, _ in command.examples)
    assert command.examples
    assert command.summary[0].isupper() and not command.summary.endswith(".")


def test_help_of_a_setting_says_all_there_is_to_it() -> None:
    (report,) = run("/help temp", Recorder(sampling={"temperature": 1.25})).reports
    facts = next(dict(block.rows) for block in report.blocks if isinstance(block, Facts))
    assert facts == {
        "syntax": "`/temp [value]`",
        "also": "`/temperature`",
        "value": "0 to 100",
        "now": "1.25",
        "in a shell": "`tui-chat --temperature 0.7`",
    }
    text = drawn(report)
    assert "Watch the bars" in text
    assert "**" not in text
    assert "/temp 0.7  sets it" in text


def test_a_twin_belongs_to_a_command_there_is() -> None:
    assert set(TWINS) <= {command.name for command in REGISTRY}


@pytest.mark.parametrize("line", [line for command in REGISTRY for line, _ in command.examples])
def test_every_example_of_the_help_works(line: str, pocket: Engine) -> None:
    context = Recorder(engine=pocket)
    context.conversation.append(Role.USER, "What is a token?")
    run(line, context)
    assert all(report.document and draw(report.blocks, 78) for report in context.reports)


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="share a name"):
        Registry([*REGISTRY.commands, REGISTRY.find("exit")])
