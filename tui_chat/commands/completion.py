"""What the composer offers while a command is typed: commands, then the values of their argument."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tui_chat.commands.fuzzy import Match, Span, match
from tui_chat.commands.registry import Command, CommandContext, Registry
from tui_chat.language import _


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One thing to choose."""

    label: str
    """What to show."""
    insert: str
    """What to put in place of what was typed."""
    detail: str
    """What it is, in a few words."""
    spans: tuple[Span, ...] = ()
    """The stretches of the label that match."""
    value: str = ""
    """The present value of what the command changes."""


@dataclass(frozen=True, slots=True)
class Completion:
    """All that can be offered at the cursor."""

    start: int
    """Where the text to be replaced begins; it ends at the cursor."""
    suggestions: tuple[Suggestion, ...]
    """Best first."""
    hint: str = ""
    """What the argument at the cursor should be, and the value it has now."""


def complete(line: str, registry: Registry, context: CommandContext, *, cursor: int | None = None) -> Completion | None:
    """What to offer for a line of the composer; None where no command is being typed.

    Args:
        line: The whole text of the composer.
        registry: The commands there are.
        context: Knows the values of arguments.
        cursor: Characters before the cursor; all of them by default.
    """
    typed = line[: len(line) if cursor is None else cursor]
    if "\n" in typed:
        return None
    word = re.fullmatch(r"(\s*/)([\w-]*)", typed)
    if word is not None:
        return Completion(word.end(1) - 1, tuple(_commands(word[2], registry, context)))
    begun = re.match(r"\s*/([A-Za-z][\w-]*)\s+", typed)
    if begun is None:
        return None
    command = next((c for c in registry if begun[1].lower() in (c.name, *c.aliases)), None)
    if command is None or not command.arguments:
        return None
    return _argument(command, typed, begun.end(), context)


def _commands(query: str, registry: Registry, context: CommandContext) -> list[Suggestion]:
    found: list[tuple[tuple[int, int, int, int], Suggestion]] = []
    for order, command in enumerate(registry):
        best = _best_name(query, command)
        if best is None:
            continue
        name, fit = best
        label = f"/{command.name}" if name == command.name else f"/{command.name} ({name})"
        shift = 1 if name == command.name else len(command.name) + 3
        spans = tuple((start + shift, end + shift) for start, end in fit.spans)
        value = command.present(context) if command.present else ""
        insert = f"/{command.name} " if command.arguments else f"/{command.name}"
        # With nothing typed yet, the order of the help is the best there is.
        rank = (*fit.rank, order) if query else (0, 0, 0, order)
        found.append((rank, Suggestion(label, insert, _(command.summary), spans, value)))
    return [suggestion for _rank, suggestion in sorted(found, key=lambda pair: pair[0])]


def _best_name(query: str, command: Command) -> tuple[str, Match] | None:
    """The name or alias that fits best; the name itself wins a tie."""
    fits = [
        (fit.rank[0], order, name, fit)
        for order, name in enumerate((command.name, *command.aliases))
        if (fit := match(query, name)) is not None
    ]
    if not fits:
        return None
    _rank, _order, name, fit = min(fits, key=lambda item: item[:2])
    return name, fit


def _argument(command: Command, typed: str, start: int, context: CommandContext) -> Completion | None:
    argument = command.arguments[0]
    rest, before = typed[start:], list[str]()
    if not argument.rest:
        index = len(re.findall(r"\S+\s+", rest))
        if index >= len(command.arguments):
            return None
        argument = command.arguments[index]
        before = rest.split()[:index]
        start += len(rest) - len(re.split(r"\s+", rest)[-1])
    values = argument.values(context) if argument.values else ()
    if argument.parts is not None:
        *others, part = re.split(r"[\s,]+", typed[start:])
        start = len(typed) - len(part)
        typed = typed[:start] + part.replace("-", "_")
        named = {name.strip("[]").lower().replace("-", "_") for name in others}
        left = [pair for pair in argument.parts(context) if pair[0] not in named]
        values = left if named else [*values, *left]
    query = typed[start:].strip("'\"")
    value = command.present(context) if command.present else ""
    if argument.present is not None:
        value = argument.present(context, before)
    hint = f"{argument.name}: {_(argument.hint)}"
    if value:
        hint += " · " + _("now {value}").format(value=value)
    suggestions: list[tuple[tuple[int, int, int, int], Suggestion]] = []
    for order, (text, detail) in enumerate(values):
        fit = match(query, text)
        if fit is not None:
            rank = (*fit.rank, order) if query else (0, 0, 0, order)
            insert = text if argument.rest else shlex.quote(text)
            suggestions.append((rank, Suggestion(text, insert, detail, fit.spans)))
    return Completion(start, tuple(item for _rank, item in sorted(suggestions, key=lambda pair: pair[0])), hint)
