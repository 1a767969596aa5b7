"""The log file: made when needed, never in the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui_chat.cli.logfile import LOG_NAME, LogFile


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("test")
    yield logger
    for handler in logger.handlers:
        handler.close()


def test_the_file_comes_with_the_first_record(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "log" / LOG_NAME
    logger.addHandler(LogFile(path))
    assert not path.parent.exists()
    logger.error("it %s", "broke", exc_info=ValueError("why"))
    text = path.read_text()
    assert "ERROR" in text and "it broke" in text and "ValueError: why" in text


def test_a_large_file_makes_way(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / LOG_NAME
    path.write_bytes(b"x" * (2 << 20))
    logger.addHandler(LogFile(path))
    logger.warning("new")
    assert path.stat().st_size < 1000
    assert (tmp_path / "tui-chat.old").stat().st_size == 2 << 20


def test_a_file_that_cannot_be_written_is_done_without(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    logger.addHandler(LogFile(tmp_path / "file" / LOG_NAME))
    logger.error("lost")
    logger.error("lost too")
    assert capsys.readouterr().err == ""
