"""The group of all subcommands. Each lives in a module that is imported when it is called, and not before."""

from __future__ import annotations

import difflib
import gc
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from tui_chat import __version__
from tui_chat.cli.options import (
    GroupedHelp,
    answer_options,
    config_option,
    continue_option,
    current_settings,
    llm_options,
    model_option,
    sampling_options,
    ui_options,
)
from tui_chat.errors import UsageError

if TYPE_CHECKING:
    from tui_chat.config import LoadedSettings


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A subcommand that is not imported yet."""

    module: str
    """Module with the click command in its attribute `command`."""
    summary: str
    """One line for the list of commands."""


GROUPS: Mapping[str, Mapping[str, LazyCommand]] = {
    "Talk to a model": {
        "chat": LazyCommand("tui_chat.cli.chat", "Open the app; the same as no command at all."),
        "generate": LazyCommand("tui_chat.cli.generate", "Continue or answer one prompt."),
    },
    "See how it works": {
        "learn": LazyCommand("tui_chat.cli.learn", "Read a course of ten short lessons, with figures of the model."),
        "tokens": LazyCommand("tui_chat.cli.tokens", "Show the tokens of a text, or count those of a document."),
        "logits": LazyCommand("tui_chat.cli.logits", "Show the distribution of the next token."),
        "template": LazyCommand("tui_chat.cli.template", "Show the exact prompt a conversation becomes."),
        "haiku": LazyCommand("tui_chat.cli.haiku", "Answer one prompt at four temperatures, and see where they part."),
        "explain": LazyCommand("tui_chat.cli.explain", "Show the whole pipeline, from the settings to the last token."),
        "stats": LazyCommand("tui_chat.cli.stats", "Show what the answers of the last conversation took."),
        "memory": LazyCommand("tui_chat.cli.memory", "Show what a model and its context take of memory."),
        "kernels": LazyCommand(
            "tui_chat.cli.kernels", "Show what computes a model, and what another build would give."
        ),
        "perplexity": LazyCommand("tui_chat.cli.perplexity", "Show how well a model expected a text, token by token."),
        "why": LazyCommand("tui_chat.cli.why", "Explain a figure: its formula, with real numbers in it."),
        "replay": LazyCommand("tui_chat.cli.replay", "Make the answer of a trace file again, and compare every token."),
        "sample": LazyCommand("tui_chat.cli.sample", "Run the sampler chain on a distribution, without a model."),
    },
    "Models, and training one": {
        "train": LazyCommand("tui_chat.cli.train", "Train a language model from nothing, each stage shown."),
        "tune": LazyCommand("tui_chat.cli.tune", "Teach a trained model to answer, from conversations."),
        "list": LazyCommand("tui_chat.cli.listing", "List the models on this machine and what was trained here."),
        "info": LazyCommand("tui_chat.cli.info", "Show what a model file or a checkpoint says of itself."),
        "export": LazyCommand("tui_chat.cli.export", "Write a checkpoint as a GGUF file."),
    },
    "This machine and the settings": {
        "config": LazyCommand("tui_chat.cli.config", "Show the effective settings, or check a settings file."),
        "doctor": LazyCommand("tui_chat.cli.doctor", "Show versions, devices, paths and the terminal."),
        "benchmark": LazyCommand("tui_chat.cli.benchmark", "Measure decoding, inspection and prefill on this machine."),
    },
}
"""The subcommands by what they are for, in the order of the help; a summary fits one line of 80 cells."""

COMMANDS: Mapping[str, LazyCommand] = {name: lazy for group in GROUPS.values() for name, lazy in group.items()}
"""All subcommands, in the order of the help."""


class LazyGroup(GroupedHelp, click.Group):
    """A group that knows names and summaries, and imports a command when it is asked for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand; None if there is none of that name."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = importlib.import_module(lazy.module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand `args` begin with, or say which one was probably meant."""
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            near = [name for name in COMMANDS if name.startswith(args[0])] or difflib.get_close_matches(
                args[0], COMMANDS
            )
            remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {args[0]!r}: {remedy}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their groups from the summaries here, without importing anything."""
        column = max(map(len, COMMANDS))
        for heading, group in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(column), lazy.summary) for name, lazy in group.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@model_option
@config_option
@continue_option
@answer_options
@sampling_options
@llm_options
@ui_options
@click.pass_context
def root(ctx: click.Context, model: str | None, resume: bool) -> int | None:
    """Talk to a local language model and see, and change, how it chooses every token.

    Without a command this opens the app in a terminal; text that is piped in is answered on standard output.
    Options given here hold for the command that follows, too.
    """
    if ctx.invoked_subcommand is not None:
        if ctx.invoked_subcommand != "chat":
            gc.enable()
        return None
    if sys.stdin is not None and sys.stdin.isatty():
        return open_app(current_settings(), model, resume=resume)
    gc.enable()
    return _answer_stdin(current_settings(), model)


def open_app(loaded: LoadedSettings, model: str | None, *, resume: bool = False) -> int:
    """Run the app until the user leaves it.

    Args:
        loaded: The effective settings.
        model: What `--model` says.
        resume: Go on with the conversation that was written last.

    Raises:
        UsageError: There is no terminal to draw on.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "the app needs a terminal on standard input: run it in one, "
            "or pipe text into plain 'tui-chat' to have it answered"
        )
    if sys.stderr is None or not sys.stderr.isatty():  # where Textual draws
        raise UsageError(
            "the app needs a terminal to draw on: do not redirect its output, or use 'tui-chat generate' for text"
        )
    from tui_chat.ui.app import run_app

    if not resume:
        return run_app(loaded, model=model)
    from tui_chat.ui.resuming import newest_conversation

    last = newest_conversation()
    return run_app(loaded, model=model, conversation=last.conversation, tokens_of=last.tokens_of, note=last.note)


def _answer_stdin(loaded: LoadedSettings, model: str | None) -> int | None:
    if sys.stdin is None:
        raise UsageError("there is nothing to answer: standard input is closed and there is no terminal")
    content = sys.stdin.buffer.read()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"standard input is not UTF-8 text (byte {error.start} is 0x{content[error.start]:02x}): convert it first"
        ) from error
    if not text.strip():
        raise UsageError("there is nothing to answer: standard input is empty (in a terminal, tui-chat opens the app)")
    from tui_chat.cli.generate import answer_piped

    return answer_piped(text, loaded=loaded, model=model)
