"""`tui-chat explain`: one message through the whole pipeline, stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import (
    Command,
    answer_options,
    config_option,
    current_settings,
    json_option,
    llm_options,
    model_option,
    sampling_options,
)
from tui_chat.cli.scenes import default_question, scene_of

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


@click.command("explain", cls=Command)
@click.argument("prompt", required=False)
@json_option
@model_option
@config_option
@answer_options
@sampling_options
@llm_options
def command(prompt: str | None, as_json: bool, model: str | None) -> None:
    """Answer PROMPT and show what happens from the settings to the last token.

    Settings, device, chat template, token ids, prefill with its shapes, the first token through every stage of the
    sampler chain, the loop, why it ended, and the statistics. Of a message longer than the context, the end is used.
    """
    loaded = current_settings()

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.explain import explain

        question = default_question() if prompt is None else prompt
        return explain(engine, watch, scene_of(engine, loaded.settings, question))

    show(on_model(loaded, model, lesson), as_json=as_json)
