"""What a user may write to name a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_chat.errors import ModelNotFoundError
from tui_chat.models.resolve import ModelSpec, builtin_path, parse_spec, spec_from_settings


def test_builtin() -> None:
    assert parse_spec(" Builtin ") == ModelSpec("builtin")
    assert parse_spec("builtin").label == "builtin"
    assert builtin_path().name == "pocket.gguf"
    assert builtin_path().parent.name == "assets"


def test_path(tmp_path: Path) -> None:
    file = tmp_path / "a model.gguf"
    file.touch()
    spec = parse_spec(str(file))
    assert (spec.kind, spec.path, spec.label) == ("path", file, "a model")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.gguf").touch()
    assert parse_spec("~/m.gguf").path == tmp_path / "m.gguf"
    assert spec_from_settings(path=Path("~/m.gguf")).path == tmp_path / "m.gguf"
    with pytest.raises(ModelNotFoundError):
        parse_spec("~nobody-of-this-name/m.gguf")


@pytest.mark.parametrize(
    ("text", "repo", "file", "branch"),
    [
        ("owner/name:model.gguf", "owner/name", "model.gguf", "main"),
        ("owner/na.me-1:sub/model-Q8_0.gguf", "owner/na.me-1", "sub/model-Q8_0.gguf", "main"),
        ("owner/name@v1:model.gguf", "owner/name", "model.gguf", "v1"),
    ],
)
def test_hub(text: str, repo: str, file: str, branch: str) -> None:
    spec = parse_spec(text)
    assert spec == ModelSpec("hub", repo=repo, file=file, branch=branch)
    assert str(spec) == text
    assert parse_spec(str(spec)) == spec
    assert repo in spec.label


def message(text: str) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        parse_spec(text)
    return str(caught.value)


def test_repository_without_file() -> None:
    assert "owner/name:FILE.gguf" in message("owner/name")
    assert "owner/name:FILE.gguf" in message("owner/name:")


def test_near_names_are_listed(tmp_path: Path) -> None:
    for name in ("qwen3-0.6b-q8_0.gguf", "qwen3-4b-q8_0.gguf", "notes.txt"):
        (tmp_path / name).touch()
    words = message(str(tmp_path / "Qwen3-0.6b-Q8.gguf"))
    assert "near it: qwen3-0.6b-q8_0.gguf" in words
    assert "notes.txt" not in words
    assert "qwen3-4b-q8_0.gguf" in message(str(tmp_path / "zzz.gguf"))


def test_directory_lists_its_models(tmp_path: Path) -> None:
    assert "no .gguf file" in message(str(tmp_path))
    (tmp_path / "m.gguf").touch()
    assert "m.gguf" in message(str(tmp_path))


def test_missing_directory(tmp_path: Path) -> None:
    words = message(str(tmp_path / "no" / "such" / "m.gguf"))
    assert f"no directory {tmp_path / 'no' / 'such'}" in words
    assert f"{tmp_path} exists" in words


@pytest.mark.parametrize("text", ["", "   ", "nonsense", "a/b/c:d.gguf", "a b", "\0"])
def test_nonsense_says_what_may_be_written(text: str) -> None:
    assert message(text)


def test_settings(tmp_path: Path) -> None:
    assert spec_from_settings() == ModelSpec("builtin")
    hub = spec_from_settings(repo="o/n", file="f.gguf", branch="v2")
    assert hub == ModelSpec("hub", repo="o/n", file="f.gguf", branch="v2")
    for repo, file, words in (
        ("o/n", None, "llm.file"),
        (None, "f.gguf", "llm.repo"),
        ("name", "f.gguf", "owner/name"),
    ):
        with pytest.raises(ModelNotFoundError, match=words):
            spec_from_settings(repo=repo, file=file)
    with pytest.raises(ModelNotFoundError, match="no such file"):
        spec_from_settings(path=tmp_path / "x.gguf")


def test_a_path_that_cannot_be_looked_at_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="cannot be reached"):
        parse_spec("x" * 5000 + "/model.gguf")
