"""`tui-chat tokens`: the pieces a model reads a text in, and how many a document has."""

from __future__ import annotations

import sys

import click

from tui_chat.cli.inference import find_model
from tui_chat.cli.lessons import show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, model_option
from tui_chat.cli.progress_line import ProgressLine
from tui_chat.errors import UsageError
from tui_chat.language import N_, _
from tui_chat.lessons.watch import Watch

EXAMPLE = N_("Tokenization: unbelievably long words, 2,048, café and 👍")
"""Shown where the command line gives no text."""


@click.command("tokens", cls=Command)
@click.argument("text", required=False)
@click.option("--stdin", is_flag=True, help="Read the text from standard input.")
@click.option("--no-special", is_flag=True, help="Take control tokens such as <|im_end|> as plain text, and add none.")
@click.option("--price", type=float, metavar="X", help="What a million tokens cost: gives the price of the text.")
@json_option
@model_option
@config_option
def command(
    text: str | None, stdin: bool, no_special: bool, price: float | None, as_json: bool, model: str | None
) -> None:
    """Show the tokens of TEXT: ids, bytes, counts, and the merges that put a word together.

    Where TEXT is the path of a file, that document is counted, however large it is. The weights of the model are not
    loaded. With --json, the tokens of up to 1 MiB of text are listed.
    """
    from tui_chat.engine.vocabulary import open_vocabulary
    from tui_chat.lessons.reading import blocks
    from tui_chat.lessons.tokens import tokens, tokens_of

    loaded = current_settings()
    if stdin and text is not None:
        raise UsageError(_("give either a text or --stdin, not both"))
    if stdin and sys.stdin is None:
        raise UsageError(_("there is nothing to read: standard input is closed"))
    progress = ProgressLine()
    watch = Watch(on_progress=progress.update)
    with open_vocabulary(find_model(loaded, model)) as (vocab, header):
        try:
            if stdin:
                name = _("standard input")
                content = blocks(sys.stdin.buffer, name)
                report = tokens(
                    vocab, header, watch, content, name=name, special=not no_special, price_per_million=price
                )
            else:
                report = tokens_of(
                    vocab,
                    header,
                    watch,
                    _(EXAMPLE) if text is None else text,
                    special=not no_special,
                    price_per_million=price,
                )
        finally:
            progress.clear()
    show(report, as_json=as_json)
