"""What a download shows on stderr."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tui_chat.cli import inference
from tui_chat.errors import CancelledError
from tui_chat.models.hub import DownloadProgress, Fetched
from tui_chat.models.resolve import ModelSpec

SPEC = ModelSpec("hub", repo="o/n", file="m.gguf")


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (DownloadProgress(12_300_000, 45_600_000, 3_200_000, 10.4), "12.3 of 45.6 MB, 3.2 MB/s, 10 s left"),
        (DownloadProgress(100_000_000, 4_700_000_000, 900_000, 5111), "0.1 of 4.7 GB, 900.0 kB/s, 1 h 25 min left"),
        (DownloadProgress(5_000_000, None, 0.0, None), "5.0 MB"),
        (DownloadProgress(0, 100_000, 0.0, 65), "0.0 of 100.0 kB, 1 min 05 s left"),
    ],
)
def test_progress_in_words(progress: DownloadProgress, text: str) -> None:
    assert str(progress) == text


def fake_fetch(*_: object, on_progress: Callable[[DownloadProgress], None], **__: object) -> Fetched:
    for done in (1, 2, 3):
        on_progress(DownloadProgress(done * 1_000_000, 3_000_000, 500_000, 3.0 - done))
    return Fetched(Path("/m.gguf"))


def test_without_a_terminal_there_is_a_line_at_the_start_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tui_chat.models.hub.fetch", fake_fetch)
    assert inference._download(SPEC, offline=False) == Path("/m.gguf")
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"downloading {SPEC.label}: 1.0 of 3.0 MB, 500.0 kB/s, 2 s left"
    assert last == f"downloaded {SPEC.label}"


def test_a_stopped_download_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()

    def waits(*_: object, cancel: threading.Event, **__: object) -> Fetched:
        cancel.wait(20)
        waiting.set()
        return Fetched(Path("/m.gguf"))

    monkeypatch.setattr("tui_chat.models.hub.fetch", waits)
    original = threading.Thread.join
    calls: list[float | None] = []

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        original(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(CancelledError, match="begins anew"):
        inference._download(SPEC, offline=False)
    assert waiting.is_set()
