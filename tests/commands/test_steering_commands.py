"""The commands that fork, force, step, compare and keep traces: what they ask for, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.recorder import Recorder
from tui_chat.chat.conversation import Role
from tui_chat.chat.trace_file import read_trace
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.completion import complete
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import LoadOptions
from tui_chat.errors import TuiChatError
from tui_chat.lessons.drawing import draw, text_of

REGISTRY = default_registry()


def run(line: str, context: Recorder | None = None) -> Recorder:
    context = context or Recorder()
    assert REGISTRY.execute(line, context)
    return context


def refusal(line: str) -> str:
    with pytest.raises(TuiChatError) as caught:
        run(line)
    return str(caught.value)


def asked(engine: Engine) -> Recorder:
    context = Recorder(engine=engine)
    context.conversation.append(Role.USER, "What is a token?")
    return context


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("/fork", "fork None '' goes on"),
        ("/fork 17", "fork 16 '' goes on"),
        ("/fork 1 however", "fork 0 'however' goes on"),
        ('/fork 3 " however, it"', "fork 2 ' however, it' goes on"),
        ("/fork 3 it's", 'fork 2 "it\'s" goes on'),
        ('/force " On the other hand,"', "fork None ' On the other hand,' stops"),
        ("/force 17 it is", "fork None '17 it is' stops"),
    ],
)
def test_forks(line: str, call: str) -> None:
    assert run(line).calls == [call]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/fork 0", "counted from 1"),
        ("/fork here", "counted from 1"),
        ("/fork -3", "counted from 1"),
        ("/force", "give the text"),
        ("/step maybe", "on or off"),
        ("/break", ""),
        ("/break entropy", "a comparison must stand here"),
        ("/break p(best) < 1", "column 1"),
        ("/compare a=1 b=2", "there is no setting a"),
        ("/compare temp=warm temp=1", "temperature"),
        ("/compare temp=-1 temp=1", "temperature"),
        ("/compare stop=x", "stop is none"),
        ("/compare daring", "is no lane"),
        ("/compare seed=1 seed=2 seed=3 seed=4 seed=5", "compare 2 to 4 lanes, not 5"),
        ("/trace a b", "one file, not 2"),
        ("/trace save a b", "one file, not 2"),
        ("/replay a b", "one file, not 2"),
        ("/trace 'a", "not closed"),
    ],
)
def test_wrong_use_says_what_to_write(line: str, words: str) -> None:
    if words:
        assert words in refusal(line)
    else:
        assert "There are no breakpoints" in run(line).shown[0]


def test_step_mode_and_breakpoints() -> None:
    context = run("/step ON")
    assert context.steps and context.notices == ["step mode is on"]
    run("/step off", context)
    assert not context.steps
    run("/step", context)
    assert context.notices[-1] == "step mode is off"
    run("/break entropy > 3", context)
    run("/break entropy > 3", context)
    run("/break text ~ 'not so'", context)
    assert [found.source for found in context.stops_at] == ["entropy > 3", "text ~ 'not so'"]
    assert "`entropy > 3`" in run("/break", context).shown[0]
    run("/break off", context)
    assert context.stops_at == ()


def test_a_breakpoint_is_refused_with_a_caret_under_the_column() -> None:
    for condition, place in (("entropy >> 3", 9), ("text ~ 字 entropy", 9), ("rank > 5 andd p(top) < 1", 9)):
        text = refusal(f"/break {condition}")
        *_rest, line, caret = text.splitlines()
        assert line == f"  {condition}"
        from rich.cells import cell_len

        assert caret.index("^") == 2 + cell_len(condition[:place])


def test_lanes_differ_in_what_was_asked_for(pocket: Engine) -> None:
    context = asked(pocket)
    context.sampling["seed"] = 9
    run("/compare temp=0,top-k=5 precise seed=3,temp=1.5", context)
    (report,) = context.reports
    lanes = report.document["lanes"]
    assert [lane["seed"] for lane in lanes] == [9, 9, 3]  # type: ignore[attr-defined]
    assert [lane["label"] for lane in lanes] == ["temp=0,top-k=5", "precise", "seed=3,temp=1.5"]  # type: ignore[attr-defined]
    run("/compare temp=0", context)
    run("/compare", context)
    labels = [[lane["label"] for lane in report.document["lanes"]] for report in context.reports[1:]]  # type: ignore[attr-defined]
    assert labels == [["present settings", "temp=0"], ["present settings", "another seed"]]
    for report in context.reports:
        for width in (40, 71, 120):
            lines = [text_of(line) for line in draw(report.blocks, width)]
            assert all(len(line) <= width for line in lines)


def test_traces_are_saved_shown_and_replayed(pocket: Engine, home: Path, tmp_path: Path) -> None:
    context = asked(pocket)
    file = tmp_path / "an answer.jsonl"
    run(f"/trace save '{file}'", context)
    run("/trace save", context)
    run("/trace", context)
    saved, kept, shown = [make() for make in context.made]
    (in_folder,) = (home / "data" / "traces").iterdir()
    assert saved.document["ids"] == kept.document["ids"] == shown.document["ids"]
    assert [token.id for token in read_trace(file).tokens] == saved.document["ids"]
    offered = complete("/trace ", REGISTRY, context)
    assert offered is not None and [item.label for item in offered.suggestions] == ["save", in_folder.name]
    for line in (f"/replay '{file}'", f"/replay {in_folder.name}", "/replay"):
        run(line, context)
        assert context.reports[-1].document["same"] is True
    run(f"/trace {in_folder.name}", context)
    again = context.made[-1]()
    assert again.document["surprisals"] == saved.document["surprisals"]
    assert all(len(text_of(line)) <= 71 for line in draw(again.blocks, 71))


def test_a_missing_trace_is_told_of() -> None:
    context = run("/trace nowhere.jsonl")
    with pytest.raises(TuiChatError, match="no such file"):
        context.made[0]()


def test_an_answer_of_another_model_is_not_replayed(pocket: Engine, noise_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    run(f"/trace save {file}", context := asked(pocket))
    context.made[0]()
    with Engine.load(noise_path, LoadOptions(n_ctx=256)) as noise, pytest.raises(TuiChatError, match="another model"):
        run(f"/replay {file}", asked(noise))


def test_completion_offers_conditions_and_lanes() -> None:
    offered = complete("/break ent", REGISTRY, Recorder())
    assert offered is not None and offered.suggestions[0].insert == "entropy > 3"
    offered = complete("/compare temp=0.2 te", REGISTRY, Recorder())
    assert offered is not None and offered.suggestions[0].label.startswith("temp=")
