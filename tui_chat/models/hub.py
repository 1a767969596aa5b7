"""Fetches a model file from the Hub into the cache that all Hub programs share.

The work is `huggingface_hub`'s; it is imported on the first fetch. It runs on a thread of its own, so that a cancel is
answered at once even while the library waits for the network. The library keeps no partial file of a broken download
(it resumes within one fetch only), so a cancelled one begins anew.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tui_chat.errors import CancelledError, DownloadError
from tui_chat.models.hub_errors import Unreachable, explain, format_size, is_unreachable

CHUNK_BYTES = 256 * 1024
"""Bytes the library takes from the network at a time; its own 10 MB would make progress and cancel lag."""

REPORT_S = 0.1
"""Time between two reports of progress."""

_POLL_S = 0.05
_SMOOTHING_S = 3.0


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is."""

    done_bytes: int
    total_bytes: int | None
    """None where the server does not say."""
    bytes_per_s: float
    """Smoothed over some seconds; 0 until it is known."""
    seconds_left: float | None
    """None until it is known."""

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, where the size is known."""
        return min(self.done_bytes / self.total_bytes, 1.0) if self.total_bytes else None

    def __str__(self) -> str:
        """In words: `12.3 of 45.6 MB, 3.2 MB/s, 10 s left`, as far as it is known."""
        parts = [_amount(self.done_bytes, self.total_bytes)]
        if self.bytes_per_s > 0:
            parts.append(f"{_amount(self.bytes_per_s)}/s")
        if self.seconds_left is not None:
            parts.append(f"{_span(self.seconds_left)} left")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is on this machine now."""

    path: Path
    note: str | None = None
    """What the user should know: the Hub was not reached, so that the copy may be old."""


class _Meter:
    """Counts the bytes of one download; shared between the library's thread and the caller's."""

    def __init__(self, cancel: threading.Event) -> None:
        self.cancel = cancel
        self.abandoned = False
        self.received = 0
        self.written = 0
        self.total: int | None = None
        self.xet = False
        self._last = (time.monotonic(), 0)
        self._speed: float | None = None

    def check(self) -> None:
        if self.abandoned or self.cancel.is_set():
            raise CancelledError("the download was stopped")

    def progress(self) -> DownloadProgress:
        now, done = time.monotonic(), max(self.written, self.received)
        if self.total is not None:
            done = min(done, self.total)
        before, done_before = self._last
        passed = now - before
        if passed >= REPORT_S:
            speed = max(done - done_before, 0) / passed
            weight = min(passed / _SMOOTHING_S, 1.0)
            self._speed = speed if not self._speed else self._speed + weight * (speed - self._speed)
            self._last = (now, done)
        left = (self.total - done) / self._speed if self._speed and self.total is not None else None
        return DownloadProgress(done, self.total, self._speed or 0.0, left)


def fetch(
    repo: str,
    file: str,
    branch: str = "main",
    *,
    on_progress: Callable[[DownloadProgress], None] | None = None,
    cancel: threading.Event | None = None,
    offline: bool = False,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> Fetched:
    """The file, from the cache if it is there and current, else from the Hub.

    Args:
        repo: `owner/name`.
        file: Path of the file inside the repository.
        branch: Branch, tag or commit.
        on_progress: Called on the caller's thread, some ten times a second, while bytes come in.
        cancel: Set it, from any thread, to give up.
        offline: Do not touch the network; `HF_HUB_OFFLINE` asks for the same.
        endpoint: Address of the Hub; None takes `HF_ENDPOINT` or the public one.
        cache_dir: None takes the shared cache (`HF_HOME`, `HF_HUB_CACHE`).

    Raises:
        DownloadError: The file is neither to be had nor in the cache; says why and what to do.
        CancelledError: `cancel` was set.
    """
    meter = _Meter(cancel or threading.Event())
    result: list[Fetched] = []
    failure: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            result.append(_fetch(repo, file, branch, meter, offline, endpoint, cache_dir))
        except BaseException as error:  # carried over to the caller's thread
            failure.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work, name="download", daemon=True)
    thread.start()
    try:
        _watch(done, meter, on_progress)
    finally:
        meter.abandoned = not done.is_set()  # a cancel, Ctrl+C or a failed report: the thread ends at its next chunk
    meter.check()
    if failure:
        error = failure[0]
        if isinstance(error, DownloadError | CancelledError):
            raise error
        raise DownloadError(explain(error, repo=repo, file=file, branch=branch, endpoint=endpoint)) from error
    if on_progress is not None and meter.total is not None:
        on_progress(meter.progress())
    return result[0]


