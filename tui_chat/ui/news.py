"""What threads beside the engine report: downloads, the vocabulary, the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_chat.engine.types import Bias
from tui_chat.errors import TuiChatError

if TYPE_CHECKING:
    from tui_chat.models.hub import DownloadProgress


@dataclass(frozen=True, slots=True)
class DownloadAdvanced:
    """Part of a model's file is here."""

    number: int
    """Which download; an older one's news is stale."""
    progress: DownloadProgress


@dataclass(frozen=True, slots=True)
class DownloadEnded:
    """The file is on this machine; `note` says what was not reached, if anything."""

    number: int
    path: Path
    note: str | None


@dataclass(frozen=True, slots=True)
class DownloadFailed:
    """The file did not come."""

    number: int
    error: TuiChatError


@dataclass(frozen=True, slots=True)
class PiecesRead:
    """Bytes of the tokens from `first` on, by id."""

    load_id: int
    """Request id of the load they belong to."""
    first: int
    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PromptNoted:
    """What the user should know of the prompt that was made."""

    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoringFailed:
    """The conversation is not kept from now on; said once."""

    error: TuiChatError


@dataclass(frozen=True, slots=True)
class TokenizerNoted:
    """The model's tokenizer is not that of the settings, or could not be compared with it."""

    note: str


BiasSpec = tuple[tuple[tuple[int | str, float], ...], tuple[int | str, ...]]
"""Biases and bans as they are written in the settings."""


@dataclass(frozen=True, slots=True)
class BiasesResolved:
    """Which tokens biases and bans mean."""

    spec: BiasSpec
    """The biases and bans as they are written."""
    biases: tuple[Bias, ...]
    """As the sampler takes them."""


News = (
    TokenizerNoted
    | DownloadAdvanced
    | DownloadEnded
    | DownloadFailed
    | PiecesRead
    | PromptNoted
    | StoringFailed
    | BiasesResolved
)
"""Everything that is reported beside the engine's own events."""
