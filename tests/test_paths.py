"""Where things live, and what is said when they cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tui_chat import paths
from tui_chat.errors import StorageError


def test_everything_lies_below_the_home_that_is_set(home: Path) -> None:
    assert paths.config_dir() == home / "config"
    assert paths.config_file() == home / "config" / "config.yaml"
    assert paths.data_dir() == home / "data"
    assert paths.cache_dir() == home / "cache"
    assert paths.log_dir() == home / "log"


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="the places of this platform differ")
def test_without_it_the_platform_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUI_CHAT_HOME")
    for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    assert paths.config_dir() == tmp_path / "CONFIG" / "tui-chat"
    assert paths.data_dir() == tmp_path / "DATA" / "tui-chat"
    assert paths.cache_dir() == tmp_path / "CACHE" / "tui-chat"
    assert paths.log_dir().is_relative_to(tmp_path / "STATE" / "tui-chat")


def test_a_directory_is_made_with_its_parents_and_may_be_there_already(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    assert paths.ensure_dir(wanted) == wanted
    assert wanted.is_dir()
    assert paths.ensure_dir(wanted) == wanted


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(
        StorageError, match=r"file is a file where a directory is needed: move it away, or set TUI_CHAT"
    ):
        paths.ensure_dir(file)
    with pytest.raises(StorageError, match=r"file/below cannot be made because a part of the path is a file"):
        paths.ensure_dir(file / "below")
    assert not paths.is_writable(file / "below")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match=r"cannot be written: change its permissions, or set TUI_CHAT_HOME"):
        paths.ensure_dir(tmp_path)
    assert not paths.is_writable(tmp_path / "not" / "there")


def test_any_other_failure_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        StorageError, match=r"cannot be made \(Read-only file system\): make it by hand, or set TUI_CHAT"
    ):
        paths.ensure_dir(tmp_path / "x")
