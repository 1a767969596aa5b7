"""The command `/explain`: one message through the whole pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="explain",
            group=LESSONS,
            summary=N_("Show the whole pipeline, from the settings to the last token"),
            run=_explain,
            arguments=(Argument("prompt", N_("a message of your own"), rest=True),),
            details=N_(
                "Answers a message beside the conversation and shows every stage: settings, device, template, "
                "token ids, prefill, the first token through the sampler chain, the loop, why it ended, statistics. "
                "Without a prompt it answers your last message. Look at what each stage leaves of the candidates."
            ),
            examples=(
                ("/explain", N_("your last message, answered once more")),
                ("/explain What is a token?", N_("a message with nothing said before")),
            ),
        ),
    )


def _explain(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text().strip()
    scene = context.scene().asking(text, context.system()) if text else context.scene().unanswered()
    if not scene.messages:
        raise UsageError(_("nothing was said yet: give a message, as in /explain What is a token?"))

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.explain import explain

        return explain(engine, watch, scene)

    context.report(f"/explain {invocation.rest}".rstrip(), lesson)
