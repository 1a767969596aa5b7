"""The list of trainings and the keys: what is selected is what the last key has led to, however fast the keys come."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events

from tests.ui.scripted import ScriptedWorker, make_app, settle
from tests.ui.test_chat_screen import shown
from tests.ui.test_trainings import NARROW, open_trainings
from tests.ui.written_trainings import write_run
from tui_chat.checkpoints import cache
from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.ui.screens.training import TrainingScreen
from tui_chat.ui.trainings import TrainingShelf
from tui_chat.ui.widgets.run_list import RunList


async def test_keys_that_come_at_once_talk_to_the_run_they_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in enumerate(("first", "second", "third")):
        write_run(name, upto=500, written=3_000 - place)
    exported: list[str] = []

    def export(facts: CheckpointFacts) -> Path:
        exported.append(facts.path.parent.name)
        return Path("x.gguf")

    monkeypatch.setattr(cache, "exported", export)
    app = make_app(ScriptedWorker())
    async with app.run_test(size=NARROW) as pilot:
        for keys, name in (("down down enter", "third"), ("end up b", "second"), ("end home down enter", "second")):
            await open_trainings(pilot)
            exported.clear()
            for key in keys.split():
                app.post_message(events.Key(key, None))
            await settle(pilot, lambda: bool(exported), keys)
            assert exported == [name], keys


async def test_a_look_at_the_files_does_not_undo_a_choice() -> None:
    write_run("first", upto=20, written=2_000)
    write_run("second", upto=30, written=1_000)
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        await open_trainings(pilot)
        screen, runs = app.screen, app.screen.query_one(RunList)
        assert isinstance(screen, TrainingScreen)
        seen = TrainingShelf().look()
        assert seen is not None
        # The screen has not heard of the choice yet when the files have been looked at.
        runs.action_move(1)
        screen._show(seen)
        await settle(pilot, lambda: "step 30 of" in shown(app), "the second")
        await pilot.press("enter")
        await settle(pilot, lambda: "second has no checkpoint" in shown(app), "what the list has selected")
