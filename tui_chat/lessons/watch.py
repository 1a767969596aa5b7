"""How a demonstration tells how far it is, and hears that it should stop."""

from __future__ import annotations

from collections.abc import Callable

from tui_chat.engine.control import CancelFlag
from tui_chat.errors import CancelledError
from tui_chat.lessons.report import Report


class Watch:
    """Given to a demonstration while it runs.

    Args:
        on_report: Takes what there is so far, as a report that the next one replaces; called on the engine thread.
        on_progress: Takes a line that says how far it is; called on the engine thread.
    """

    def __init__(
        self,
        on_report: Callable[[Report], None] = lambda _: None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.cancel = CancelFlag()
        """Set from any thread to stop it."""
        self.show = on_report
        self.say = on_progress

    def check(self) -> None:
        """Give up if that was asked for.

        Raises:
            CancelledError: It was.
        """
        if self.cancel.is_set():
            raise CancelledError("stopped")
