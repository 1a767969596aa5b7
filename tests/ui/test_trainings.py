"""Trainings in the app: what is read of them, the screen that shows them, and the way from a checkpoint to the chat."""

from __future__ import annotations

import fcntl
import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.checkpoints.made import make_checkpoint
from tests.ui.scripted import ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import line_of, shown
from tests.ui.test_hostile_text import ACTIVE, HOSTILE, actions
from tests.ui.written_trainings import (
    PROMPTS,
    progress_at,
    progress_line,
    sample_line,
    write_facts,
    write_lines,
    write_run,
)
from tui_chat.checkpoints import cache
from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.runs import LOCK, read_run, trainings_dir
from tui_chat.display.figures import perplexity_text
from tui_chat.errors import ModelNotFoundError, StorageError, UsageError
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.beside import beside
from tui_chat.ui.screens import training
from tui_chat.ui.screens.help import HelpScreen
from tui_chat.ui.screens.training import TrainingScreen
from tui_chat.ui.trainings import TrainingShelf, export_checkpoint, find_training, training_names
from tui_chat.ui.widgets.run_list import RunList
from tui_chat.ui.widgets.sample_list import SampleList
from tui_chat.ui.widgets.turns import Notice

NARROW, WIDE = (80, 24), (120, 40)


@contextmanager
def running(run: Path) -> Iterator[None]:
    """Holds a run's lock as its training does."""
    with (run / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOOK_INTERVAL_S", 0.05)


async def open_trainings(pilot: Pilot[Any], line: str = "/train") -> TuiChatApp:
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    await ready(pilot)
    await type_in(pilot, line)
    await settle(pilot, lambda: isinstance(app.screen, TrainingScreen), "the training screen")
    screen = app.screen
    await settle(pilot, lambda: screen.has_class("-some") or screen.has_class("-none"), "the first look")
    await pilot.pause()
    return app


# What is read


def test_a_shelf_tells_only_what_changed() -> None:
    run = write_run("demo", upto=500)
    shelf = TrainingShelf()
    first = shelf.look()
    assert first is not None
    assert [seen.run.name for seen in first] == ["demo"]
    assert first[0].told.state == "stopped"
    assert first[0].last is not None
    assert first[0].last.step == 500
    assert shelf.look() is None
    write_lines(run, [progress_line(progress_at(510, 1000, measured=False))])
    second = shelf.look()
    assert second is not None
    assert second[0].last is not None
    assert second[0].last.step == 510
    assert second[0].loss == progress_at(500, 1000, measured=True).validation_loss
    with running(run):
        third = shelf.look()
        assert third is not None
        assert third[0].told.state == "running"
        assert shelf.look() is None
    fourth = shelf.look()
    assert fourth is not None
    assert fourth[0].told.state == "stopped"
    write_facts(run, progress_at(510, 1000, measured=True))
    fifth = shelf.look()
    assert fifth is not None
    assert fifth[0].run.latest is not None
    assert fifth[0].run.latest.step == 510
    shutil.rmtree(run)
    assert shelf.look() == ()


def test_runs_stand_newest_first_and_one_from_elsewhere_before_them(tmp_path: Path) -> None:
    write_run("early", upto=20, written=1_000)
    write_run("late", upto=20, written=2_000)
    elsewhere = write_run("away", upto=20, written=500, directory=tmp_path / "out")
    seen = TrainingShelf(outside=elsewhere).look()
    assert seen is not None
    assert [one.run.name for one in seen] == ["away", "late", "early"]


def test_a_training_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    run = write_run("The sea", upto=20)
    away = write_run("away", upto=20, directory=tmp_path)
    assert training_names() == ["The sea"]
    assert find_training("The sea") == (run, False)
    assert find_training("the SEA") == (run, False)
    assert find_training(str(run)) == (run, False)
    assert find_training(str(away)) == (away, True)
    with pytest.raises(UsageError, match="there is no training the se: did you mean The sea"):
        find_training("the se")
    for odd in ("x" * 5000, "a\0b", "~nobody/x"):
        with pytest.raises(UsageError, match="there is no training"):
            find_training(odd)


def test_the_checkpoint_that_is_there_now_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run("demo", upto=750)
    seen = read_run(path)
    asked: list[int] = []

    def exported(facts: CheckpointFacts) -> Path:
        asked.append(facts.step)
        if facts.step == 750:  # the training replaces it at this moment
            shutil.rmtree(facts.path)
            write_facts(path, progress_at(760, 1000, measured=True))
            raise ModelNotFoundError("it is gone")
        return Path(f"{facts.step}.gguf")

    monkeypatch.setattr(cache, "exported", exported)
    facts, file = export_checkpoint(seen, best=False)
    assert (facts.step, file) == (760, Path("760.gguf"))
    assert asked == [750, 760]
    best = read_run(path).best
    assert best is not None
    assert export_checkpoint(seen, best=True)[0].step == best.step


def test_without_a_checkpoint_nothing_is_exported() -> None:
    with pytest.raises(ModelNotFoundError, match="demo has no checkpoint to talk to"):
        export_checkpoint(read_run(write_run("demo", upto=20)), best=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0847, "1.08"), (12.34, "12.3"), (1234.4, "1,234"), (8.1e12, "8e+12"), (math.nan, "nan"), (math.inf, "inf")],
)
def test_perplexities_are_short(value: float, text: str) -> None:
    assert perplexity_text(value) == text


