"""The tests' own fence: it must hold, or a test could reach out without anyone noticing."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tui_chat import paths


def test_connections_beyond_this_machine_are_refused() -> None:
    with socket.socket() as outward, pytest.raises(OSError, match=r"do not reach out to 192\.0\.2\.1"):
        outward.connect(("192.0.2.1", 80))
    with pytest.raises(urllib.error.URLError, match=r"do not look up example\.invalid"):
        urllib.request.urlopen("http://example.invalid/")


def test_connections_to_this_machine_pass() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_every_directory_lies_in_the_tests_own_home(home: Path, tmp_path: Path) -> None:
    places = {paths.config_dir(), paths.data_dir(), paths.cache_dir(), paths.log_dir()}
    assert len(places) == 4
    assert all(place.is_relative_to(home) and home.is_relative_to(tmp_path) for place in places)
    assert Path(os.environ["HF_HOME"]).is_relative_to(tmp_path)
    assert not home.exists()
