"""What is under way: an answer, or a model that is being fetched and loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Message
from tui_chat.chat.trace_file import PERIODS, params_document
from tui_chat.engine.types import (
    FinishReason,
    GeneratedToken,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    PrefillProgressed,
    SamplingParams,
    SettingsChanged,
    Timings,
    TokenPending,
    TokensGenerated,
    TokensWithdrawn,
    Usage,
)
from tui_chat.errors import TuiChatError

if TYPE_CHECKING:
    from tui_chat.models.hub import DownloadProgress

RATE_WINDOW_S = 2.0
"""The live rate is that of about this long a time."""

AnswerEvent = (
    GenerationStarted
    | PrefillProgressed
    | TokensGenerated
    | TokenPending
    | TokensWithdrawn
    | SettingsChanged
    | GenerationFinished
    | GenerationFailed
)
"""What the engine reports of an answer."""


@dataclass(slots=True)
class Answer:
    """The answer under way, or the last one."""

    request_id: int
    message_id: str
    seed: int
    began: float
    retry_of: str | None = None
    """The message that was the tip before, if this is another try."""
    begun_with: str = ""
    """The text it was to begin with."""
    ends_as: FinishReason | None = None
    """Why it ends with what it begins with, if it is to go no further."""
    pending: TokenPending | None = None
    """The token it waits before, in step mode."""
    changes: list[tuple[int, SamplingParams]] = field(default_factory=list)
    """(first token, settings): which held from which token on."""
    params: SamplingParams | None = None
    """The settings in use, from when the engine began."""
    tokens: list[GeneratedToken] = field(default_factory=list)
    text: str = ""
    prefill: tuple[int, int] | None = None
    """Prompt tokens done and in all, while the prompt is read."""
    prompt_ids: tuple[int, ...] = ()
    """All that the engine was given, with the tokens the answer was to begin with."""
    n_prefilled: int = 0
    """How many those are."""
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
    def given_up(self) -> bool:
        """Whether it was another try, stopped before anything came of it."""
        return self.reason is FinishReason.CANCELLED and not self.tokens and self.retry_of is not None

    @property
    def n_prompt(self) -> int:
        """Tokens that stand before the answer; 0 until the engine begins."""
        return len(self.prompt_ids) - self.n_prefilled

    @property
    def rate(self) -> float | None:
        """Tokens a second: of the last seconds while it runs, of the whole answer afterwards."""
        if self.timings is not None:
            return self.timings.tokens_per_s or None
        if len(self.arrivals) < 2:
            return None
        (first_s, first), (last_s, last) = self.arrivals[0], self.arrivals[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None

    def take(self, event: AnswerEvent, now: float) -> None:
        """Takes in what the engine reports of it, at the time `now`."""
        match event:
            case GenerationStarted(request=request):
                self.prompt_ids, self.n_prefilled = request.prompt_ids, request.n_prefilled
                self.prefill = (0, len(request.prompt_ids))
                self.params = request.params
                self.changes = [(0, request.params)]
            case PrefillProgressed(done=done, total=total):
                self.prefill = (done, total)
            case TokensGenerated(tokens=tokens, text=text):
                self.pending = None
                self.tokens.extend(tokens)
                self.text += text
                self._arrived(now)
            case TokenPending():
                self.pending = event
            case TokensWithdrawn(n_tokens=n_tokens, text=text):
                self.pending = None
                del self.tokens[n_tokens:]
                self.text = text
            case SettingsChanged(index=index, params=params):
                self.changes = [change for change in self.changes if change[0] < index]
                if not self.changes or self.changes[-1][1] != params:
                    self.changes.append((index, params))
            case GenerationFinished():
                self.pending = None
                self.usage, self.timings, self.reason = event.usage, event.timings, event.reason
                if self.ends_as is not None and self.reason is FinishReason.LENGTH:
                    self.reason = self.ends_as  # no limit ended it
            case GenerationFailed(error=error):
                self.pending = None
                self.error = error

    def written_into(self, message: Message) -> Message:
        """Gives the message of this answer as it stands now."""
        if self.params is None:  # the engine has not begun: a fork has what it was made with
            return replace(message, finished=not self.running, finish_reason=self.reason)
        return replace(
            message,
            text=self.text,
            ids=tuple(token.id for token in self.tokens),
            prompt_ids=self.prompt_ids[: self.n_prompt],
            settings={
                **message.settings,
                PERIODS: [[first, params_document(params)] for first, params in self.changes],
            },
            forced=tuple(index for index, token in enumerate(self.tokens) if token.forced),
            finished=not self.running,
            finish_reason=self.reason,
            usage=self.usage,
            timings=self.timings,
        )

    def _arrived(self, now: float) -> None:
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
