"""`tui-chat why`: the formula of a figure, with the numbers of a token the model has just written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import (
    Command,
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


@click.command("why", cls=Command)
@click.argument("figure", required=False)
@click.option("--prompt", metavar="TEXT", help="What the model is asked. Default: What is a token?")
@json_option
@model_option
@config_option
@sampling_options
@llm_options
def command(figure: str | None, prompt: str | None, as_json: bool, model: str | None) -> None:
    """Explain FIGURE on the first token of a short answer: its formula, and the same with the real numbers in it.

    FIGURE is probability, entropy, surprisal, perplexity, temperature, top-p, min-p, u, tok/s, kv and so on. Without
    FIGURE, all that can be explained is listed with its present value.
    """
    from tui_chat.lessons.formulas import find_figure

    loaded = current_settings()
    question = default_question() if prompt is None else prompt
    if figure is not None:
        find_figure(figure)

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons import excerpt
        from tui_chat.lessons.why import ANSWER_TOKENS, first_token, why

        scene = scene_of(engine, loaded.settings, question)
        scene, used = excerpt.part_of_message(engine, scene, reserve=ANSWER_TOKENS)
        report = why(first_token(engine, watch, scene), figure)
        return replace(
            report,
            blocks=(*excerpt.warning(used), *report.blocks),
            document={**report.document, "prompt": scene.messages[-1].text, "excerpt": excerpt.document(used)},
        )

    show(on_model(loaded, model, lesson), as_json=as_json)
