"""What holds for every test: directories of its own, no network beyond this machine, an environment that is the same
everywhere; and the built-in model, loaded once a process."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine

pytest_plugins = ["tests.noise"]

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tui-chat", deadline=None)
hypothesis.settings.load_profile("tui-chat")

ENVIRONMENT = {
    "COLORTERM": "truecolor",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm-256color",
    "TZ": "UTC",
}
"""The same everywhere, whatever terminal and machine the tests run on."""

REMOVED = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "HF_TOKEN", "HF_ENDPOINT", "TEXTUAL_THEME")

LOOPBACK_NAMES = ("localhost", "")


def pytest_configure() -> None:
    # Some libraries read these when they are imported, which may be before the first test.
    for name in [name for name in os.environ if name.startswith("TUI_CHAT_") or name in REMOVED]:
        del os.environ[name]
    os.environ.update(ENVIRONMENT)
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="tui-chat-tests-hf-")
    os.environ["TUI_CHAT_HOME"] = tempfile.mkdtemp(prefix="tui-chat-tests-home-")


def pytest_unconfigure() -> None:
    import shutil

    for name in ("HF_HOME", "TUI_CHAT_HOME"):
        shutil.rmtree(os.environ[name], ignore_errors=True)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory all of the program's files go below in this test."""
    path = tmp_path / "home"
    monkeypatch.setenv("TUI_CHAT_HOME", str(path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    return path


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    """Refuse connections that would leave this machine, and look-ups of names that are not its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))
        yield


@pytest.fixture(scope="session")
def pocket() -> Iterator[Engine]:
    """The built-in model with a context of 512 tokens; tests must not rely on what the cache holds."""
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import LoadOptions
    from tui_chat.models.resolve import builtin_path

    with Engine.load(builtin_path(), LoadOptions(n_ctx=512, n_threads=1)) as engine:
        yield engine


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise OSError(f"the tests do not reach out to {address[0]}")
        return connect(self, address)

    return guarded


def _guarded_lookup(getaddrinfo: Any) -> Any:
    def guarded(host: Any, *arguments: Any, **more: Any) -> Any:
        if host is not None and not _is_local(host):
            raise socket.gaierror(socket.EAI_NONAME, f"the tests do not look up {host}")
        return getaddrinfo(host, *arguments, **more)

    return guarded


def _is_local(host: str | bytes) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
