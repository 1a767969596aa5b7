"""What is under way: an answer, or a model that is being fetched and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui_chat.engine.types import FinishReason, GeneratedToken, SamplingParams, Timings, Usage
from tui_chat.errors import TuiChatError

if TYPE_CHECKING:
    from tui_chat.models.hub import DownloadProgress

RATE_WINDOW_S = 2.0
"""The live rate is that of about this long a time."""


@dataclass(slots=True)
class Answer:
    """The answer under way, or the last one."""

    request_id: int
    message_id: str
    seed: int
    began: float
    retry_of: str | None = None
    """The message that was the tip before, if this is another try."""
    params: SamplingParams | None = None
    """The settings in use, from when the engine began."""
    tokens: list[GeneratedToken] = field(default_factory=list)
    text: str = ""
    prefill: tuple[int, int] | None = None
    """Prompt tokens done and in all, while the prompt is read."""
    n_prompt: int = 0
    usage: Usage | None = None
    timings: Timings | None = None
    reason: FinishReason | None = None
    error: TuiChatError | None = None
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """(time, tokens so far) of recent batches."""

    @property
    def running(self) -> bool:
        """Whether more will come."""
        return self.reason is None and self.error is None

    @property
    def rate(self) -> float | None:
        """Tokens a second: of the last seconds while it runs, of the whole answer afterwards."""
        if self.timings is not None:
            return self.timings.tokens_per_s or None
        if len(self.arrivals) < 2:
            return None
        (first_s, first), (last_s, last) = self.arrivals[0], self.arrivals[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None

    def arrived(self, now: float) -> None:
        """Notes that tokens came, for the rate."""
        self.arrivals.append((now, len(self.tokens)))
        while len(self.arrivals) > 2 and now - self.arrivals[0][0] > RATE_WINDOW_S:
            self.arrivals.pop(0)


@dataclass(slots=True)
class Loading:
    """A model on its way: first perhaps a download, then the load."""

    label: str
    request_id: int | None = None
    download: int | None = None
    fraction: float | None = None
    progress: DownloadProgress | None = None
