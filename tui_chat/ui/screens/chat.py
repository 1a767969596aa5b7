"""The main screen: chat, inspector and sampling, laid out for the size it is given."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.message import Message as TextualMessage
from textual.widgets import Footer, Static

from tui_chat.chat.conversation import Role
from tui_chat.commands.parsing import unescape
from tui_chat.display.text import one_line
from tui_chat.engine.types import (
    GeneratedToken,
    GenerationFailed,
    GenerationFinished,
    ModelFailed,
    ModelLoaded,
    TokensGenerated,
)
from tui_chat.errors import CancelledError, TuiChatError
from tui_chat.language import _, n_, said
from tui_chat.ui.bridge import EngineReported
from tui_chat.ui.history import InputHistory
from tui_chat.ui.news import DownloadEnded, DownloadFailed, PiecesRead, PromptNoted, StoringFailed, TokenizerNoted
from tui_chat.ui.pacing import FRAME_INTERVAL_S, FramePacer
from tui_chat.ui.screens.chat_keys import CHAT_BINDINGS
from tui_chat.ui.screens.panes import PanedScreen
from tui_chat.ui.screens.sizes import HEIGHTS, MIN_HEIGHT, MIN_WIDTH, SHORT_HEIGHT, WIDTHS, layout_classes
from tui_chat.ui.session import Session
from tui_chat.ui.summary import answer_footer, model_line, sampling_line, show_status, welcome
from tui_chat.ui.widgets.completion_menu import Offer
from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.pane_tabs import PaneTabs
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.sampling_panel import SETTING_NAMES, SamplingPanel
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.transcript import Transcript
from tui_chat.ui.widgets.turns import AnswerTurn, NoticeKind

STATUS_INTERVAL_S = 0.5
"""Time between two updates of the status line."""


class ChatScreen(PanedScreen):
    """Chat on the left, the newest token and the sliders beside it, or one of them at a time where there is no room.

    Args:
        session: What is shown.
        history: What was sent before.
        complete: Completes a line that begins with a slash.
        execute: Carries out a command; False where the line is a message.
        take_report: Copies or saves a report.
    """

    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar[list[BindingType]] = CHAT_BINDINGS

    class ModelReady(TextualMessage):
        """A model can answer from now on."""

    class Answered(TextualMessage):
        """An answer has ended."""

    def __init__(
        self,
        session: Session,
        *,
        history: InputHistory,
        complete: Callable[[str], Offer],
        execute: Callable[[str], bool],
        take_report: Callable[[ReportCard, str], Awaitable[None]],
    ) -> None:
        super().__init__(classes="-pane-chat")
        self._session = session
        self._history = history
        self._complete = complete
        self._execute = execute
        self._take_report = take_report
        self._turn: AnswerTurn | None = None
        self._shown = session.conversation.id
        self._n_inspected = 0
        self._pacer = FramePacer()
        self._answer_next = False
        self._status_at = 0.0

    def compose(self) -> ComposeResult:
        session = self._session
        # Else the first frame would be laid out as if there were no breakpoints, and again at once.
        self.add_class(*layout_classes(self.app.size), update=False)
        defaults = {name: _number(session.setting_default(name)) for name in SETTING_NAMES}
        values = {name: _number(session.value(name)) for name in SETTING_NAMES}
        with Vertical(id="frame"):
            yield StatusBar()
            yield PaneTabs()
            with Horizontal(id="body"):
                with Vertical(id="chat"):
                    yield Transcript(welcome(session))
                    yield Composer(self._history, self._complete)
                    yield Static(id="chat-line", markup=False)
                with Container(id="side"):
                    yield Inspector(session.piece_of)
                    yield SamplingPanel(defaults, values)
            yield Footer(show_command_palette=False)
        yield Static(id="too-small", markup=False)

    async def on_mount(self) -> None:
        self.query_one(Composer).focus_input()
        self._say()
        self._said = self.set_timer(4, self._say)
        self._show_status()
        if len(self._session.conversation):
            await self.rebuild()
        self.set_timer(FRAME_INTERVAL_S, self._frame)

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        tiny = width < MIN_WIDTH or height < MIN_HEIGHT
        self.update_classes({"-tiny": tiny, "-short": height < SHORT_HEIGHT}, animate=False)
        if tiny:
            needs = f"needs {MIN_WIDTH}×{MIN_HEIGHT}, is {width}×{height}"
            self.query_one("#too-small", Static).update(f"terminal too small: {needs}")
        elif self.focused is None and self.is_mounted:  # what is hidden loses the focus
            self.call_after_refresh(self._focus_pane, self._pane)

    # What the app and commands ask for

    @property
    def session(self) -> Session:
        """The session on show."""
        return self._session

    async def show_notice(self, text: str, kind: NoticeKind = NoticeKind.NOTE, *, title: str | None = None) -> None:
        """Shows a card in the transcript, on whatever pane one is."""
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
        """Says something in the line under the composer, for a while."""
        self._say(text)
        self._said.stop()
        self._said = self.set_timer(seconds, self._say)

    def show_setting(self, name: str) -> None:
        """Shows a setting that was changed by a command."""
        if name in SETTING_NAMES:
            self.query_one(SamplingPanel).set_value(name, _number(self._session.value(name)))
        self._say()

    def refresh_status(self) -> None:
        """Shows the state of the session anew."""
        self.query_one(Transcript).show_welcome(welcome(self._session))
        self._show_status()

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

    def stop(self) -> bool:
        """Stops what is under way; False if nothing is."""
        return self._session.stop()

    # Messages of the widgets

    @on(Composer.Submitted)
    async def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        composer = self.query_one(Composer)
        try:
            if self._execute(event.text):
                composer.accepted(event.text)
                return
        except TuiChatError as error:
            # Not put back, where the next line would be glued to it: it is the newest of the history.
            composer.accepted(event.text)
            await self.show_notice(str(error), NoticeKind.PROBLEM)
            return
        text = unescape(event.text)
        try:
            self._session.send(text)
        except TuiChatError as error:
            composer.put_back(event.text)
            self.say(str(error))
            return
        composer.accepted(event.text)
        await self.query_one(Transcript).add_user(text)
        await self._begin_answer()

    @on(Composer.HistoryFailed)
    def _history_failed(self, event: Composer.HistoryFailed) -> None:
        event.stop()
        self.say(str(event.error))

    @on(SamplingPanel.Changed)
    def _setting_changed(self, event: SamplingPanel.Changed) -> None:
        event.stop()
        try:
            self._session.set_value(event.name, event.value)
        except TuiChatError as error:
            self.say(str(error))
            event.panel.set_value(event.name, _number(self._session.value(event.name)))
        self._say()

    @on(ReportCard.Wanted)
    async def _report_wanted(self, event: ReportCard.Wanted) -> None:
        event.stop()
        if event.what != "close":
            await self._take_report(event.card, event.what)
            return
        await event.card.remove()
        self.query_one(Composer).focus_input()

    def on_descendant_focus(self) -> None:
        # With the keys of a report, the line of keys is wider than 80 cells.
        self.query_one(Footer).compact = isinstance(self.focused, ReportCard)

    @on(PaneTabs.Chosen)
    def _tab_chosen(self, event: PaneTabs.Chosen) -> None:
        event.stop()
        self.show_pane(event.pane, focus=True)

    # Events of other threads

    @on(EngineReported)
    async def _reported(self, message: EngineReported) -> None:
        event = message.event
        message.stop()
        if not self._session.handle(event):
            return
        match event:
            case TokensGenerated():
                # The next frame shows them, with all else that comes until then.
                return
            case GenerationFinished():
                await self._finished()
            case GenerationFailed(error=error):
                await self._failed(error)
            case ModelLoaded():
                self._model_loaded()
            case ModelFailed(error=error) | DownloadFailed(error=error):
                await self._model_failed(error)
            case DownloadEnded(note=note) if note:
                await self.show_notice(note)
            case StoringFailed(error=error):
                await self.show_notice(f"{error}. This conversation goes on, but is not kept.", NoticeKind.PROBLEM)
            case TokenizerNoted(note=text):
                await self.show_notice(text)
            case PromptNoted(notes=notes):
                await self.show_notice("\n".join(notes))
            case PiecesRead():
                self.query_one(Inspector).pieces_arrived()
                return
        self._show_status()

    def _model_loaded(self) -> None:
        model = self._session.model
        if model is not None:
            self.query_one(Inspector).n_vocab = model.n_vocab
            if self._turn is not None:
                self.say(_("{model} is ready").format(model=model_line(model)))
        self.query_one(Transcript).show_welcome(welcome(self._session))
        self.post_message(self.ModelReady())

    async def _model_failed(self, error: TuiChatError) -> None:
        self.query_one(Transcript).show_welcome(welcome(self._session))
        kept = self._session.model
        if isinstance(error, CancelledError):
            self.say(_("loading stopped"))
            return
        goes_on = f"\nThe model {kept.name} stays in use." if kept is not None else ""
        await self.show_notice(f"{error}{goes_on}", NoticeKind.PROBLEM, title="! model")

    async def _begin_answer(self) -> None:
        answer = self._session.answer
        self._turn = None
        self._inspect(())
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
        if turn is not None and answer is not None and answer.message_id in self._session.conversation:
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
                await self._turn.finish(n_("broke off after {n} token", "broke off after {n} tokens", n).format(n=n))
        else:
            text = self._session.undo_answer()
            await self.rebuild()
            if text is not None:
                self.query_one(Composer).put_back(text)
        await self.show_notice(said(error), NoticeKind.PROBLEM)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "page":
            return isinstance(self.focused, MessageInput)
        return True

    def action_stop(self) -> None:
        if self.stop():
            self._say(_("stopping …"))
        elif isinstance(self.focused, ReportCard):
            self.query_one(Composer).focus_input()

    async def action_interrupt(self) -> None:
        if self.stop():
            self._say(_("stopping …"))
            return
        focused = self.focused
        if isinstance(focused, MessageInput) and focused.selected_text:
            focused.action_copy()
        elif self.get_selected_text():
            self.action_copy_text()
        else:
            self.say(_("nothing to stop: Ctrl+Q quits"))

    def action_retry(self) -> None:
        # In the screen's own turn: actions run beside the events of the engine.
        self.call_next(self.answer_again)

    def action_sibling(self, offset: int) -> None:
        if self._session.step_sibling(offset):
            self.call_next(self.rebuild)

    def action_fold(self) -> None:
        for turn in self.query(AnswerTurn):
            turn.toggle_thinking()

    def action_page(self, direction: int) -> None:
        transcript = self.query_one(Transcript)
        if direction < 0:
            transcript.release_anchor()
            transcript.scroll_page_up(animate=False)
        else:
            transcript.scroll_page_down(animate=False)

    # Inside

    def _inspect_last(self) -> None:
        message = self._session.conversation.last(Role.ASSISTANT)
        tokens = self._session.tokens_of.get(message.id, []) if message is not None else []
        self._inspect(tokens)

    def _inspect(self, tokens: Sequence[GeneratedToken]) -> None:
        self._n_inspected = len(tokens)
        self.query_one(Inspector).show_answer(tokens)

    def _flush_tokens(self) -> None:
        answer = self._session.answer
        if answer is not None and len(answer.tokens) > self._n_inspected:
            fresh = answer.tokens[self._n_inspected :]
            self._n_inspected += len(fresh)
            self.query_one(Inspector).extend(fresh)

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
                turn.show_status(f"reading the prompt · {done} of {total} tokens")
                await turn.flush()
            else:
                turn.grow(answer.text)
                await turn.flush()
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


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None
