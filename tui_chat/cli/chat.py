"""`tui-chat chat`: the app, by name."""

from __future__ import annotations

import click

from tui_chat.cli.group import open_app
from tui_chat.cli.options import (
    Command,
    answer_options,
    config_option,
    continue_option,
    current_settings,
    llm_options,
    model_option,
    sampling_options,
    ui_options,
)


@click.command("chat", cls=Command)
@model_option
@config_option
@continue_option
@answer_options
@sampling_options
@llm_options
@ui_options
def command(model: str | None, resume: bool) -> int:
    """Open the app."""
    return open_app(current_settings(), model, resume=resume)
