"""`tui-chat logits`: what the model would say next, and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option
from tui_chat.cli.scenes import default_question, piped_text, question_ids

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


@click.command("logits", cls=Command)
@click.argument("prompt", required=False)
@click.option("-n", "n", type=int, default=5, show_default=True, metavar="N", help="How many of the best tokens.")
@click.option("--chat", is_flag=True, help="Put PROMPT into the chat template, as a message to answer.")
@json_option
@model_option
@config_option
@llm_options
def command(prompt: str | None, n: int, chat: bool, as_json: bool, model: str | None) -> None:
    """Show the distribution of the token after PROMPT: logits, probabilities, entropy, the greedy choice.

    PROMPT is continued as it stands unless --chat is given. It may be piped in instead; without any, the beginning of
    an answer is shown. Of a text longer than the context, the end is used; the report says which part.
    """
    loaded = current_settings()
    prompt = piped_text() if prompt is None else prompt
    text, as_chat = (default_question(), True) if prompt is None else (prompt, chat)

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.logits import logits

        ids, used = question_ids(engine, loaded.settings, text, chat=as_chat)
        return logits(engine, watch, ids, n=n, used=used)

    show(on_model(loaded, model, lesson), as_json=as_json)
