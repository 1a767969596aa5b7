"""What other threads may do to work under way: stop it, or give it other settings."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_chat.engine.types import SamplingParams

if TYPE_CHECKING:
    from tui_chat.engine.stepping import StepControl


class CancelFlag:
    """Set from any thread; seen per token by the engine and per graph node by llama.cpp.

    The state is a C string of length 0 or 1, so that libc's `strlen` can serve as llama.cpp's abort callback: a Python
    callback would take the GIL for every node of the graph.
    """

    def __init__(self) -> None:
        self._state = ctypes.create_string_buffer(2)
        self.on_change: Callable[[], None] | None = None
        """Called after `set`, on the caller's thread: wakes who waits."""

    @property
    def address(self) -> int:
        """Where the C string lies; valid as long as this object lives."""
        return ctypes.addressof(self._state)

    def set(self) -> None:
        """Ask for the work to stop."""
        self._state[0] = b"\x01"
        if (wake := self.on_change) is not None:
            wake()

    def clear(self) -> None:
        """Forget an earlier `set`."""
        self._state[0] = b"\x00"

    def is_set(self) -> bool:
        """Whether the work should stop."""
        return self._state[0] != b"\x00"


class LiveParams:
    """Settings that may be replaced while an answer is written, or before it begins.

    Args:
        params: None as long as nobody chose any: those of the request hold.
    """

    def __init__(self, params: SamplingParams | None = None) -> None:
        self._params = params
        self.on_change: Callable[[], None] | None = None
        """Called after each replacement, on the caller's thread: wakes who waits."""
        self.steps: StepControl | None = None
        """Waits before tokens from the next one on, where the answer was begun without."""

    @property
    def params(self) -> SamplingParams | None:
        """The settings in use from the next token on."""
        return self._params

    @params.setter
    def params(self, params: SamplingParams | None) -> None:
        self._params = params
        if (wake := self.on_change) is not None:
            wake()
