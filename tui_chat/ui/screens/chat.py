"""The main screen: chat, inspector and sampling, laid out for the size it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.message import Message as TextualMessage
from textual.widgets import Footer, Static

from tui_chat.commands.parsing import unescape
from tui_chat.engine.types import (
    GenerationFailed,
    GenerationFinished,
    ModelFailed,
    ModelLoaded,
    TokenPending,
    TokensGenerated,
    TokensWithdrawn,
)
from tui_chat.errors import CancelledError, TuiChatError
from tui_chat.language import _
from tui_chat.ui.bridge import EngineReported
from tui_chat.ui.history import InputHistory
from tui_chat.ui.news import DownloadEnded, DownloadFailed, PiecesRead, PromptNoted, StoringFailed, TokenizerNoted
from tui_chat.ui.pacing import FRAME_INTERVAL_S
from tui_chat.ui.screens.chat_keys import CHAT_BINDINGS
from tui_chat.ui.screens.glass import GlassScreen
from tui_chat.ui.screens.sizes import HEIGHTS, MIN_HEIGHT, MIN_WIDTH, WIDTHS, layout_classes
from tui_chat.ui.session import Session
from tui_chat.ui.summary import model_line, welcome
from tui_chat.ui.widgets.completion_menu import Offer
from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.pane_tabs import PaneTabs
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.sampling_panel import SamplingPanel
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.step_panel import StepPanel
from tui_chat.ui.widgets.token_map import TokenMap
from tui_chat.ui.widgets.token_text import TokenText
from tui_chat.ui.widgets.transcript import Transcript
from tui_chat.ui.widgets.turns import AnswerTurn, NoticeKind


class ChatScreen(GlassScreen):
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

    def __init__(
        self,
        session: Session,
        *,
        history: InputHistory,
        complete: Callable[[str], Offer],
        execute: Callable[[str], bool],
        take_report: Callable[[ReportCard, str], Awaitable[None]],
    ) -> None:
        super().__init__(session)
        self._history = history
        self._complete = complete
        self._execute = execute
        self._take_report = take_report

    def compose(self) -> ComposeResult:
        session = self._session
        # Else the first frame would be laid out as if there were no breakpoints, and again at once.
        self.add_class(*layout_classes(self.app.size), update=False)
        with Vertical(id="frame"):
            yield StatusBar()
            yield PaneTabs()
            with Horizontal(id="body"):
                with Vertical(id="chat"):
                    yield Transcript(welcome(session))
                    yield TokenMap()
                    yield StepPanel(session.piece_of)
                    yield Composer(self._history, self._complete)
                    yield Static(id="chat-line", markup=False)
                with Container(id="side"):
                    yield Inspector(session.piece_of, lambda: session.pieces)
                    yield SamplingPanel(session.settings.inference, session.inference)
            yield Static(id="said-elsewhere", markup=False)
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
        self.update_classes({"-tiny": tiny}, animate=False)
        if tiny:
            needs = f"needs {MIN_WIDTH}×{MIN_HEIGHT}, is {width}×{height}"
            self.query_one("#too-small", Static).update(f"terminal too small: {needs}")
        elif self.focused is None and self.is_mounted:  # what is hidden loses the focus
            self.call_after_refresh(self._focus_pane, self._pane)

    # What the app and commands ask for

    def show_settings(self) -> None:
        """Shows the settings, which were changed elsewhere."""
        self.query_one(SamplingPanel).show(self._session.inference)
        self._say()

    def refresh_status(self) -> None:
        """Shows the state of the session anew."""
        self.query_one(Transcript).show_welcome(welcome(self._session))
        self._show_status()

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
                self._back_to_steps()
                return
        except TuiChatError as error:
            # Not put back, where the next line would be glued to it: it is the newest of the history.
            composer.accepted(event.text)
            await self.show_notice(str(error), NoticeKind.PROBLEM)
            self._back_to_steps()
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
    def _settings_changed(self, event: SamplingPanel.Changed) -> None:
        event.stop()
        try:
            self._session.set_values(event.values)
        except TuiChatError as error:
            self.show_settings()
            self.say(str(error))
        else:
            self.show_settings()

    @on(SamplingPanel.Stepped)
    def _settings_stepped(self, event: SamplingPanel.Stepped) -> None:
        event.stop()
        self._execute("/undo" if event.direction < 0 else "/redo")

    @on(SamplingPanel.CommandWanted)
    def _command_wanted(self, event: SamplingPanel.CommandWanted) -> None:
        event.stop()
        composer = self.query_one(Composer)
        if composer.text.strip():
            self.say(_("there is a draft in the composer: send it, then write {line} there").format(line=event.line))
            return
        composer.begin(event.line)
        self.show_pane("chat", focus=True)

    @on(ReportCard.Wanted)
    async def _report_wanted(self, event: ReportCard.Wanted) -> None:
        event.stop()
        if event.what != "close":
            await self._take_report(event.card, event.what)
            return
        await event.card.remove()
        self.query_one(Composer).focus_input()

    def on_descendant_focus(self) -> None:
        # With the keys of a report, the line of keys is wider than 80 cells. Others than before begin at their first.
        footer = self.query_one(Footer)
        footer.compact = isinstance(self.focused, ReportCard | TokenText)
        footer.scroll_to(x=0, animate=False)

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
            case TokenPending() | TokensWithdrawn():
                await self.step_reported()
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

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:  # nothing is there yet to act on
            return False
        if action == "page":
            return isinstance(self.focused, MessageInput)
        return super().check_action(action, parameters)

    def action_stop(self) -> None:
        if self.leave_search():
            return
        if self.stop():
            self._say(_("stopping …"))
        elif isinstance(self.focused, ReportCard | TokenText):
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
