"""The command `/haiku`: one prompt at four temperatures, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.language import N_

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="haiku",
            group=LESSONS,
            summary=N_("Write a haiku at four temperatures, side by side"),
            run=_haiku,
            arguments=(Argument("topic", N_("what it is about"), rest=True),),
            details=N_(
                "The same prompt greedy and at temperature 0.7, 1.5 and 2.0, with one seed; temperature alone acts. "
                "Look at the place where the texts first part: there stand the tokens the model had to choose from, "
                "and how each temperature shifts the probability between them. `/seed` gives other draws."
            ),
            examples=(("/haiku", N_("about the sea")), ("/haiku winter", N_("about a topic of your own"))),
        ),
    )


def _haiku(context: CommandContext, invocation: Invocation) -> None:
    topic = invocation.text() if invocation.rest else None
    scene, system = context.scene(), context.system()

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.haiku import haiku, question

        return haiku(engine, watch, scene.asking(question(topic), system))

    context.report(f"/haiku {invocation.rest}".rstrip(), lesson)
