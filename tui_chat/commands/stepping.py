"""Step mode: `/step` has answers wait before each token, `/break` says where a run stops by itself."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.engine.breakpoints import parse_breakpoint
from tui_chat.errors import BreakpointError, UsageError
from tui_chat.language import N_, _

_STATES = {"on": True, "off": False}

CONDITIONS: Sequence[tuple[str, str]] = (
    ("entropy > 3", N_("the model is unsure: nats, before the chain")),
    ("p(top) < 40%", N_("even the best token is improbable")),
    ("p(chosen) < .1", N_("the draw fell on an improbable token")),
    ("surprisal > 4", N_("the same in nats: −ln p of the token drawn")),
    ("rank > 5", N_("the draw fell on none of the five best")),
    ("text ~ not", N_("the token holds a text or a pattern")),
    ("entropy > 2 and rank > 1", N_("both at once; or and brackets hold too")),
    ("off", N_("runs go to the end")),
)
"""(condition, what it waits for) to begin with."""


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="step",
            group=LESSONS,
            summary=N_("Write answers one token at a time"),
            run=_step,
            arguments=(
                Argument(
                    "state",
                    N_("on or off"),
                    lambda _context: [("on", _("wait before each token")), ("off", _("run on"))],
                ),
            ),
            details=N_(
                "The answer waits before each token and shows what it would be drawn from. Space draws, Backspace "
                "takes the last one back, Enter takes the marked candidate in its place, `b` bans it, `r` runs to the "
                "end or to a breakpoint. Sliders act on the token that waits. F6 does the same as this command, in "
                "the middle of an answer too."
            ),
            examples=(
                ("/step on", N_("answers wait before each token")),
                ("/step off", N_("they run again")),
                ("/step", N_("says which it is")),
            ),
            present=lambda context: _word(context.stepping()),
        ),
        Command(
            name="break",
            group=LESSONS,
            summary=N_("Stop a run where a condition holds"),
            run=_break,
            arguments=(
                Argument(
                    "condition",
                    N_("as in entropy > 3, or off"),
                    lambda _context: [(condition, _(about)) for condition, about in CONDITIONS],
                    rest=True,
                ),
            ),
            details=N_(
                "An answer runs until a token comes for which the condition holds, and waits before it as in step "
                "mode. Figures: `entropy`, `surprisal`, `rank`, `p(top)`, `p(chosen)`, compared with a number, and "
                "`text ~ pattern`; `and`, `or` and brackets join them. Each one given is added to the list; one that "
                "holds is enough."
            ),
            examples=(
                ("/break entropy > 3", N_("stops where the model is unsure")),
                ("/break text ~ not", N_("stops before a token that holds “not”")),
                ("/break", N_("lists them")),
                ("/break off", N_("removes them all")),
            ),
            present=lambda context: ", ".join(found.source for found in context.breakpoints()) or _("none"),
        ),
    )


def _step(context: CommandContext, invocation: Invocation) -> None:
    word = invocation.text().lower()
    if word:
        if word not in _STATES:
            raise UsageError(_("/step is on or off, not {word!r}").format(word=word))
        context.set_stepping(_STATES[word])
    context.notify(_("step mode is {state}").format(state=_word(context.stepping())))


def _word(on: bool) -> str:
    return _("on") if on else _("off")


def _break(context: CommandContext, invocation: Invocation) -> None:
    text, present = invocation.text(), tuple(context.breakpoints())
    if not text:
        listed = "\n".join(f"- `{found.source}`" for found in present)
        none = _("There are no breakpoints: a run goes to the end. `/break entropy > 3` adds one.")
        context.show(_("A run stops before a token where one of these holds:") + f"\n\n{listed}" if present else none)
        return
    if text == "off":
        context.set_breakpoints(())
        context.notify(_("no breakpoints are left"))
        return
    try:
        fresh = parse_breakpoint(text)
    except BreakpointError as error:
        # What stands before the column, in cells: the caret is to stand under the place.
        before = " " * cell_len(text[: error.column - 1])
        raise UsageError(f"{error}\n\n  {text}\n  {before}^") from error
    if all(found.source != fresh.source for found in present):
        context.set_breakpoints((*present, fresh))
    context.notify(_("a run stops where {condition}").format(condition=fresh.source))
