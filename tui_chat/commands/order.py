"""`/order`: which stages the sampler chain has, and in which order they run."""

from __future__ import annotations

import re

from tui_chat.commands.every_setting import ABOUT
from tui_chat.commands.fuzzy import did_you_mean, nearest
from tui_chat.commands.groups import SAMPLING
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.commands.settings import show_setting
from tui_chat.config.idle import STAGE_FIELDS
from tui_chat.engine.types import DEFAULT_ORDER
from tui_chat.errors import UsageError
from tui_chat.language import N_, _


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="order",
            group=SAMPLING,
            summary=N_("Choose the stages of the sampler chain and their order"),
            run=_order,
            arguments=(
                Argument(
                    "stages", N_("stages with commas between them, or default"), _values, rest=True, parts=_single
                ),
            ),
            details=N_(
                "Each stage works on what the one before it left, so the order matters: min-p before the temperature "
                "cuts the same tokens at any temperature, behind it a hot one lets more through. A stage that is not "
                "named does not run. In the sampling pane the stages are moved with Shift+↑ and Shift+↓ or the mouse."
            ),
            examples=(
                ("/order top_k,min_p,temperature", N_("these three, and the draw")),
                ("/order temperature,min_p", N_("the temperature before the cut")),
                ("/order default", N_("llama.cpp's order")),
                ("/order", N_("shows it, and what it does")),
            ),
            present=lambda context: _present(context),
        ),
    )


def _order(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.rest.lower()
    if not text:
        about = _("The stages run in this order: {stages}.").format(stages=f"`{_stages(context)}`")
        show_setting(context, invocation, "order", about)
        return
    if text == "default":
        names = DEFAULT_ORDER
    else:
        names = tuple(name.replace("-", "_") for name in re.split(r"[\s,]+", text.strip("[] ,")) if name)
    for name in names:
        if name not in DEFAULT_ORDER:
            near = nearest(name, DEFAULT_ORDER)
            hint = did_you_mean(near) if near else _("there are {names}").format(names=", ".join(DEFAULT_ORDER))
            raise UsageError(_("there is no stage {name}: {hint}").format(name=name, hint=hint))
    context.set_settings({"order": names})
    context.notify(_("the stages run in this order: {stages}").format(stages=_stages(context)))


def _stages(context: CommandContext) -> str:
    order = context.get_setting("order")
    return ", ".join(map(str, order)) if isinstance(order, tuple) and order else _("none, only the draw")


def _present(context: CommandContext) -> str:
    return _("default") if context.get_setting("order") == DEFAULT_ORDER else _stages(context)


def _values(context: CommandContext) -> list[tuple[str, str]]:
    found = [("default", ", ".join(DEFAULT_ORDER)), (",".join(DEFAULT_ORDER), _("all stages, to leave some out"))]
    if context.get_setting("order") != DEFAULT_ORDER:
        found.append((_stages(context).replace(" ", ""), _("as it is now")))
    return found


def _single(_context: CommandContext) -> list[tuple[str, str]]:
    return [(stage, _(ABOUT[STAGE_FIELDS[stage][0]])) for stage in DEFAULT_ORDER]
