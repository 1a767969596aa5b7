"""`/stats`: the figures of this conversation's answers, as they were kept while those were made."""

from __future__ import annotations

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="stats",
            group=LESSONS,
            summary=N_("Show what the answers took, and how sure the model was"),
            run=_stats,
            details=N_(
                "Tokens of the prompt, how many of them the cache held already, the time to the first token, prefill "
                "and decode speed, entropy and surprisal: of the last answer, and from turn to turn. Look at the "
                "prefill of the second turn: only what is new is read. Saved with `s`, the report has the time of "
                "every token."
            ),
            examples=(("/stats", N_("the figures of this conversation")),),
        ),
    )


def _stats(context: CommandContext, invocation: Invocation) -> None:
    from tui_chat.lessons.stats import stats

    answers = context.answers()
    if not answers and context.is_answering():
        raise UsageError(_("the first answer is still being written: ask again when it has ended"))
    context.show_report(f"/{invocation.name}", stats(answers))
