"""Model files fetched or made beside the screen: each on a thread of its own, one at a time, with cancel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_chat.errors import CancelledError, DownloadError, TuiChatError
from tui_chat.ui.news import DownloadAdvanced, DownloadEnded, DownloadFailed, News

if TYPE_CHECKING:
    from tui_chat.models.hub import DownloadProgress
    from tui_chat.models.resolve import ModelSpec

PROGRESS_INTERVAL_S = 0.2


class Downloader:
    """Fetches model files from the Hub, and makes those of checkpoints.

    Args:
        report: Brings news to the session from any thread.
    """

    def __init__(self, report: Callable[[News], None]) -> None:
        self._report = report
        self._number = 0
        self._cancel: threading.Event | None = None

    def fetch(self, spec: ModelSpec) -> int:
        """Begins to fetch or make a file; gives the number that its news carries. One under way is cancelled."""
        self.cancel()
        self._number += 1
        self._cancel = threading.Event()
        thread = threading.Thread(
            target=self._work, args=(self._number, spec, self._cancel), name="tui-chat-download", daemon=True
        )
        thread.start()
        return self._number

    def cancel(self) -> None:
        """Stops the download under way, if there is one."""
        if self._cancel is not None:
            self._cancel.set()

    def _work(self, number: int, spec: ModelSpec, cancel: threading.Event) -> None:
        reported = 0.0

        def progress(state: DownloadProgress) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported >= PROGRESS_INTERVAL_S:
                reported = now
                self._report(DownloadAdvanced(number, state))

        try:
            from tui_chat.models.hub import Fetched, fetch
            from tui_chat.models.resolve import file_of

            if spec.kind == "checkpoint":
                fetched = Fetched(file_of(spec))
            elif spec.repo is None or spec.file is None:
                raise DownloadError(f"{spec.label}: name the repository and the file in it")
            else:
                fetched = fetch(spec.repo, spec.file, spec.branch, on_progress=progress, cancel=cancel)
            if cancel.is_set():
                raise CancelledError(f"{spec.label} was stopped on its way")
        except TuiChatError as error:
            self._report(DownloadFailed(number, error))
        except Exception as error:  # the edge of a thread: whatever a library raises becomes an event
            self._report(DownloadFailed(number, DownloadError(f"{spec.label} could not be fetched: {error}")))
        else:
            self._report(DownloadEnded(number, fetched.path, fetched.note))
