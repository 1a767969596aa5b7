"""The chat screen's two views of what was said: to read, and as tokens; what is stood on there the inspector shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from textual import on
from textual.message import Message as TextualMessage

from tui_chat.chat.conversation import Message, Role
from tui_chat.engine.types import TokenTrace
from tui_chat.errors import StorageError, TuiChatError
from tui_chat.language import _, said
from tui_chat.ui.screens.steering import SteeringScreen
from tui_chat.ui.session import Session
from tui_chat.ui.telling import Told
from tui_chat.ui.tints import Measure
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.token_map import TokenMap
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.token_text import TokenText
from tui_chat.ui.widgets.transcript import Transcript
from tui_chat.ui.widgets.turns import AnswerTurn, Turn

if TYPE_CHECKING:
    from tui_chat.ui.progress import Answer


class TokenViewScreen(SteeringScreen):
    """Shows the messages as tokens, where that is wanted.

    Args:
        session: What is shown.
    """

    class FiguresRead(TextualMessage):
        """The engine has read tokens of a prompt; from any thread."""

        def __init__(self, message_id: str, traces: Sequence[TokenTrace]) -> None:
            super().__init__()
            self.message_id = message_id
            self.traces = traces

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._as_tokens = False
        self._measure = Measure.PROBABILITY
        self.told = Told(session)
        """The tokens of the messages."""

    async def on_mount(self) -> None:
        self.watch(self.query_one(TokenStrip), "selected", self._strip_moved, init=False)

    # What others ask for

    @property
    def view(self) -> str:
        """The view in the words of `/view`."""
        return _("tokens by {measure}").format(measure=_(self._measure.value)) if self._as_tokens else _("reading")

    async def set_view(self, tokens: bool | None, measure: Measure | None = None, *, focus: bool = False) -> None:
        """Changes the view.

        Args:
            tokens: Show the tokens, or the text; None changes to the other.
            measure: What the tokens are tinted by; None leaves that.
            focus: Go to the token that is on show.
        """
        self._as_tokens = not self._as_tokens if tokens is None else tokens
        if measure is not None:
            self._set_measure(measure)
        in_view = isinstance(self.focused, TokenText)
        with self.app.batch_update():
            await self._sync()
        self.query_one(TokenMap).set_class(self._as_tokens, "-shown")
        if not self._as_tokens:
            if focus or in_view:
                self.query_one(Composer).focus_input()
            return
        self.run_worker(self._fetch_stored(), exclusive=True, group="stored-tokens")
        if focus:
            self.show_pane("chat", focus=False)
            text = self._text_of(self._inspected) or next(reversed(self._texts()), None)
            if text is None:
                self.say(_("nothing was said yet: there are no tokens"))
            else:
                text.focus(scroll_visible=False)

    def mark_tokens(self, message_id: str, indices: Collection[int]) -> None:
        """Marks tokens of a message that would have come out differently; none takes the marks away."""
        text = self._text_of(message_id)
        if text is not None:
            text.mark(indices)

    # What goes on

    async def rebuild(self) -> None:
        """Shows the conversation anew, in the view there is."""
        await super().rebuild()
        if self._as_tokens:
            await self._sync()
            self.run_worker(self._fetch_stored(), exclusive=True, group="stored-tokens")

    async def _begin_answer(self) -> None:
        self.told.stop_reading()
        await super()._begin_answer()
        if self._as_tokens:
            await self._sync()

    async def _finished(self) -> None:
        await super()._finished()
        if self._as_tokens:
            await self._sync()
            self._read_figures()

    async def _failed(self, error: TuiChatError) -> None:
        await super()._failed(error)
        if self._as_tokens:
            await self._sync()

    async def _show_written(self, turn: AnswerTurn, answer: Answer) -> None:
        if not self._as_tokens or not answer.tokens:
            await super()._show_written(turn, answer)
            return
        turn.grow(answer.text)
        # By the message, not by the turn: while another answer begins, that is still the one before.
        text = self._text_of(answer.message_id)
        if text is None:
            await self._sync()
        else:
            text.show(answer.tokens)
            self._show_map()

    # Messages of the widgets

    def on_descendant_focus(self) -> None:
        text = self.focused
        if isinstance(text, TokenText) and (message := self._message_of(text)) is not None:
            self._inspect_message(message.id, text)
            self._reveal(text)

    @on(TokenText.Selected)
    def _text_selected(self, event: TokenText.Selected) -> None:
        event.stop()
        message = self._message_of(event.text)
        if message is None:
            return
        self._inspect_message(message.id, event.text)
        self._flush_tokens()  # what streams reaches the inspector in another frame
        self.query_one(TokenStrip).select(event.index)
        self._reveal(event.text)
        self._show_map()

    @on(TokenText.Left)
    def _text_left(self, event: TokenText.Left) -> None:
        event.stop()
        texts = self._texts()
        at = texts.index(event.text) + event.step if event.text in texts else -1
        if 0 <= at < len(texts):
            texts[at].focus(scroll_visible=False)
            texts[at].enter(event.step, event.column)

    @on(TokenText.Asked)
    async def _text_asked(self, event: TokenText.Asked) -> None:
        event.stop()
        strip = self.query_one(TokenStrip)
        match event.what:
            case "measure":
                measures = list(Measure)
                at = measures.index(self._measure)
                self._set_measure(measures[(at + event.step) % len(measures)])
            case "explain":
                strip.action_explain()
            case "enter":
                if event.text.current not in event.text.marks:
                    self.show_pane("inspector", focus=False)
                self.call_after_refresh(strip.action_enter)
            case "what-if":
                strip.action_what_if()

    @on(TokenMap.Jumped)
    def _jumped(self, event: TokenMap.Jumped) -> None:
        event.stop()
        text = self._text_of(self._inspected)
        if text is not None:
            text.select(event.index)

    @on(FiguresRead)
    def _figures_read(self, event: FiguresRead) -> None:
        event.stop()
        tokens = self.told.take(event.message_id, event.traces)
        text = self._text_of(event.message_id)
        if text is not None:
            text.lay_out_anew()
        if event.message_id == self._inspected:
            self.query_one(Inspector).replace(tokens)
            self.query_one(TokenMap).forget()

    def _strip_moved(self, index: int | None) -> None:
        text = self._text_of(self._inspected)
        if text is not None and text.selected != index:
            text.selected = index
            self._reveal(text)
            self._show_map()

    # Keys

    async def action_view(self) -> None:
        await self.set_view(None, focus=True)

    # Inside

    async def _sync(self) -> None:
        """Gives every turn the view there is."""
        for turn, message in self._turns():
            tokens = self.told.tokens(message) if self._as_tokens else ()
            if bool(tokens) != (turn.token_text is not None):
                await turn.view_tokens(bool(tokens))
                if not tokens and isinstance(turn, AnswerTurn):
                    await turn.flush()
            text = turn.token_text
            if text is not None:
                text.measure = self._measure
                text.active = message.id == self._inspected
                text.footer = turn.footer if isinstance(turn, AnswerTurn) else ""
                text.show(tokens)
        self._show_map()

    def _turns(self) -> Iterator[tuple[Turn, Message]]:
        """The turns on the screen with their messages."""
        turns = self.query_one(Transcript).children
        messages = (message for message in self._session.conversation.path if message.role is not Role.SYSTEM)
        return zip((turn for turn in turns if isinstance(turn, Turn)), messages, strict=False)

    def _texts(self) -> list[TokenText]:
        return [turn.token_text for turn, _message in self._turns() if turn.token_text is not None]

    def _text_of(self, message_id: str | None) -> TokenText | None:
        return next((turn.token_text for turn, message in self._turns() if message.id == message_id), None)

    def _message_of(self, text: TokenText) -> Message | None:
        return next((message for turn, message in self._turns() if turn.token_text is text), None)

    async def _fetch_stored(self) -> None:
        """Reads the tokens of answers that are on disk alone."""
        try:
            await self.told.fetch()
        except StorageError as error:
            self.say(str(error))
            return
        if self._as_tokens:
            await self._sync()

    def _inspect_message(self, message_id: str, text: TokenText) -> None:
        if message_id != self._inspected:
            self._inspect(text.tokens, message_id)
            for turn, message in self._turns():
                if turn.token_text is not None:
                    turn.token_text.active = message.id == message_id
            self.query_one(Inspector).select(text.selected)
            self._show_map()
        self._read_figures()

    def _read_figures(self) -> None:
        """Has the engine read what is inspected, where it is something the model was given."""
        message_id = self._inspected
        if self._as_tokens and message_id is not None:
            self.told.read(
                message_id,
                lambda traces: self.post_message(self.FiguresRead(message_id, traces)),
                self._reading_failed,
            )

    def _reading_failed(self, error: BaseException) -> None:
        self.say(said(error) if isinstance(error, TuiChatError) else repr(error))

    def _show_map(self) -> None:
        text = self._text_of(self._inspected)
        shown = self.query_one(TokenMap)
        if text is None:
            shown.show((), None)
        else:
            shown.show(text.tokens, text.current)

    def _reveal(self, text: TokenText) -> None:
        if text.selected is None and isinstance(self.focused, TokenText):
            self.query_one(Transcript).anchor()
        elif text.current is not None:
            self.query_one(Transcript).reveal_line(text, text.line_region(text.current))

    def _set_measure(self, measure: Measure) -> None:
        self._measure, shown = measure, self.query_one(TokenMap)
        shown.measure, shown.note = measure, ""  # its legend says what the tints mean now
        for text in self._texts():
            text.measure = measure