async def test_work_beside_gives_its_result_or_its_error() -> None:
    assert await beside(lambda: threading.current_thread().name, name="aside") == "aside"
    with pytest.raises(StorageError, match="full"):
        await beside(lambda: _fail(StorageError("full")), name="aside")


def _has_height(samples: SampleList, heights: range) -> bool:
    return samples.virtual_size.height in heights


def _fail(error: Exception) -> None:
    raise error


# The screen


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_curve_figures_and_samples_of_a_running_training(size: tuple[int, int]) -> None:
    run = write_run("demo", upto=750)
    write_run("village", upto=1000, ended="finished", written=1_800_000_000)
    app = make_app()
    with running(run):
        async with app.run_test(size=size) as pilot:
            await open_trainings(pilot)
            picture = shown(app)
            # The one that runs comes first, though another wrote last.
            assert "▸ demo" in picture
            assert "● running" in picture
            assert "✓ finished" in picture
            for part in ("step 750 of 1,000", "75%", "40 s left", "11,840 tok/s", "3.6k parameters", "gradient 0.43"):
                assert part in picture, part
            assert "Enter talks to step 750" in picture
            assert "◆ validation" in picture
            assert any("⠀" < cell <= "⣿" for cell in picture)
            assert PROMPTS[0] + " went down to the" in picture
            # It keeps up by itself.
            write_lines(
                run,
                [progress_line(progress_at(760, 1000, measured=False)), sample_line(760, PROMPTS[0], " is awake.")],
            )
            await settle(pilot, lambda: "step 760 of 1,000" in shown(app), "the report")
            assert PROMPTS[0] + " is awake." in shown(app)
            await pilot.press("escape")
            await settle(pilot, lambda: app.screen is app.chat, "the chat")
            await settle(pilot, lambda: app.chat.focused is not None, "the composer")


async def test_another_run_is_chosen_by_key_mouse_and_name() -> None:
    write_run("demo", upto=500, written=3_000)
    write_run("broken", upto=300, ended="failed", written=2_000)
    write_run("third", upto=40, written=1_000, checkpoints=False)
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot, "/train Broken")
        assert "failed at step 300: the loss is not a number: try --lr 1e-3" in shown(app)
        await pilot.press("up")
        await settle(pilot, lambda: "step 500 of 1,000" in shown(app), "the run above")
        assert "stopped after 80 s" in shown(app) or "stopped after 1 min 20 s" in shown(app)
        await pilot.press("up")  # there is none
        await pilot.click(RunList, offset=(6, 3))
        await settle(pilot, lambda: "step 40 of 1,000" in shown(app), "the run that was clicked")
        assert "no checkpoint yet" in shown(app)
        await pilot.press("enter")
        await settle(
            pilot,
            lambda: "third has no checkpoint to talk to: it ended before it saved one" in shown(app),
            "the reason",
        )
        await pilot.press("b")
        assert isinstance(app.screen, TrainingScreen)
        # Others that come do not move the choice.
        write_run("newest", upto=20, written=9_000)
        await settle(pilot, lambda: "newest" in shown(app), "the new run")
        assert "step 40 of 1,000" in shown(app)


