"""`/educational`: whether each answer is followed by a log of how it came about."""

from __future__ import annotations

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

_WORDS = {True: "on", False: "off"}


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="educational",
            group=LESSONS,
            summary=N_("Log after each answer how it came about"),
            run=_educational,
            arguments=(
                Argument(
                    "on|off",
                    N_("on or off"),
                    lambda _context: [("on", _("a log after each answer")), ("off", _("answers alone"))],
                ),
            ),
            details=N_(
                "The log follows an answer through the model: text to ids, embedding width and layers, the time of "
                "prefill and decode, the use of the cache, and why it ended. `--educational` begins with it on, and so "
                "does `ui.educational` in the settings."
            ),
            examples=(
                ("/educational on", N_("logs from the next answer on")),
                ("/educational off", N_("shows answers alone")),
            ),
            present=lambda context: _WORDS[context.educational()],
        ),
    )


def _educational(context: CommandContext, invocation: Invocation) -> None:
    word = invocation.text().lower()
    if not word:
        context.show(
            _(
                "The educational mode is **{state}**. `/educational on` logs after each answer how it came about, "
                "`/educational off` leaves that out."
            ).format(state=_WORDS[context.educational()])
        )
        return
    if word not in _WORDS.values():
        raise UsageError(_("/educational is on or off, not {word!r}").format(word=word))
    context.set_educational(word == "on")
    context.notify(_("a log follows from the next answer on") if word == "on" else _("answers come without a log now"))
