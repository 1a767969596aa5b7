"""`/logits`: what the model would say next."""

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

_MOST_DIGITS = 9
"""Of a number to count to; a longer one is text."""


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="logits",
            group=LESSONS,
            summary=N_("Show what the model would say next, and how sure it is"),
            run=_logits,
            arguments=(
                Argument("prompt", N_("text to continue as it stands, and how many tokens to show"), rest=True),
            ),
            details=N_(
                "One forward pass. Without a prompt, the next token of this conversation: the beginning of the "
                "answer to your last message. A number behind the prompt is how many tokens to show, unless the "
                "prompt has numbers itself: then put quotes around it. Look at the entropy: near 0 the model is sure."
            ),
            examples=(
                ("/logits", N_("how the answer to your last message begins")),
                ("/logits The capital of France is", N_("after a text of your own")),
                ('/logits "Once upon a" 20', N_("the best 20")),
                ("/logits 1 2 3 4 5", N_("numbers, all of them the prompt")),
            ),
        ),
    )


def _logits(context: CommandContext, invocation: Invocation) -> None:
    text, n = _text_and_count(invocation, 5)
    scene = context.scene().unanswered()
    if not text and not scene.messages:
        raise UsageError(_("nothing was said yet: give a text to continue, as in /logits The sky is"))

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.excerpt import end_of_text
        from tui_chat.lessons.logits import logits

        if text:
            ids, used = end_of_text(engine, text)
            return logits(engine, watch, ids, n=n, used=used)
        prompt = scene.fitted(engine)
        return logits(engine, watch, prompt.ids, n=n, dropped=prompt.dropped)

    context.report(_titled(invocation), lesson)


def _text_and_count(invocation: Invocation, default: int) -> tuple[str, int]:
    """A text and a number after it.

    The number belongs to a text that has a digit in it before, as "1 2 3 4 5" does, unless that text is in quotes.
    """
    text, count = invocation.text(), default
    if text != invocation.rest:
        return text, count
    before, _blank, last = invocation.rest.rpartition(" ")
    prompt = Invocation(invocation.name, before.strip())
    is_quoted = prompt.text() != prompt.rest
    if last.isdecimal() and len(last) <= _MOST_DIGITS and (is_quoted or not any(map(str.isdecimal, before))):
        text, count = prompt.text(), int(last)
    return text, count


def _titled(invocation: Invocation) -> str:
    return f"/{invocation.name} {invocation.rest}".rstrip()