def _watch(done: threading.Event, meter: _Meter, on_progress: Callable[[DownloadProgress], None] | None) -> None:
    """Report progress until the download is done or cancelled."""
    reported = 0.0
    while not done.wait(_POLL_S):
        if meter.cancel.is_set():
            if meter.xet:
                _abort_xet()
            return
        now = time.monotonic()
        if on_progress is not None and meter.total is not None and now - reported >= REPORT_S:
            reported = now
            on_progress(meter.progress())


def _fetch(
    repo: str,
    file: str,
    branch: str,
    meter: _Meter,
    offline: bool,
    endpoint: str | None,
    cache_dir: Path | None,
) -> Fetched:
    import huggingface_hub as hub
    from huggingface_hub import constants

    # The library writes its warnings to stderr, which is where the screen is.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    address = endpoint or constants.ENDPOINT

    def cached(revision: str) -> Path | None:
        found = hub.try_to_load_from_cache(repo, file, cache_dir=cache, revision=revision)
        return Path(found) if isinstance(found, str) else None

    if offline or constants.HF_HUB_OFFLINE:
        copy = cached(branch)
        if copy is None:
            raise DownloadError(
                f"{repo}:{file} is not in the cache ({cache}), and the network is switched off: "
                "go online once to fetch it (unset HF_HUB_OFFLINE)"
            )
        return Fetched(copy, "offline: the copy in the cache was not compared with the Hub")
    try:
        url = hub.hf_hub_url(repo, file, revision=branch, endpoint=endpoint)
        known = hub.get_hf_file_metadata(url, endpoint=endpoint)
    except Exception as error:
        copy = cached(branch) if is_unreachable(error) else None
        if copy is not None:
            return Fetched(copy, f"{address} was not reached: this is the copy in the cache, which may be older")
        if is_unreachable(error):
            raise Unreachable(address, str(cache)) from error
        raise
    meter.check()
    copy = cached(known.commit_hash) if known.commit_hash else None
    if copy is not None:
        return Fetched(copy)
    if known.size is not None:
        _check_space(known.size, cache)
    meter.total = known.size
    meter.xet = known.xet_file_data is not None
    path = hub.hf_hub_download(
        repo, file, revision=branch, endpoint=endpoint, cache_dir=cache, tqdm_class=_bar_class(meter)
    )
    return Fetched(Path(path))


def _bar_class(meter: _Meter) -> Any:
    """A stand-in for tqdm that feeds the meter and ends the download when it is cancelled."""

    class Bar:
        def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
            meter.check()
            self.n = initial
            self.total = total
            meter.written = initial
            meter.total = total if total is not None else meter.total

        def update(self, count: float | None = 1) -> None:
            meter.check()
            self.n += int(count or 0)
            meter.written = self.n

        def update_transfer(self, count: int) -> None:
            """Bytes from the network, which Xet counts apart from those written."""
            meter.check()
            meter.received += count

        @property
        def format_dict(self) -> dict[str, object]:
            return {"rate": None}

        def set_postfix_str(self, *_: object, **__: object) -> None: ...

        def set_description(self, *_: object, **__: object) -> None: ...

        def refresh(self, *_: object, **__: object) -> None: ...

        def close(self) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    return Bar


def _abort_xet() -> None:
    """Stop a Xet transfer, which does not ask between its chunks; plain HTTP ends at its next one."""
    try:
        from huggingface_hub.utils._xet import abort_xet_session

        abort_xet_session()  # type: ignore[no-untyped-call]
    except Exception:  # another release of the library: its thread ends by itself when the file is there
        return


def _amount(size_bytes: float, of_bytes: float | None = None) -> str:
    """Bytes in powers of 1000, or a share of them in the unit of the whole."""
    whole = size_bytes if of_bytes is None else of_bytes
    exponent = next((power for power in (4, 3, 2) if whole >= 1000**power), 1)
    done = f"{size_bytes / 1000**exponent:.1f}"
    unit = ("kB", "MB", "GB", "TB")[exponent - 1]
    return f"{done} {unit}" if of_bytes is None else f"{done} of {of_bytes / 1000**exponent:.1f} {unit}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _check_space(size: int, cache: Path) -> None:
    place = next(parent for parent in (cache, *cache.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < size:
        raise DownloadError(
            f"the file has {format_size(size)}, but {place} has only {format_size(free)} free: "
            "make room, or set HF_HOME to a directory on another disk"
        )
