"""`tui-chat perplexity`: how well the model expected a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option
from tui_chat.display.text import shortened
from tui_chat.errors import UsageError
from tui_chat.language import _

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


@click.command("perplexity", cls=Command)
@click.argument("file", required=False)
@click.option("--text", metavar="TEXT", help="Read this text instead of a file.")
@click.option(
    "--ctx",
    "window",
    type=int,
    metavar="N",
    help="Tokens of a window; 512 by default, or as many as the context holds.",
)
@json_option
@model_option
@config_option
@llm_options
def command(file: str | None, text: str | None, window: int | None, as_json: bool, model: str | None) -> None:
    """Show the perplexity of FILE (- is standard input) and how each of its tokens was expected.

    Texts longer than a window are read in several that do not overlap; the first token of each is not scored.
    """
    loaded = current_settings()
    content = _content(file, text)

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.perplexity import perplexity

        return perplexity(engine, watch, content, n_ctx=window)

    show(on_model(loaded, model, lesson), as_json=as_json)


def _content(file: str | None, text: str | None) -> str:
    """The text to read.

    Raises:
        UsageError: None is named, or two; the file cannot be read or is no text.
    """
    from tui_chat.lessons.perplexity import whole_text
    from tui_chat.lessons.reading import exists, opened

    if (file is None) == (text is None):
        raise UsageError(_("name one text to read: a file, - for standard input, or --text TEXT"))
    if text is not None:
        return text
    assert file is not None
    if not file:
        raise UsageError(_("the text is empty: give some text"))
    if file == "-":
        if sys.stdin is None:
            raise UsageError(_("there is nothing to read: standard input is closed"))
        return whole_text(sys.stdin.buffer, _("standard input"))
    if not exists(file):
        raise UsageError(
            _("there is no file {name!r}: correct the path, or put --text before it if it is the text itself").format(
                name=shortened(file)
            )
        )
    with opened(file) as opened_file:
        return whole_text(opened_file, file)
