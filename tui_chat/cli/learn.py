"""`tui-chat learn`: the course of lessons, to be read here and done in the app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option
from tui_chat.cli.scenes import default_question, scene_of

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


@click.command("learn", cls=Command)
@click.argument("number", required=False)
@json_option
@model_option
@config_option
@llm_options
def command(number: str | None, as_json: bool, model: str | None) -> None:
    """Read a course of ten short lessons, with figures of the model.

    Without NUMBER, the lessons are listed with those that are done; with it, from 1 to 10, that lesson is shown. Each
    ends with something to do in the app, where /learn opens the same lesson and it is seen when it is done.
    """
    from tui_chat.lessons.course.progress import Progress, lesson_number

    loaded = current_settings()
    progress = Progress.at_home()
    if number is None:
        from tui_chat.lessons.course.lessons import contents

        show(contents(progress, command="tui-chat learn"), as_json=as_json)
        return
    chosen = lesson_number(number)

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.course.lessons import open_lesson

        scene = scene_of(engine, loaded.settings, default_question())
        return open_lesson(engine, watch, scene, chosen, done=chosen in progress.done, in_app=False)

    show(on_model(loaded, model, lesson), as_json=as_json)
