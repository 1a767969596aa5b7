"""`tui-chat stats`: what the answers of the conversation that was written last took."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from tui_chat.cli.lessons import show
from tui_chat.cli.options import Command, config_option, current_settings, json_option
from tui_chat.errors import UsageError
from tui_chat.language import _

if TYPE_CHECKING:
    from tui_chat.lessons.report import Report


@click.command("stats", cls=Command)
@json_option
@config_option
def command(as_json: bool) -> None:
    """Show what the answers of the conversation written last took, and how sure the model was of them.

    It is the conversation that --continue goes on with. The JSON has the time of every token, in seconds since the
    request. No model is loaded: all figures were kept when the answers were made.
    """
    current_settings()
    show(_report(), as_json=as_json)


def _report() -> Report:
    from tui_chat import paths
    from tui_chat.chat.conversation import Role
    from tui_chat.chat.store import Store
    from tui_chat.lessons.answers import AnswerFigures
    from tui_chat.lessons.stats import stats
    from tui_chat.ui.archive import STORE_NAME

    path = paths.data_dir() / STORE_NAME
    nothing = _("no conversation is stored yet: talk to a model in the app first, `tui-chat` opens it")
    if not path.is_file():
        raise UsageError(nothing)
    with Store(path) as store:
        newest = store.newest()
        if newest is None:
            raise UsageError(nothing)
        answers = [
            replace(AnswerFigures.of(message, store.traces(message.id)), may_go_on=not message.finished)
            for message in store.load(newest.id).path
            if message.role is Role.ASSISTANT
        ]
        return stats(answers, conversation=newest.title)
