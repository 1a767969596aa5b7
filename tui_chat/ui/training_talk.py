"""From a training to a chat with it: the screen that shows trainings, and the loading of what is chosen there."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.display.figures import perplexity_text
from tui_chat.errors import TuiChatError
from tui_chat.ui.beside import beside
from tui_chat.ui.screens.training import TalkTo, TrainingScreen
from tui_chat.ui.trainings import TrainingShelf, export_checkpoint, find_training
from tui_chat.ui.widgets.turns import NoticeKind

if TYPE_CHECKING:
    from tui_chat.ui.app import TuiChatApp


def show_trainings(app: TuiChatApp, name: str | None) -> None:
    """Shows the trainings over the chat, and loads the checkpoint that is chosen there.

    Args:
        app: The app whose chat is meant.
        name: The training to show first, by name or path; None shows the newest.

    Raises:
        UsageError: There is no such training.
    """
    path, outside = (None, False) if name is None else find_training(name)

    if isinstance(app.screen, TrainingScreen):
        app.pop_screen()

    def chosen(talk: TalkTo | None) -> None:
        if talk is not None:
            app.run_worker(_load(app, talk), group="checkpoint", exclusive=True, exit_on_error=True)

    app.push_screen(TrainingScreen(TrainingShelf(outside=path if outside else None), path), chosen)


async def _load(app: TuiChatApp, talk: TalkTo) -> None:
    from tui_chat.models.resolve import ModelSpec

    chat = app.chat
    chat.say(f"preparing the {'best' if talk.best else 'newest'} checkpoint of {talk.run.name} …")
    try:
        facts, file = await beside(partial(export_checkpoint, talk.run, best=talk.best), name="tui-chat-export")
    except (TuiChatError, OSError) as error:
        await chat.show_notice(str(error), NoticeKind.PROBLEM, title="! training")
        return
    app.session.switch_model(ModelSpec("path", path=file))
    chat.refresh_status()
    await chat.show_notice(_introduced(talk.run.name, facts))


def _introduced(name: str, facts: CheckpointFacts) -> str:
    perplexity = perplexity_text(math.exp(min(facts.loss, 700.0)))
    does = "It continues what you write." if facts.kind == "text" else "It answers what you write."
    return (
        f"You talk to {name} after {facts.step:,} of {facts.progress.n_steps:,} steps: loss {facts.loss:.3f}, "
        f"perplexity {perplexity}. {does} /train leads back to how it learns, and to newer checkpoints."
    )
