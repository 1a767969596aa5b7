"""Ctrl+C taken as a wish, where a KeyboardInterrupt at any instant would do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interrupt(ask: Callable[[], None], *signals: signal.Signals) -> Iterator[None]:
    """The first of `signals` calls `ask`, on the main thread between two of its steps; the next interrupts.

    A KeyboardInterrupt can be lost in a finaliser, or leave a lock taken that is written in Python, such as those of
    `queue.Queue` and `Future`.

    Args:
        ask: Must wait for no lock that the main thread holds within the block.
        signals: SIGINT if none is named.

    Raises:
        KeyboardInterrupt: At the second signal.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may say what a signal does.
        yield
        return
    asked = False

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        ask()

    before = {number: signal.signal(number, take) for number in signals or (signal.SIGINT,)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
