"""The command lines and commands that the README and the help show are ones the program has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tui_chat.cli.group import root
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.help import TWINS
from tui_chat.engine.types import DEFAULT_ORDER, SAMPLING_FIELDS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

SHOWN = [line.partition("#")[0].strip() for line in README.splitlines() if line.startswith("tui-chat")]

DOCS = [
    line
    for page in ("glass-box.md", "sampling.md")
    for line in (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8").splitlines()
    if line.startswith("tui-chat")
]


@pytest.mark.parametrize("line", [*SHOWN, *DOCS, *(TWINS[name] for name in TWINS if name != "help")])
def test_every_command_line_parses(line: str) -> None:
    _, *arguments = shlex.split(line)
    context = root.make_context("tui-chat", arguments)
    if context._protected_args:
        name, command, rest = root.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        with context:
            command.make_context(name, rest, parent=context)


def test_the_readme_shows_every_command() -> None:
    assert isinstance(root, click.Group)
    shown = {line.split()[1] for line in SHOWN if len(line.split()) > 1}
    assert set(root.list_commands(click.Context(root))) - shown == {"chat"}


def test_every_slash_command_is_there_and_no_other() -> None:
    table = README[README.index("| command | does |") : README.index("`/` opens the list")]
    named = set(re.findall(r"`/([a-z-]+)", table))
    assert named == {command.name for command in default_registry()}


def test_the_help_and_the_page_on_sampling_name_every_stage() -> None:
    shown = " ".join(root.get_help(click.Context(root)).split())
    assert ", ".join(DEFAULT_ORDER) in shown
    page = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text(encoding="utf-8")
    assert " → ".join((*DEFAULT_ORDER, "draw")) in " ".join(page.split())
    assert [name for name in SAMPLING_FIELDS if f"`{name}`" not in page] == []
