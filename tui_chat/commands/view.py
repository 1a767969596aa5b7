"""The command `/view`: the messages as text, or as the tokens they are made of."""

from __future__ import annotations

from tui_chat.commands.fuzzy import did_you_mean, nearest
from tui_chat.commands.groups import CONVERSATION
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

MEASURES = {
    "probability": N_("how likely each token was"),
    "surprisal": N_("how little each token was expected"),
    "entropy": N_("how open it was what would come"),
    "rank": N_("how many tokens were likelier"),
    "time": N_("how long each token took"),
}
"""What tokens can be tinted by."""


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="view",
            group=CONVERSATION,
            summary=N_("Show the messages as text, or as their tokens"),
            run=_view,
            arguments=(
                Argument(
                    "view",
                    N_("reading or tokens"),
                    lambda _context: [("tokens", _("every token tinted")), ("reading", _("Markdown, to read"))],
                ),
                Argument("by", N_("by probability, surprisal, entropy, rank or time"), _measures),
            ),
            details=N_(
                "Without an argument it changes to the other view, as `v` does wherever you do not write, and Ctrl+O "
                "everywhere. In the token view the arrows go from token to token, `s` to the next surprising one, `/` "
                "searches, `m` changes what the tints go by, `0` to `9` jump. The inspector follows. The digit before "
                "a token says how strong its tint is; what a person put there is underlined."
            ),
            examples=(
                ("/view", N_("changes to the other view")),
                ("/view tokens by entropy", N_("shows where the model could have gone many ways")),
                ("/view reading", N_("shows the text again")),
            ),
            present=lambda context: context.view(),
        ),
    )


def _measures(_context: CommandContext) -> list[tuple[str, str]]:
    return [(name, _(what)) for name, what in MEASURES.items()]


def _view(context: CommandContext, invocation: Invocation) -> None:
    words = [word.lower() for word in invocation.words() if word.lower() != "by"]
    views = [word for word in words if word in {"tokens", "reading"}]
    measures = [word for word in words if word in MEASURES]
    unknown = [word for word in words if word not in {*views, *measures}]
    if unknown:
        near = nearest(unknown[0], ("tokens", "reading", *MEASURES))
        hint = did_you_mean(near) if near else _("for example {line}").format(line="/view tokens by entropy")
        raise UsageError(_("there is no view {name}: {hint}").format(name=unknown[0], hint=hint))
    if len(views) > 1 or len(measures) > 1 or (measures and views == ["reading"]):
        raise UsageError(_("name one view, and one measure for tokens: /view tokens by entropy"))
    tokens = None if not words else views != ["reading"]
    context.set_view(tokens, measures[0] if measures else None)
