"""`/educational`: whether each answer is followed by a log of how it came about."""

from __future__ import annotations

from tui_chat.commands.lessons import GROUP
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError

_WORDS = {True: "on", False: "off"}


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="educational",
            group=GROUP,
            summary="Log after each answer how it came about",
            run=_educational,
            arguments=(
                Argument(
                    "on|off",
                    "on or off",
                    lambda _: [("on", "a log after each answer"), ("off", "answers alone")],
                ),
            ),
            details="The log follows an answer through the model: text to ids, embedding width and layers, the time of "
            "prefill and decode, the use of the cache, and why it ended. `--educational` begins with it on, and so "
            "does `ui.educational` in the settings.",
            examples=(("/educational on", "logs from the next answer on"), ("/educational off", "shows answers alone")),
            present=lambda context: _WORDS[context.educational()],
        ),
    )


def _educational(context: CommandContext, invocation: Invocation) -> None:
    word = invocation.text().lower()
    if not word:
        context.show(
            f"The educational mode is **{_WORDS[context.educational()]}**. `/educational on` logs after each answer "
            "how it came about, `/educational off` leaves that out."
        )
        return
    if word not in _WORDS.values():
        raise UsageError(f"/educational is on or off, not {word!r}")
    context.set_educational(word == "on")
    context.notify(f"the educational mode is {word}" + (" from the next answer on" if word == "on" else ""))
