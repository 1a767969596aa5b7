"""The course in the app: looks whether what the user does is the task of the lesson that is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_chat.errors import TuiChatError
from tui_chat.language import _
from tui_chat.ui.summary import ended_answers

if TYPE_CHECKING:
    from tui_chat.engine.types import GeneratedToken
    from tui_chat.lessons.course.deeds import Deed
    from tui_chat.lessons.report import Report
    from tui_chat.ui.app import TuiChatApp


class Learning:
    """Told of what is done in the app; says what is missing, and keeps and shows that a task is done.

    Args:
        app: Whose state is looked at.
        put: Puts a card with a title and a finished report into the transcript.
    """

    def __init__(self, app: TuiChatApp, put: Callable[[str, Report], None]) -> None:
        self._app = app
        self._put = put

    def report_shown(self, title: str, report: Report) -> None:
        """Takes in that a command's report has come to its end."""
        if self._app.course.open is None or not title.startswith("/"):
            return
        from tui_chat.lessons.course.deeds import CommandShown

        command = title[1:].split(maxsplit=1)[0]
        self._take(CommandShown(command, report.document, self._app.session.conversation.system))

    def answered(self) -> None:
        """Takes in that an answer has ended."""
        session = self._app.session
        answer = session.answer
        if self._app.course.open is None or answer is None or answer.running:
            return
        from tui_chat.lessons.course.deeds import AnswerEnded

        figures = ended_answers(session)
        if figures and answer.message_id in session.conversation:
            message = session.conversation[answer.message_id]
            self._take(AnswerEnded(figures[-1], message.text, message.settings))

    def token_selected(self, token: GeneratedToken) -> None:
        """Takes in that a token was selected in the inspector."""
        if self._app.course.open is None or token.trace is None:
            return
        from tui_chat.lessons.course.deeds import TokenSelected

        self._take(TokenSelected(token.trace))

    def _take(self, deed: Deed) -> None:
        from tui_chat.lessons.course.lessons import LESSONS, done_report

        progress, chat = self._app.course, self._app.chat
        number = progress.open
        seen = None if number is None else LESSONS[number - 1].check(deed)
        if number is None or seen is None:
            return
        if not seen.done:
            words = seen.words.replace("`", "")
            chat.say(_("lesson {number}: {words}").format(number=number, words=words), seconds=10)
            return
        title = _("✓ lesson {number} is done").format(number=number)
        try:
            progress.finish(number)
        except TuiChatError as error:
            chat.say(str(error))
        else:  # in place of what was still missing a moment ago
            chat.say(_("{n} of {all} lessons are done").format(n=len(progress.done), all=len(LESSONS)))
        self._put(title, done_report(number, seen.words, progress))
