"""The composer: a message of one or several lines, history, and completion of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import TextArea

from tui_chat.display.text import visible
from tui_chat.errors import StorageError
from tui_chat.language import N_, _
from tui_chat.ui.history import InputHistory
from tui_chat.ui.widgets.completion_menu import CompletionMenu, Offer

MAX_LINES = 6
PLACEHOLDER = N_("Message, or / for a command")

Complete = Callable[[str], Offer]
"""Gives the completions of a line that begins with a slash."""


class MessageInput(TextArea):
    """The text of the message. Enter sends, Shift+Enter or Ctrl+J begin a new line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", N_("Send"), show=False, id="composer.send"),
        Binding("shift+enter,ctrl+j", "new_line", N_("New line"), show=False, id="composer.new-line"),
        Binding("up", "earlier", N_("Earlier message"), show=False, id="composer.earlier"),
        Binding("down", "later", N_("Later message"), show=False, id="composer.later"),
        Binding("tab", "accept", N_("Complete"), show=False, id="composer.complete"),
        Binding("escape", "close_menu", N_("Close"), show=False, id="composer.close-menu"),
    ]

    class Sent(Message):
        """The message is to be sent."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class HistoryWanted(Message):
        """Another entry of the history is wanted: -1 earlier, 1 later."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, menu: CompletionMenu, look: Callable[[], None]) -> None:
        """Args:
        menu: Of the completions.
        look: Brings the menu up to what is written now.
        """
        super().__init__(
            placeholder=_(PLACEHOLDER), highlight_cursor_line=False, compact=True, soft_wrap=True, tab_behavior="focus"
        )
        self._menu = menu
        self._look = look

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"accept", "close_menu"}:
            return self._menu.is_open
        return True

    def put(self, text: str) -> None:
        """Replaces the text and goes to its end."""
        self.text = visible(text)
        self.move_cursor(self.document.end)

    async def _on_paste(self, event: events.Paste) -> None:
        # What is pasted may hold control sequences that would act if the terminal got them back from us, and its line
        # ends are carriage returns. The handler of the base class runs after this one, with the same event.
        event.text = visible(event.text.replace("\r\n", "\n").replace("\r", "\n"))

    async def _on_key(self, event: events.Key) -> None:
        # In the order the keys came: as a binding of priority it would overtake the letters typed just before it, and
        # as any other binding those typed just after it would overtake it.
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            if binding.action in {"send", "new_line"}:
                event.stop()
                event.prevent_default()
                await self.run_action(binding.action)
                return

    def action_send(self) -> None:
        self._look()
        suggestion = self._menu.highlighted
        if suggestion is not None and self.text.rstrip() == "/" and not self._menu.is_chosen:
            return  # the first of the list is nobody's wish yet
        if suggestion is not None and self._menu.is_meant and suggestion.text.rstrip() != self.text.rstrip():
            self.action_accept()
            if suggestion.text.endswith(" "):
                return
        if self.text.strip():
            # Emptied here and not when it is accepted, so that what is typed behind it is the next message.
            self.post_message(self.Sent(self.text))
            self.put("")

    def action_new_line(self) -> None:
        self.insert("\n")

    def action_accept(self) -> None:
        suggestion = self._menu.highlighted
        if suggestion is not None:
            self._menu.show(Offer())
            self.put(suggestion.text)

    def action_close_menu(self) -> None:
        self._menu.show(Offer())

    def action_earlier(self) -> None:
        if self._menu.is_open:
            self._menu.move(-1)
        elif self.cursor_at_first_line:
            self.post_message(self.HistoryWanted(-1))
        else:
            self.action_cursor_up()

    def action_later(self) -> None:
        if self._menu.is_open:
            self._menu.move(1)
        elif self.cursor_at_last_line:
            self.post_message(self.HistoryWanted(1))
        else:
            self.action_cursor_down()


