"""From a line that begins with "/" to the name of a command and its arguments, as a shell would split them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tui_chat.errors import UsageError
from tui_chat.language import _

_COMMAND = re.compile(r"/([A-Za-z][\w-]*)(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command as typed."""

    name: str
    """Without the slash, in lower case."""
    rest: str = ""
    """Everything after the name, as it was typed, without the space around it."""

    def words(self) -> tuple[str, ...]:
        """The rest split like a shell does, quotes taken off.

        Raises:
            UsageError: A quotation is not closed.
        """
        try:
            return tuple(shlex.split(self.rest))
        except ValueError as error:
            reason = (
                _("{line} ends with a backslash")
                if "escape" in str(error)
                else _("{line} has a quotation mark that is not closed")
            )
            raise UsageError(reason.format(line=f"/{self.name} {self.rest}")) from error

    def text(self) -> str:
        """The rest as one text: as typed, but where it is one word in quotes, as a shell reads that."""
        if self.rest[:1] in ("'", '"'):
            try:
                words = shlex.split(self.rest)
            except ValueError:  # an apostrophe
                return self.rest
            if len(words) == 1:
                return words[0]
        return self.rest


def parse_command(line: str) -> Invocation | None:
    """The command in `line`; None where the line is a message.

    A line is a command if it begins with a slash and a word: `/usr/bin is full` and `/ alone` are messages. Two slashes
    begin a message that begins with one (see `unescape`).
    """
    match = _COMMAND.match(line.lstrip())
    if match is None:
        return None
    return Invocation(match[1].lower(), line.lstrip()[match.end() :].strip())


def unescape(line: str) -> str:
    """A message without the second slash that kept it from being a command."""
    return line[1:] if line.startswith("//") else line
