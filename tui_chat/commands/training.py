"""The command about trainings: `/train` shows them, and how far they are."""

from __future__ import annotations

from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="train",
            aliases=("trainings",),
            group="Program",
            summary="Watch a model learn, and talk to it meanwhile",
            run=_train,
            arguments=(
                Argument(
                    "name",
                    "a training, or the path of one",
                    lambda context: [(name, "") for name in context.trainings()],
                    rest=True,
                ),
            ),
            details="Shows the trainings on this machine, running and past: the loss curve, the figures, and what the "
            "model wrote at each step. Enter loads the newest checkpoint into the chat, `b` the best; the training "
            "goes on. Begin one in another terminal with `tui-chat train --preset demo`.",
            examples=(
                ("/train", "shows the one that runs, or the last"),
                ("/train demo", "shows the training called demo"),
            ),
        ),
    )


def _train(context: CommandContext, invocation: Invocation) -> None:
    context.show_trainings(invocation.text() or None)