class Composer(Vertical):
    """Where messages are written.

    Args:
        history: What was sent before.
        complete: Completes a line that begins with a slash.
    """

    DEFAULT_CSS = """
    Composer {
        height: auto; border: round $line; padding: 0 1;
        &:focus-within { border: round $primary; }
        MessageInput { height: auto; max-height: 6; background: $background; border: none; padding: 0; }
    }
    """

    class Submitted(Message):
        """The user sends this text, which the composer no longer shows: `accepted` keeps it, `put_back` refuses it."""

        def __init__(self, composer: Composer, text: str) -> None:
            super().__init__()
            self.composer = composer
            self.text = text

        @property
        def control(self) -> Widget:
            return self.composer

    class HistoryFailed(Message):
        """The history could not be written; said once."""

        def __init__(self, composer: Composer, error: StorageError) -> None:
            super().__init__()
            self.composer = composer
            self.error = error

        @property
        def control(self) -> Widget:
            return self.composer

    def __init__(self, history: InputHistory, complete: Complete, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._history = history
        self._complete = complete
        self._history_failed = False
        self._recalling = False
        self._draft = self._returned = ""
        self._menu = CompletionMenu()
        self._input = MessageInput(self._menu, self._look)
        self._looked_at = ""

    def compose(self) -> ComposeResult:
        yield self._menu
        yield self._input

    @property
    def text(self) -> str:
        """What is written there."""
        return self._input.text

    @property
    def rests(self) -> bool:
        """Whether nobody is writing: it is empty, or holds what a command begun elsewhere gave back."""
        return self.text in ("", self._returned)

    def focus_input(self) -> None:
        """Puts the cursor into the composer, at once: the next key goes there."""
        self.screen.set_focus(self._input)

    def put_back(self, text: str) -> None:
        """Puts refused text back, in front of what was typed since."""
        present = self._input.text
        self._recalling = True  # nobody wants help with what is on its way back
        self._input.put(f"{text}\n{present}" if present.strip() else text)

    def begin(self, line: str) -> None:
        """Writes the beginning of a command, for the user to go on with."""
        self._input.put(line)

    def begin_command(self) -> None:
        """Begins a command; what was being written comes back when that is sent or erased."""
        draft = self._input.text
        if draft.startswith("/"):
            return
        self._draft = draft
        self._input.put("/")

    def accepted(self, text: str) -> None:
        """Keeps the text in the history."""
        try:
            self._history.add(text)
        except StorageError as error:
            if not self._history_failed:
                self._history_failed = True
                self.post_message(self.HistoryFailed(self, error))

    def on_click(self) -> None:
        self._input.focus()

    @on(TextArea.Changed)
    def _edited(self, event: TextArea.Changed) -> None:
        event.stop()
        self._look()

    def _look(self) -> None:
        text = self._input.text
        if text == self._looked_at:
            return
        self._looked_at = text
        if not text and self._draft:
            self._return_draft()
            return
        recalled, self._recalling = self._recalling, False
        wanted = text.startswith("/") and "\n" not in text and not recalled
        self._menu.show(self._complete(text) if wanted else Offer())

    def _return_draft(self) -> None:
        self._returned, self._draft = self._draft, ""
        if self._returned:
            self.put_back(self._returned)

    @on(MessageInput.Sent)
    def _sent(self, event: MessageInput.Sent) -> None:
        event.stop()
        self._return_draft()
        self.post_message(self.Submitted(self, event.text))

    @on(MessageInput.HistoryWanted)
    def _history_wanted(self, event: MessageInput.HistoryWanted) -> None:
        event.stop()
        entry = self._history.earlier(self._input.text) if event.step < 0 else self._history.later()
        if entry is not None:
            self._recalling = True
            self._input.put(entry)

    @on(CompletionMenu.Accepted)
    def _clicked(self, event: CompletionMenu.Accepted) -> None:
        event.stop()
        self._menu.show(Offer())
        self._input.put(event.suggestion.text)
        self._input.focus()
