"""Puts files into a Hub cache, as a download would have."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants


def put_into_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, repo: str, file: str, text: str) -> Path:
    """Makes `cache` the Hub's cache, with a file of the branch main in it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    commit = "0" * 40
    folder = cache / f"models--{repo.replace('/', '--')}"
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return path
