"""`tui-chat info`: what a model file or a checkpoint says of itself."""

from __future__ import annotations

from pathlib import Path

import click

from tui_chat.cli.lessons import show
from tui_chat.cli.options import Command, config_option, current_settings, json_option


@click.command("info", cls=Command)
@click.argument("model")
@config_option
@json_option
def command(model: str, as_json: bool) -> None:
    """Show what MODEL says of itself: sizes, storage types, tokenizer, template, and how it was trained.

    MODEL is a GGUF file, REPO:FILE in the cache of the Hub, 'builtin', or a checkpoint: 'best', 'latest', the name of
    a training, NAME/step-N, or a folder.
    """
    from tui_chat.checkpoints.runs import seek_checkpoint
    from tui_chat.lessons.checkpoint import file_report

    loaded = current_settings()
    facts = None if _is_file(model) else seek_checkpoint(model)
    if facts is None:
        from tui_chat.cli.inference import find_model
        from tui_chat.lessons.gguf_document import gguf_document

        document = gguf_document(find_model(loaded, model, offline=True))
    else:
        from tui_chat.lessons.checkpoint_documents import described_checkpoint

        document = described_checkpoint(facts)
    show(file_report(document), as_json=as_json)


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False
