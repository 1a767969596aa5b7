"""Ctrl+C as a wish."""

from __future__ import annotations

import signal
import threading

import pytest

from tui_chat.interrupts import on_interrupt


def test_the_first_asks_and_the_second_interrupts() -> None:
    asked: list[str] = []
    with pytest.raises(KeyboardInterrupt), on_interrupt(lambda: asked.append("stop")):
        signal.raise_signal(signal.SIGINT)
        assert asked == ["stop"]
        signal.raise_signal(signal.SIGINT)
    assert asked == ["stop"]


def test_it_cannot_be_lost_in_a_finaliser() -> None:
    asked: list[str] = []

    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with on_interrupt(lambda: asked.append("stop")):
        Finalised()
    assert asked == ["stop"]


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGINT, signal.SIGTERM)])
def test_afterwards_signals_are_what_they_were(signals: tuple[signal.Signals, ...]) -> None:
    before = [signal.getsignal(number) for number in signals]
    with on_interrupt(lambda: None, *signals):
        assert all(signal.getsignal(number) is not handler for number, handler in zip(signals, before, strict=True))
    assert [signal.getsignal(number) for number in signals] == before


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with on_interrupt(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
