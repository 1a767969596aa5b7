"""`/perplexity`: how well the loaded model expects a file or a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _
from tui_chat.lessons.reading import like_a_path, names_file

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="perplexity",
            group=LESSONS,
            summary=N_("Show how well the model expected a text, token by token"),
            run=_perplexity,
            arguments=(Argument("file-or-text", N_("a text file, or a text"), optional=False, rest=True),),
            details=N_(
                "The model reads the text and is asked at each place how probable the next token was: a heat map of "
                "the surprise, the most and the least expected tokens, and perplexity, which sums it up. What names a "
                "file is read from there. Look at how the figure falls when a text says the same thing twice."
            ),
            examples=(
                ("/perplexity A token is a small piece of text.", N_("a sentence the model may know")),
                ("/perplexity text of piece small a is token A.", N_("the same words, in an order it does not expect")),
            ),
        ),
    )


def _perplexity(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if not text.strip():
        raise UsageError(_("name a file or give a text, as in /perplexity The sky is blue."))
    is_file = names_file(text)
    if not is_file and text == invocation.rest and like_a_path(text):
        raise UsageError(
            _("{name} is no file: correct the path, or put quotes around it if it is the text itself").format(name=text)
        )

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.perplexity import perplexity, whole_text
        from tui_chat.lessons.reading import opened

        if not is_file:
            return perplexity(engine, watch, text)
        with opened(text) as file:
            content = whole_text(file, text)
        return perplexity(engine, watch, content)

    context.report(f"/{invocation.name} {invocation.rest}", lesson)