async def test_a_training_that_is_not_there_is_named_with_what_is_near() -> None:
    write_run("demo", upto=20)
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot)
        await type_in(pilot, "/train dmo")
        await settle(pilot, lambda: app.chat.query(Notice), "the notice")
        assert "there is no training dmo: did you mean demo?" in shown(app)
        assert app.screen is app.chat


async def test_without_a_training_it_says_how_to_begin_one_and_shows_it_when_it_begins() -> None:
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        assert "tui-chat train --preset demo" in shown(app)
        await pilot.press("enter", "b", "up", "down", "tab", "pagedown")
        run = trainings_dir() / "demo"
        write_lines(run, [{"event": "stage", "stage": "tokenizer", "text": "learning 512 pieces of words"}])
        (run / LOCK).touch()
        with running(run):
            await settle(pilot, lambda: "learning 512 pieces" in shown(app) and "running" in shown(app), "the run")
            assert "tui-chat train" not in shown(app)
            await settle(pilot, lambda: isinstance(app.focused, RunList), "the focus")


async def test_samples_fill_the_screen_when_they_are_looked_at_and_keep_their_place() -> None:
    run = write_run("demo", upto=750)
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        samples = app.screen.query_one(SampleList)
        low = samples.size.height
        await pilot.press("tab")
        await settle(pilot, lambda: samples.size.height > low, "the room for samples")
        await pilot.press("right")
        await settle(pilot, lambda: "prompt 1 of 2" in shown(app), "one prompt")
        assert PROMPTS[0] in shown(app)
        assert PROMPTS[1] not in shown(app)
        await pilot.press("right", "right")
        await settle(pilot, lambda: "one prompt at a time" in shown(app), "all prompts")
        write_lines(run, [sample_line(755, PROMPTS[0], " long" * 200)])
        await settle(pilot, lambda: "step 755" in shown(app), "the long sample")
        await pilot.press("end")
        await settle(pilot, lambda: "step 250" in shown(app), "the end")
        write_lines(run, [sample_line(760, PROMPTS[0], " new")])
        before = samples.virtual_size.height
        await settle(pilot, lambda: samples.virtual_size.height > before, "the new sample")
        await pilot.pause()
        assert "step 250" in shown(app)
        assert "step 760" not in shown(app)


async def test_a_sample_that_repeats_its_prompt_is_shown_whole() -> None:
    write_lines(write_run("demo", upto=20), [sample_line(20, "the ", "the the sea")])
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        await settle(pilot, lambda: "the the the sea" in shown(app), "the sample")


async def test_samples_prompts_and_names_stay_inert() -> None:
    run = write_run("[b]demo[@click=app.quit]x", upto=20)
    write_lines(run, [sample_line(30, text, text) for text in HOSTILE.values()])
    write_lines(run, [{"event": "failed", "step": 20, "text": HOSTILE["markup"] + HOSTILE["title"] + HOSTILE["bidi"]}])
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        assert "[b]demo[@click=" in shown(app)
        assert "failed at step 20: " + HOSTILE["markup"] in shown(app)
        await pilot.press("tab")
        for name in HOSTILE:
            await pilot.press("right")
            await pilot.pause()
            assert actions(app) == [], name
            assert not ACTIVE.search(shown(app).replace("\n", "")), name
        assert HOSTILE["heading"].split("\n")[0] in shown(app)
        await pilot.click(SampleList, offset=(3, 2))
        assert app.is_running


async def test_odd_figures_are_shown_as_they_are() -> None:
    run = write_run("demo", upto=20)
    line = {"event": "progress", "step": 30, "n_steps": 0, "n_tokens": 1, "train_loss": None, "seconds": None}
    write_lines(run, [line | {"gradient_norm": 1e300, "tokens_per_s": None, "learning_rate": 0}])
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        assert "step 30 of 0" in shown(app)
        assert "loss nan" in shown(app)
        assert "stopped after –" in shown(app)


