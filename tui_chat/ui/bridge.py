"""The bridge from other threads to the screen: everything they report travels in one kind of message.

`App.post_message` is the only call of Textual's that is safe from another thread, so it is the only one made.
"""

from __future__ import annotations

from textual.message import Message

from tui_chat.engine.types import EngineEvent
from tui_chat.ui.news import News


class EngineReported(Message, bubble=False):
    """Something happened on the engine thread, or on a download's or the store's."""

    def __init__(self, event: EngineEvent | News) -> None:
        super().__init__()
        self.event = event
