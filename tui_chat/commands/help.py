"""`/help`: all commands by purpose, or one of them with its syntax, present value, examples and what to look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby

from tui_chat.commands.groups import PROGRAM
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext, Registry
from tui_chat.language import N_, _
from tui_chat.lessons.report import Block, Facts, Heading, Report, Span, Tone, Verbatim, Words

TWINS: Mapping[str, str] = {
    "stop": 'tui-chat --stop "###"',
    "system": 'tui-chat generate --system "Be brief." "What is a token?"',
    "temp": "tui-chat --temperature 0.7",
    "top-k": "tui-chat --top-k 40",
    "top-p": "tui-chat --top-p 0.9",
    "min-p": "tui-chat --min-p 0.05",
    "repeat-penalty": "tui-chat --repeat-penalty 1.1",
    "seed": "tui-chat --seed 42",
    "tokens": "tui-chat --max-tokens 256",
    "order": "tui-chat --order top_k,min_p,temperature",
    "json": "tui-chat generate 'Name a planet.' --json-schema '{\"type\": \"object\"}'",
    "grammar": "tui-chat --grammar list",
    "ban": "tui-chat --ban however",
    "bias": "tui-chat --logit-bias piece+2",
    "set": "tui-chat config",
    "think": "tui-chat template --think on",
    "learn": "tui-chat learn",
    "tokens-demo": "tui-chat tokens unbelievable",
    "logits": 'tui-chat logits "The sky is"',
    "template": "tui-chat template",
    "haiku": "tui-chat haiku winter",
    "explain": 'tui-chat explain "What is a token?"',
    "stats": "tui-chat stats",
    "memory": "tui-chat memory",
    "kernels": "tui-chat kernels",
    "checkpoint": "tui-chat info builtin",
    "perplexity": "tui-chat perplexity --text 'A token is a piece of text.'",
    "why": "tui-chat why entropy",
    "educational": "tui-chat --educational",
    "trace": 'tui-chat generate --trace answer.trace.jsonl "What is a token?"',
    "replay": "tui-chat replay answer.trace.jsonl",
    "train": "tui-chat train --preset demo",
    "model": "tui-chat --model builtin",
    "theme": "tui-chat --theme darkroom",
    "help": "tui-chat --help",
}
"""What does the same, or begins with it, on the command line."""

_COLUMN = 33
"""Longest line to type that stands beside what it does, on a screen of 80 cells."""


def help_command(registry: Callable[[], Registry]) -> Command:
    """The command itself.

    Args:
        registry: Gives the commands to explain.
    """

    def run(context: CommandContext, invocation: Invocation) -> None:
        name = invocation.text()
        report = help_for(registry().find(name), context) if name else help_all(registry())
        context.show_report(f"/{invocation.name} {invocation.rest}".rstrip(), report)

    return Command(
        name="help",
        aliases=("commands",),
        group=PROGRAM,
        summary=N_("Explain the commands, or one of them"),
        run=run,
        arguments=(
            Argument(
                "command",
                N_("the name of a command"),
                lambda _context: [(command.name, _(command.summary)) for command in registry()],
            ),
        ),
        details=N_(
            "All commands stand in groups, by what they are for. With a name it tells one command's syntax, "
            "present value, range and examples, and what to look at. The keys are behind F1."
        ),
        examples=(("/help", N_("lists all")), ("/help temp", N_("explains one command"))),
    )


def help_all(registry: Iterable[Command]) -> Report:
    """All commands in their groups, the syntax of all in one column."""
    commands = list(registry)
    column = max(len(command.syntax) for command in commands)
    blocks: list[Block] = []
    for group, members in groupby(commands, key=lambda command: command.group):
        rows = tuple((f"`{command.syntax.ljust(column)}`", _(command.summary)) for command in members)
        blocks += [Heading(_(group)), Facts(rows)]
    blocks.append(
        Words(
            _(
                "`/help temp` explains one command, with examples. A few letters of a name find it, and Tab completes "
                "it. `//` begins a message that begins with a slash. F1 shows the keys."
            )
        )
    )
    document = {"commands": [_document(command) for command in commands]}
    return Report(_("help"), blocks, document)


def help_for(command: Command, context: CommandContext) -> Report:
    """One command: how it is written, its present value and range, what to look at, and lines to try."""
    rows = [(_("syntax"), f"`{command.syntax}`")]
    if command.aliases:
        rows.append((_("also"), "  ".join(f"`/{alias}`" for alias in command.aliases)))
    rows += [(argument.name, _(argument.hint)) for argument in command.arguments]
    now = command.present(context) if command.present else ""
    if now:
        rows.append((_("now"), now))
    if command.name in TWINS:
        rows.append((_("in a shell"), f"`{TWINS[command.name]}`"))
    blocks: list[Block] = [Heading(_(command.summary)), Facts(tuple(rows))]
    if command.details:
        blocks.append(Words(_literal(_(command.details))))
    blocks += [Heading(_("Try it")), _examples(command)]
    return Report(_("help {command}").format(command=command.name), blocks, {**_document(command), "now": now or None})


def _examples(command: Command) -> Block:
    """Lines to type in one column and what they do in another; one below the other where lines are long."""
    if max(len(line) for line, _does in command.examples) > _COLUMN:
        spans: list[Span] = []
        for line, text in command.examples:
            spans += [Span(f"\n{line}" if spans else line, Tone.ACCENT), Span(f"\n    {_(text)}")]
        return Verbatim(tuple(spans))
    return Facts(tuple((f"`{line}`", _(text)) for line, text in command.examples))


def _document(command: Command) -> dict[str, object]:
    return {
        "name": command.name,
        "group": command.group,
        "syntax": command.syntax,
        "summary": command.summary,
        "aliases": list(command.aliases),
        "examples": [line for line, _does in command.examples],
        "command_line": TWINS.get(command.name),
    }


def _literal(markdown: str) -> str:
    """A text whose emphasis is marked as literal: what stands out there is a value or a word of the screen."""
    return re.sub(r"\*{1,2}([^*]+)\*{1,2}", r"`\1`", markdown)
