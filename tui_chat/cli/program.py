"""The program's outermost frame: runs a command and turns every way it can end into an exit status.

0 is well, 1 failed, 2 wrong use, 130 interrupted. An error meant for the user is one line on stderr. What nobody
expected is one line too, and its traceback goes into a file in the log directory.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from tui_chat import __version__, paths
from tui_chat.cli.logfile import start_logging
from tui_chat.errors import StorageError, TuiChatError, UsageError
from tui_chat.language import said

PROGRAM = "tui-chat"

_NO_NUMBER = re.compile(r"'(?P<text>[^']*)' is not a valid (?P<kind>float|integer)")
"""What click says of an option's value."""

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell would report it."""


def main() -> None:
    """Run the command line of this process and end it."""
    # Looking for plugins reads the metadata of every installed package, and this program has none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    # What is imported stays: collecting meanwhile finds nothing and takes a fourteenth of the time to the first frame.
    gc.disable()
    start_logging()
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        status = status or 1
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit status.
    """
    from tui_chat.cli.group import root

    try:
        result = root.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _report_click(error)
    except TuiChatError as error:
        complain(said(error))
        return error.exit_code
    except BrokenPipeError:
        _drop_stdout()
        return 1
    except Exception as error:
        complain(_record(error, arguments))
        return 1
    return result if isinstance(result, int) else 0


def complain(message: str) -> None:
    """Print an error as one line on stderr, with control characters made visible."""
    click.echo(f"{PROGRAM}: error: {one_line(message)}", err=True)


def one_line(text: str) -> str:
    """`text` without line breaks and with control characters written as escapes."""
    joined = " ".join(text.split("\n"))
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in joined)


def terminal_width() -> int | None:
    """Cells of a line on standard output; None where it is no terminal, and a line may be as long as it is."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _report_click(error: click.ClickException) -> int:
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    if typed := _NO_NUMBER.search(message):
        from tui_chat.display.figures import retyped

        number = retyped(typed["text"], whole=typed["kind"] == "integer")
        message += "" if number is None else f": write {number}"
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" ({context.command_path} -h shows how)" if context else ""
    complain(message + hint)
    return UsageError.exit_code


def _record(error: Exception, arguments: Sequence[str]) -> str:
    """Write the traceback of an unexpected error into a file, and say where it is."""
    summary = f"unexpected {type(error).__name__}: {error}" if str(error) else f"unexpected {type(error).__name__}"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    report = "".join(
        [
            f"{PROGRAM} {__version__}, Python {sys.version.split()[0]} on {sys.platform}, {stamp}\n",
            f"arguments: {list(arguments)!r}\n\n",
            *traceback.format_exception(error),
        ]
    )
    try:
        path = paths.ensure_dir(paths.log_dir()) / f"error-{stamp}-{os.getpid()}.log"
        path.write_text(report, encoding="utf-8", errors="backslashreplace")
    except (OSError, StorageError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return f"{summary} (this is a bug, at {place}; no log could be written to {paths.log_dir()})"
    return f"{summary} (this is a bug; the details are in {path})"


def _drop_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain about the closed pipe."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
