"""Fetching from the Hub, against a small one on 127.0.0.1: progress, cancel, offline, and every way it can refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.models.hub_server import COMMIT, FakeHub, serve
from tui_chat.errors import CancelledError, DownloadError
from tui_chat.models.hub import DownloadProgress, Fetched, fetch
from tui_chat.models.hub_errors import explain, format_size

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is on and no proxy stands before 127.0.0.1, whatever the machine says."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(FakeHub(files={"owner/name/model-q8.gguf": CONTENT, "owner/name/sub/readme.txt": b"hi"})) as running:
        yield running


def get(hub: FakeHub, cache: Path, file: str = "model-q8.gguf", repo: str = "owner/name", **options: object) -> Fetched:
    return fetch(repo, file, endpoint=hub.url, cache_dir=cache, **options)  # type: ignore[arg-type]


def refusal(hub: FakeHub, cache: Path, **options: object) -> str:
    with pytest.raises(DownloadError) as caught:
        get(hub, cache, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_fetches_into_the_shared_cache(hub: FakeHub, tmp_path: Path) -> None:
    seen: list[DownloadProgress] = []
    fetched = get(hub, tmp_path, on_progress=seen.append)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.note is None
    assert fetched.path == tmp_path / "models--owner--name" / "snapshots" / COMMIT / "model-q8.gguf"
    assert (seen[-1].done_bytes, seen[-1].total_bytes, seen[-1].fraction) == (len(CONTENT), len(CONTENT), 1.0)
    again = get(hub, tmp_path)
    assert again == fetched
    assert hub.downloads() == [None]


def test_file_in_a_folder_and_a_commit_as_branch(hub: FakeHub, tmp_path: Path) -> None:
    fetched = get(hub, tmp_path, file="sub/readme.txt", branch=COMMIT)
    assert fetched.path.read_bytes() == b"hi"


def test_progress_moves_while_bytes_come(hub: FakeHub, tmp_path: Path) -> None:
    hub.hold = threading.Event()
    seen: list[DownloadProgress] = []

    def note(progress: DownloadProgress) -> None:
        seen.append(progress)
        assert hub.hold is not None
        if progress.done_bytes >= len(CONTENT) // 2 and progress.bytes_per_s > 0 and progress.seconds_left is not None:
            hub.hold.set()  # else it waits for 30 s, and the last assertion fails

    get(hub, tmp_path, on_progress=note)
    counts = [progress.done_bytes for progress in seen]
    assert counts == sorted(counts)
    assert any(0 < count < len(CONTENT) for count in counts)
    assert any(progress.bytes_per_s > 0 and progress.seconds_left is not None for progress in seen[:-1])
    assert seen[-1].seconds_left in (0.0, None)


def test_cancel_answers_while_the_server_is_silent(hub: FakeHub, tmp_path: Path) -> None:
    hub.hold = threading.Event()
    cancel = threading.Event()

    def stop() -> None:
        assert hub.half_sent.wait(20)
        cancel.set()

    threading.Thread(target=stop).start()
    with pytest.raises(CancelledError):
        get(hub, tmp_path, cancel=cancel)
    assert not hub.hold.is_set(), "the answer must not wait for the server"
    hub.hold.set()
    hub.hold = None
    assert get(hub, tmp_path).path.read_bytes() == CONTENT


def test_cancel_before_the_beginning(hub: FakeHub, tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        get(hub, tmp_path, cancel=cancel)
    assert hub.downloads() == []


def test_a_report_that_fails_ends_the_download(hub: FakeHub, tmp_path: Path) -> None:
    hub.hold = threading.Event()

    def interrupt(progress: DownloadProgress) -> None:
        if progress.done_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(hub, tmp_path, on_progress=interrupt)
    hub.hold.set()
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(30)
            assert not thread.is_alive()
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_broken_connection_is_resumed(hub: FakeHub, tmp_path: Path) -> None:
    hub.drops = 1
    assert get(hub, tmp_path).path.read_bytes() == CONTENT
    first, second = hub.downloads()
    assert first is None
    assert second is not None and second.startswith("bytes=")


def test_offline_uses_the_cache_and_says_so(hub: FakeHub, tmp_path: Path) -> None:
    path = get(hub, tmp_path).path
    before = len(hub.requests)
    fetched = get(hub, tmp_path, offline=True)
    assert fetched.path == path
    assert fetched.note is not None and "offline" in fetched.note
    assert len(hub.requests) == before
    words = refusal(hub, tmp_path, file="other.gguf", offline=True)
    assert "switched off" in words and str(tmp_path) in words


def test_unreachable_hub(hub: FakeHub, tmp_path: Path) -> None:
    path = get(hub, tmp_path).path
    hub.url = "http://127.0.0.1:9"  # the discard port: nobody listens
    fetched = get(hub, tmp_path)
    assert fetched.path == path
    assert fetched.note is not None and hub.url in fetched.note
    words = refusal(hub, tmp_path, file="other.gguf")
    assert "cannot be reached" in words and "HF_ENDPOINT" in words


def test_hub_that_is_down(hub: FakeHub, tmp_path: Path) -> None:
    get(hub, tmp_path)
    hub.status = 503
    assert get(hub, tmp_path).note is not None
    assert "cannot be reached" in refusal(hub, tmp_path, file="other.gguf")


def test_what_is_not_there(hub: FakeHub, tmp_path: Path) -> None:
    assert "no repository owner/nothing" in refusal(hub, tmp_path, repo="owner/nothing")
    assert "no branch, tag or commit 'v9'" in refusal(hub, tmp_path, branch="v9")
    assert "it has model-q8.gguf" in refusal(hub, tmp_path, file="model.gguf")
    assert "owner/name" in refusal(hub, tmp_path, repo="one/two/three")
    del hub.files["owner/name/model-q8.gguf"]
    assert "nor any other .gguf file" in refusal(hub, tmp_path)


def test_gated_repository(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated.add("owner/name")
    words = refusal(hub, tmp_path)
    assert "gated" in words and f"{hub.url}/owner/name" in words and "HF_TOKEN" in words


@pytest.mark.parametrize(("status", "words"), [(401, "HF_TOKEN"), (403, "refuses access"), (429, "too many requests")])
def test_refusals_by_status(hub: FakeHub, tmp_path: Path, status: int, words: str) -> None:
    hub.status = status
    assert words in refusal(hub, tmp_path)


def test_full_disk(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(10**9, 10**9 - 1000, 1000))
    words = refusal(hub, tmp_path)
    assert "2.1 MB" in words and "1 kB free" in words and "HF_HOME" in words
    error = OSError(28, "No space left on device")
    assert "disk is full" in explain(error, repo="o/n", file="f", branch="main", endpoint=None)


def test_read_only_cache() -> None:
    error = PermissionError(13, "Permission denied", "/cache/x")
    words = explain(error, repo="o/n", file="f", branch="main", endpoint=None)
    assert "/cache/x" in words and "HF_HOME" in words


def test_environment_is_honoured(hub: FakeHub, tmp_path: Path) -> None:
    program = "from tui_chat.models.hub import fetch; print(fetch('owner/name', 'model-q8.gguf'))"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    first = run()
    assert str(tmp_path / "home" / "hub") in first.stdout
    assert first.stderr == ""
    assert "offline" in run(HF_HUB_OFFLINE="1").stdout
    lost = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert lost.returncode != 0 and "unset HF_HUB_OFFLINE" in lost.stderr


def test_importing_the_module_does_not_import_the_library() -> None:
    program = "import sys, tui_chat.models.hub; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_sizes_for_people() -> None:
    assert [format_size(n) for n in (0, 999, 1000, 4_700_000_000, 2e12)] == ["0 B", "999 B", "1 kB", "4.7 GB", "2 TB"]
