"""Waiting for work on a thread beside the screen, without holding up the way out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def beside(job: Callable[[], T], *, name: str) -> T:
    """Gives what `job` returns, or raises what it raises; it runs on a thread of its own.

    The thread is a daemon, unlike those of `asyncio.to_thread`: a slow disk in the middle of it lets the program end.

    Args:
        job: What takes time; it must not touch widgets.
        name: What to call the thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # a result of T, where there was no error

    def work() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = job()
        except Exception as caught:  # the edge of a thread: whatever was raised is raised where it is waited for
            error = caught
        with suppress(RuntimeError):  # the program ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