async def test_help_and_a_small_terminal_over_the_trainings() -> None:
    write_run("demo", upto=20)
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        await pilot.press("f1")
        await settle(pilot, lambda: isinstance(app.screen, HelpScreen), "the help")
        await pilot.press("end")
        await settle(pilot, lambda: "training.best" in shown(app), "the keys of the trainings")
        await pilot.press("escape")
        await pilot.resize_terminal(50, 12)
        await settle(pilot, lambda: "terminal too small" in shown(app), "the complaint")
        await pilot.resize_terminal(60, 16)
        await settle(pilot, lambda: "step 20 of" in shown(app) and app.focused is not None, "the training")


async def test_samples_are_wrapped_for_the_size_there_is() -> None:
    write_run("demo", upto=20)
    write_lines(trainings_dir() / "demo", [sample_line(20, "One", " two three four five" * 12 + " end")])
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        samples = app.screen.query_one(SampleList)
        for size in (WIDE, NARROW, (170, 50), WIDE, NARROW):
            await pilot.resize_terminal(*size)
            lines = math.ceil(len("One" + " two three four five" * 12 + " end") / samples.size.width)
            heights = range(lines + 1, lines + 4)
            await settle(pilot, partial(_has_height, samples, heights), f"{size}")
            await pilot.press("tab", "end")
            await settle(pilot, lambda: " end " in shown(app), f"the end at {size}")
            await pilot.press("tab")


# From a checkpoint to the chat


async def test_the_newest_checkpoint_is_loaded_while_the_training_goes_on() -> None:
    worker = ScriptedWorker()
    run = trainings_dir() / "demo"
    make_checkpoint(run / "step-000250", step=250, validation_loss=1.5)
    make_checkpoint(run / "step-000500", step=500, validation_loss=1.9)
    write_lines(run, [progress_line(progress_at(500, 1000, measured=True))])
    (run / LOCK).touch()
    app = make_app(worker)
    with running(run):
        async with app.run_test(size=NARROW) as pilot:
            await open_trainings(pilot)
            assert "b to the best: step 250, loss 1.500" in shown(app)
            await pilot.press("enter")
            await settle(pilot, lambda: len(worker.loaded) == 2, "the newest")
            await open_trainings(pilot)
            await pilot.press("b")
            await settle(pilot, lambda: len(worker.loaded) == 3, "the best")
            assert app.screen is app.chat
            await settle(
                pilot, lambda: "You talk to demo after 250 of 1,000 steps: loss 1.500" in shown(app), "the note"
            )
    files = worker.loaded[1:]
    assert ["-500-" in files[0].name, "-250-" in files[1].name] == [True, True]
    assert [file.read_bytes()[:4] for file in files] == [b"GGUF", b"GGUF"]


async def test_an_export_that_takes_long_leaves_the_chat_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = ScriptedWorker()
    write_run("demo", upto=750)
    begun, go_on = threading.Event(), threading.Event()

    def exported(facts: CheckpointFacts) -> Path:
        begun.set()
        assert go_on.wait(20)
        return tmp_path / "demo.gguf"

    monkeypatch.setattr(cache, "exported", exported)
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        await pilot.press("enter")
        await settle(pilot, begun.is_set, "the export")
        assert "preparing the newest checkpoint of demo" in line_of(app)
        await type_in(pilot, "hello")
        worker.answer("Hi there.")
        await settle(pilot, lambda: "Hi there." in shown(app), "the answer of the model before")
        go_on.set()
        await settle(pilot, lambda: len(worker.loaded) == 2, "the switch")
        assert worker.loaded[-1] == tmp_path / "demo.gguf"


async def test_an_export_that_fails_is_said_in_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ScriptedWorker()
    write_run("demo", upto=750)
    monkeypatch.setattr(cache, "exported", lambda facts: _fail(StorageError("the disk is full: free 3 MB")))
    app = make_app(worker)
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        await pilot.press("enter")
        await settle(pilot, lambda: "the disk is full: free 3 MB" in shown(app), "the notice")
        assert len(worker.loaded) == 1
