"""Two tokenizers and one text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_chat.errors import ModelFileError, ModelNotFoundError
from tui_chat.models.tokenizer_check import PROBE, compare_tokenizers, load_tokenizer


def by_bytes(text: str) -> list[int]:
    return list(text.encode())


def test_equal() -> None:
    result = compare_tokenizers(by_bytes, by_bytes)
    assert result.equal
    assert result.n_model == result.n_reference == len(PROBE.encode())
    assert str(result.n_model) in str(result)


def test_different() -> None:
    result = compare_tokenizers(lambda text: [1, 2, 3, 4], lambda text: [1, 2, 9, 4, 5])
    assert (result.first_difference, result.model_id, result.reference_id) == (2, 3, 9)
    assert not result.equal
    assert "token 2" in str(result) and " 9;" in str(result)


def test_one_longer() -> None:
    result = compare_tokenizers(lambda text: [1, 2], lambda text: [1, 2, 3])
    assert (result.first_difference, result.model_id, result.reference_id) == (2, None, 3)
    assert "no more" in str(result)


def test_tokenizer_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"}
    path.write_text(json.dumps({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model}))
    tokenize = load_tokenizer(path)
    assert list(tokenize("b a c")) == [1, 0, 2]
    assert compare_tokenizers(tokenize, lambda text: [1, 0, 2], "b a c").equal


def test_no_tokenizer_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.file"):
        load_tokenizer(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_text("{}")
    with pytest.raises(ModelFileError, match=r"not a tokenizer\.json"):
        load_tokenizer(path)
