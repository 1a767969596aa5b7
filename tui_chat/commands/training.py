"""The command about trainings: `/train` shows them, and how far they are."""

from __future__ import annotations

from tui_chat.commands.groups import PROGRAM
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.language import N_


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="train",
            aliases=("trainings",),
            group=PROGRAM,
            summary=N_("Watch a model learn, and talk to it meanwhile"),
            run=_train,
            arguments=(
                Argument(
                    "name",
                    N_("a training, or the path of one"),
                    lambda context: [(name, "") for name in context.trainings()],
                    rest=True,
                ),
            ),
            details=N_(
                "Shows the trainings on this machine, running and past: the loss curve, the figures, and what the "
                "model wrote at each step. Enter loads the newest checkpoint into the chat, `b` the best; the training "
                "goes on. Begin one in another terminal with `tui-chat train --preset demo`."
            ),
            examples=(
                ("/train", N_("shows the one that runs, or the last")),
                ("/train demo", N_("shows the training called demo")),
            ),
        ),
    )


def _train(context: CommandContext, invocation: Invocation) -> None:
    context.show_trainings(invocation.text() or None)
