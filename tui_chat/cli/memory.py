"""`tui-chat memory`: where a model lies, and what its context takes."""

from __future__ import annotations

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option


@click.command("memory", cls=Command)
@json_option
@model_option
@config_option
@llm_options
def command(as_json: bool, model: str | None) -> None:
    """Show what a loaded model takes: weights by type, KV cache with its formula, compute buffers, process and GPU."""
    from tui_chat.lessons.memory import memory

    show(on_model(current_settings(), model, memory), as_json=as_json)
