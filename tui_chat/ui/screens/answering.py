"""The running account on the chat screen: the answer as it comes, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content
from textual.message import Message as TextualMessage
from textual.widgets import Static

from tui_chat.chat.conversation import Role
from tui_chat.display.text import one_line
from tui_chat.engine.types import GeneratedToken
from tui_chat.errors import TuiChatError
from tui_chat.language import _, n_, said
from tui_chat.ui.pacing import FramePacer
from tui_chat.ui.progress import Answer
from tui_chat.ui.screens.panes import PanedScreen
from tui_chat.ui.session import Session
from tui_chat.ui.summary import answer_footer, sampling_line, show_status, welcome
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.transcript import Transcript
from tui_chat.ui.widgets.turns import AnswerTurn, NoticeKind

if TYPE_CHECKING:
    from textual.timer import Timer

STATUS_INTERVAL_S = 0.5
"""Time between two updates of the status line."""


class AnsweringScreen(PanedScreen):
    """Shows the conversation of a session, and its answer while it is written.

    Args:
        session: What is shown.
    """

    class Answered(TextualMessage):
        """An answer has ended."""

    _said: Timer

    def __init__(self, session: Session) -> None:
        super().__init__(classes="-pane-chat")
        self._session = session
        self._turn: AnswerTurn | None = None
        self._shown = session.conversation.id
        self._inspected: str | None = None
        self._n_inspected = 0
        self._pacer = FramePacer()
        self._answer_next = False
        self._status_at = 0.0
        self._remark, self._remark_shown = "", False

    @property
    def session(self) -> Session:
        """The session on show."""
        return self._session

    async def show_notice(self, text: str, kind: NoticeKind = NoticeKind.NOTE, *, title: str | None = None) -> None:
        """Shows a card in the transcript, on whatever pane one is."""
        if kind is NoticeKind.PROBLEM:
            # What went well before would seem to be said of this.
            self._said.stop()
            self._said_enough()
        await self.query_one(Transcript).add_notice(text, kind, title=title)
        if self._pane != "chat" and self.has_class("-narrow"):
            self.show_pane("chat", focus=True)

    async def show_card(self, card: ReportCard, *, follow: bool = True) -> None:
        """Puts a report's card into the transcript and shows it, on whatever pane one is, if that is wanted."""
        await self.query_one(Transcript).add_card(card, follow=follow)
        if follow and self._pane != "chat" and self.has_class("-narrow"):
            self.show_pane("chat", focus=True)

    def follow_card(self, card: ReportCard) -> None:
        """Scrolls to a card that has just been filled."""
        self.query_one(Transcript).follow(card)

    def say(self, text: str, *, seconds: float = 4) -> None:
        """Says something in the line under the composer, or over the pane that hides it, for a while."""
        self._remark_shown = False
        self._say(text)
        self._said.stop()
        self._said = self.set_timer(seconds, self._said_enough)

    def remark(self, text: str) -> None:
        """Says what nobody asked for: once what is being said has had its time, in place of the remark before.

        Args:
            text: Empty takes the one back that waits or is being said.
        """
        if not text:
            self._remark = ""
            if self._remark_shown:
                self._said_enough()
        elif self._remark_shown or not self.query_one("#chat-line", Static).has_class("-message"):
            self.say(text, seconds=8)
            self._remark_shown = True
        else:
            self._remark = text

    def _said_enough(self) -> None:
        text, self._remark, self._remark_shown = self._remark, "", False
        self._say()
        if text:
            self.remark(text)

    async def rebuild(self) -> None:
        """Shows the conversation anew, from its first message; the cards of another one go."""
        transcript, conversation = self.query_one(Transcript), self._session.conversation
        if conversation.id != self._shown:
            self._shown = conversation.id
            await transcript.clear()
        transcript.show_welcome(welcome(self._session))
        self._turn = await transcript.show_messages(conversation.path, partial(answer_footer, self._session))
        self._inspect_last()
        self._show_status()

    async def answer_again(self) -> None:
        """Asks for another answer beside the last one."""
        try:
            self._session.retry()
        except TuiChatError as error:
            self.say(str(error))
            return
        old, self._turn = self._turn, None
        if old is not None:
            await old.remove()
        await self._begin_answer()

    @property
    def inspected_id(self) -> str | None:
        """The message whose tokens the inspector shows."""
        return self._inspected

    # The answer under way

    async def _begin_answer(self) -> None:
        answer = self._session.answer
        self._turn = None
        self._inspect((), answer.message_id if answer is not None else None)
        turn = await self.query_one(Transcript).add_answer()
        turn.show_status("reading the prompt …")
        self._turn = turn
        if answer is not None:
            self.query_one(SamplingPanel).show_seed_used(answer.seed)
            if not answer.running and answer is self._session.answer:
                await self._finished()
        self._show_status()

    async def _finished(self) -> None:
        self._flush_tokens()
        answer, turn = self._session.answer, self._turn
        if answer is not None and answer.given_up:
            self._session.undo_answer()
            await self.rebuild()
            self.say(_("stopped before its first token: the answer before is back"))
        elif turn is not None and answer is not None and answer.message_id in self._session.conversation:
            turn.grow(answer.text)
            await turn.finish(answer_footer(self._session, self._session.conversation[answer.message_id]))
            self.post_message(self.Answered())

    async def _failed(self, error: TuiChatError) -> None:
        self._flush_tokens()
        answer = self._session.answer
        if answer is not None and answer.tokens:
            if self._turn is not None:
                self._turn.grow(answer.text)
                n = len(answer.tokens)
                broke_off = n_("broke off after {n} token", "broke off after {n} tokens", n)
                await self._turn.finish(broke_off.format(n=f"{n:,}"))
        else:
            text = self._session.undo_answer()
            await self.rebuild()
            if text is not None:
                self.query_one(Composer).put_back(text)
        await self.show_notice(said(error), NoticeKind.PROBLEM)

    # Inside

    def _inspect_last(self) -> None:
        message = self._session.conversation.last(Role.ASSISTANT)
        tokens = self._session.tokens_of.get(message.id, []) if message is not None else []
        self._inspect(tokens, message.id if message is not None else None)

    def _inspect(self, tokens: Sequence[GeneratedToken], message_id: str | None) -> None:
        self._inspected = message_id
        self._n_inspected = len(tokens)
        conversation = self._session.conversation
        known = message_id is not None and message_id in conversation
        given = message_id is not None and known and conversation[message_id].role is not Role.ASSISTANT
        self.query_one(Inspector).show_answer(tokens, given=given)

    def _flush_tokens(self) -> None:
        answer = self._session.answer
        if answer is None or answer.message_id != self._inspected:
            return
        if len(answer.tokens) > self._n_inspected:
            fresh = answer.tokens[self._n_inspected :]
            self._n_inspected += len(fresh)
            self.query_one(Inspector).extend(fresh)

    async def _show_written(self, turn: AnswerTurn, answer: Answer) -> None:
        turn.grow(answer.text)
        await turn.flush()

    async def _frame(self) -> None:
        """Shows what came since the last frame, and plans the next frame by what this one cost."""
        session, turn = self._session, self._turn
        now, interval_s = time.monotonic(), self._pacer.next_interval_s()
        answer = session.answer
        # One part of the screen at a time: a key waits for one of them at most, and drawing two of them at once costs
        # more than the two, because what lies between them is drawn as well.
        if (session.answering or session.loading is not None) and now - self._status_at >= STATUS_INTERVAL_S:
            self._status_at = now
            self._show_status()
            session.tick()
        elif answer is not None and answer.running and turn is not None:
            self._answer_next = not self._answer_next
            if self._answer_next:
                self._flush_tokens()
            elif answer.prefill is not None and not answer.tokens:
                done, total = answer.prefill
                reads = f"reading the prompt · {done:,} of {total:,} tokens"
                turn.show_status(reads if answer.pending is None else _("waits before the first token"))
                await turn.flush()
            else:
                await self._show_written(turn, answer)
        self.set_timer(interval_s, self._frame)

    def _show_status(self) -> None:
        show_status(self.query_one(StatusBar), self._session)
        if not self._session.answering and self.query_one("#chat-line", Static).has_class("-stopping"):
            self._say()

    def _say(self, text: str = "") -> None:
        line = self.query_one("#chat-line", Static)
        line.set_class(bool(text), "-message")
        line.set_class(text == _("stopping …"), "-stopping")
        line.update(Content(one_line(text) if text else sampling_line(self._session)))
        over = self.query_one("#said-elsewhere", Static)
        over.set_class(bool(text), "-message")
        over.update(Content(one_line(text)))
