"""The model's tokenizer beside that of the settings: one notice where they differ or cannot be compared."""

from __future__ import annotations

import json
import queue
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.models.cached import put_into_cache
from tests.ui.scripted import ScriptedWorker
from tui_chat.ui.news import News, TokenizerNoted
from tui_chat.ui.tokenizer_watch import TokenizerWatch

TOKENIZER = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}})


def test_a_difference_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_into_cache(monkeypatch, tmp_path, "o/t", "tokenizer.json", TOKENIZER)
    news: queue.Queue[News] = queue.Queue()
    watch = TokenizerWatch("o/t", "tokenizer.json", news.put)
    watch(ScriptedWorker().run)
    noted = news.get(timeout=20)
    assert isinstance(noted, TokenizerNoted)
    assert noted.note.startswith("o/t:tokenizer.json: the tokenizers differ from token 0 of the probe text on")
    watch._compare([6])
    assert news.empty()


def test_what_cannot_be_fetched_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    news: queue.Queue[News] = queue.Queue()
    TokenizerWatch("o/t", "tokenizer.json", news.put)(ScriptedWorker().run)
    noted = news.get(timeout=20)
    assert isinstance(noted, TokenizerNoted)
    assert noted.note.startswith("the tokenizers were not compared: o/t:tokenizer.json is not in the cache")


def test_equal_tokenizers_are_not_mentioned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_into_cache(monkeypatch, tmp_path, "o/t", "tokenizer.json", TOKENIZER)
    news: queue.Queue[News] = queue.Queue()
    TokenizerWatch("o/t", "tokenizer.json", news.put)._compare([0])
    assert news.empty()
