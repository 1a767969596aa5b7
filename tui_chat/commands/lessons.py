"""The commands that demonstrate something on the loaded model: each puts a report into the transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch

GROUP = "See how it works"
"""Heading of these commands in the help."""


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="logits",
            group=GROUP,
            summary="Show what the model would say next, and how sure it is",
            run=_logits,
            arguments=(Argument("prompt", "text to continue as it stands, and how many tokens to show", rest=True),),
            details="One forward pass. Without a prompt, the next token of this conversation: the beginning of the "
            "answer to your last message. Look at the entropy: near 0 the model is sure.",
            examples=(
                ("/logits", "the distribution at the end of this conversation"),
                ("/logits The capital of France is", "after a text of your own"),
                ('/logits "Once upon a" 20', "the best 20"),
            ),
        ),
    )


def _logits(context: CommandContext, invocation: Invocation) -> None:
    text, n = _text_and_count(invocation, 5)
    scene = context.scene()
    if not text and not scene.messages:
        raise UsageError("nothing was said yet: give a text to continue, as in /logits The sky is")

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.logits import logits

        ids = (
            tuple(engine.vocab.tokenize(text, add_special=True, parse_special=True))
            if text
            else scene.prompt(engine).ids
        )
        return logits(engine, watch, ids, n=n)

    context.report(_titled(invocation), lesson)


def _text_and_count(invocation: Invocation, default: int) -> tuple[str, int]:
    """A text and a number after it; quotes around the text keep a number at its end in it."""
    text, count = invocation.text(), default
    if text != invocation.rest:
        return text, count
    before, _, last = invocation.rest.rpartition(" ")
    if last.isdigit():
        text, count = Invocation(invocation.name, before.strip()).text(), int(last)
    return text, count


def _titled(invocation: Invocation) -> str:
    return f"/{invocation.name} {invocation.rest}".rstrip()
