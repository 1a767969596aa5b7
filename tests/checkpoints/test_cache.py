"""Exported checkpoints are made once, made anew when they must be, and do not pile up."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkpoints.made import make_checkpoint
from tui_chat import paths
from tui_chat.checkpoints.cache import MAX_FILES, cache_dir, exported
from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS, CheckpointFacts
from tui_chat.checkpoints.file_type import FileType
from tui_chat.engine.gguf import read_header
from tui_chat.errors import ModelFileError, ModelNotFoundError, StorageError


@pytest.fixture
def facts(tmp_path: Path) -> CheckpointFacts:
    return make_checkpoint(tmp_path / "my first/run".replace("/", " ") / "step-000250")


def test_a_file_is_made_once(facts: CheckpointFacts) -> None:
    path = exported(facts)
    assert path.parent == cache_dir() == paths.cache_dir() / "checkpoints"
    assert path.name.startswith("my_first_run-250-") and path.name.endswith("-f16.gguf")
    header = read_header(path)
    assert header.text("general.name") == "my first run"
    before = path.stat().st_ino
    assert exported(facts) == path
    assert path.stat().st_ino == before
    assert exported(facts, FileType.Q8_0) != path


def test_another_content_is_another_file(facts: CheckpointFacts) -> None:
    first = exported(facts)
    weights = facts.path / WEIGHTS
    os.utime(weights, ns=(1, weights.stat().st_mtime_ns + 1))
    second = exported(facts)
    assert exported(replace(facts, kind="text")) not in (first, second)
    os.utime(facts.path / TOKENIZER, ns=(1, 1))
    assert len({first, second, exported(facts)}) == 3


def test_those_used_longest_ago_go(facts: CheckpointFacts) -> None:
    made = []
    for index in range(MAX_FILES):
        made.append(exported(replace(facts, seed=index)))
        os.utime(made[-1], (1000 + index, 1000 + index))
    exported(replace(facts, seed=0))  # used again, so the second is the oldest now
    last = exported(replace(facts, seed=99))
    left = set(cache_dir().glob("*.gguf"))
    assert left == {made[0], *made[2:], last}


def test_what_a_killed_export_left_is_swept_once_it_is_old(facts: CheckpointFacts) -> None:
    exported(facts)
    old, young = cache_dir() / ".a.gguf.1.partial", cache_dir() / ".b.gguf.2.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    exported(facts)
    assert not old.exists() and young.exists()


def test_two_at_once_get_one_whole_file(facts: CheckpointFacts) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: exported(facts), range(4)))
    assert len(found) == 1
    assert [path.name for path in cache_dir().iterdir()] == [found.pop().name]


def test_nothing_is_kept_of_a_damaged_checkpoint(facts: CheckpointFacts) -> None:
    (facts.path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ModelFileError):
        exported(facts)
    assert list(cache_dir().iterdir()) == []
    (facts.path / WEIGHTS).unlink()
    with pytest.raises(ModelNotFoundError, match="look again"):
        exported(facts)


def test_a_cache_that_cannot_be(facts: CheckpointFacts, home: Path) -> None:
    home.mkdir()
    (home / "cache").touch()
    with pytest.raises(StorageError):
        exported(facts)
