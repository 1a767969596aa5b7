"""`tui-chat kernels`: what a model is computed by, and what another build would change."""

from __future__ import annotations

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option


@click.command("kernels", cls=Command)
@json_option
@model_option
@config_option
@llm_options
def command(as_json: bool, model: str | None) -> None:
    """Show what computes a model: backends, devices, CPU features, settings; and what other builds would give."""
    from tui_chat.lessons.kernels import kernels

    show(on_model(current_settings(), model, kernels), as_json=as_json)
