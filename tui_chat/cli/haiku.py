"""`tui-chat haiku`: the same prompt at four temperatures, and where the texts part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.live import LiveReport
from tui_chat.cli.options import (
    Command,
    SettingOption,
    config_option,
    current_settings,
    json_option,
    llm_options,
    model_option,
)
from tui_chat.cli.scenes import scene_of

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


@click.command("haiku", cls=Command)
@click.argument("topic", required=False)
@click.option(
    "--seed",
    cls=SettingOption,
    settings=("inference.seed",),
    heading="Sampling",
    type=int,
    metavar="N",
    help="Seed of the draws; 0 if it is set nowhere.",
)
@json_option
@model_option
@config_option
@llm_options
def command(topic: str | None, as_json: bool, model: str | None) -> None:
    """Write a haiku about TOPIC four times: greedy, at temperature 0.7, 1.5 and 2.0, with one seed.

    Temperature alone acts, no truncation and no penalty. Below the texts stands where they first part: the
    distribution there, and what each temperature made of it. In a terminal the texts grow side by side. Of a topic
    longer than the context, the beginning is used.
    """
    loaded = current_settings()

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.haiku import haiku, question

        return haiku(engine, watch, scene_of(engine, loaded.settings, question(topic)))

    with LiveReport(active=not as_json) as live:
        report = on_model(loaded, model, lesson, on_report=live.show)
    show(report, as_json=as_json)
