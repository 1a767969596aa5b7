"""The commands that go on otherwise from the middle of an answer: `/fork` and `/force`."""

from __future__ import annotations

from tui_chat.commands.groups import CONVERSATION
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="fork",
            group=CONVERSATION,
            summary=N_("Go on from the middle of an answer, in another way"),
            run=_fork,
            arguments=(
                Argument("token", N_("which token gives way, from 1")),
                Argument("text", N_("what takes its place; quotes keep spaces"), rest=True),
            ),
            details=N_(
                "The tokens before it stay as they are, the text is put behind them, and the model goes on: a sibling "
                "of the answer, which stays (Alt+← and Alt+→ go through them). Without a text the token is drawn anew "
                "with the present settings; with the same seed and settings the same one comes again. Without a "
                "number it is the token selected in the inspector, else the end of the answer. In the inspector, "
                "Enter on a candidate does the same with that candidate."
            ),
            examples=(
                ('/fork 3 " however"', N_("puts a word in place of the third token")),
                ("/fork 17", N_("draws from token 17 on anew")),
                ("/fork", N_("goes on from the selected token, or from the end")),
            ),
        ),
        Command(
            name="force",
            group=CONVERSATION,
            summary=N_("Put a text into the answer, and stop there"),
            run=_force,
            arguments=(Argument("text", N_("what to put in; quotes keep spaces"), optional=False, rest=True),),
            details=N_(
                "In place of the token selected in the inspector and all behind it, else at the end of the answer: a "
                "sibling that ends with the text. `/fork` goes on from there. While an answer waits in step mode, the "
                "text is put in and it waits again. `f` on a candidate in the inspector does the same with that one."
            ),
            examples=(('/force " On the other hand,"', N_("puts it in; spaces count, so quotes keep them")),),
        ),
    )


def _fork(context: CommandContext, invocation: Invocation) -> None:
    word, _blank, rest = invocation.rest.partition(" ")
    if not word:
        context.fork(None, "", goes_on=True)
        return
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise UsageError(
            _("{word!r} is no token's number: write /fork 17 or /fork 17 TEXT, counted from 1").format(word=word)
        )
    context.fork(int(word) - 1, Invocation(invocation.name, rest.strip()).text(), goes_on=True)


def _force(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if not text:
        raise UsageError(_('give the text to put in, as in /force " however"'))
    context.fork(None, text, goes_on=False)
