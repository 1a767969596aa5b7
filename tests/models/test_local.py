"""Which models are found on this machine, and how they are to be named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tui_chat.models.local import LocalModel, local_models
from tui_chat.models.resolve import parse_spec


def put(path: Path, size: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def found(tmp_path: Path, **env: str) -> dict[str, LocalModel]:
    models = local_models(tmp_path / "data", env=env, home=tmp_path / "home")
    return {model.spec: model for model in models if model.origin != "builtin"}


def test_nothing_there(tmp_path: Path) -> None:
    assert found(tmp_path) == {}


def test_own_directory(tmp_path: Path) -> None:
    put(tmp_path / "data" / "models" / "b.gguf", 5)
    put(tmp_path / "data" / "models" / "sub" / "a.gguf")
    put(tmp_path / "data" / "models" / "notes.txt")
    put(tmp_path / "data" / "models" / "mmproj-a.gguf")
    for number in (1, 2, 3):
        put(tmp_path / "data" / "models" / f"big-{number:05d}-of-00003.gguf")
    models = found(tmp_path)
    assert sorted(model.path.name for model in models.values()) == ["a.gguf", "b.gguf", "big-00001-of-00003.gguf"]
    b = models[str(tmp_path / "data" / "models" / "b.gguf")]
    assert (b.name, b.size_bytes, b.origin) == ("b", 5, "tui-chat")
    assert parse_spec(b.spec).path == b.path


def hub_file(root: Path, repo: str, commit: str, file: str, branch: str | None) -> Path:
    folder = root / ("models--" + repo.replace("/", "--"))
    if branch is not None:
        put(folder / "refs" / branch).write_text(commit)
    blob = put(folder / "blobs" / f"{commit}{file.replace('/', '')}", 9)
    link = folder / "snapshots" / commit / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    return link


def test_hub_cache(tmp_path: Path) -> None:
    root = tmp_path / "home" / ".cache" / "huggingface" / "hub"
    hub_file(root, "owner/name", "c1", "m-q8.gguf", "main")
    hub_file(root, "owner/name", "c0", "m-q8.gguf", None)
    hub_file(root, "owner/other", "c2", "sub/m.gguf", "v2")
    hub_file(root, "owner/other", "c2", "config.json", "v2")
    put(root / "datasets--owner--x" / "snapshots" / "c" / "d.gguf")
    models = found(tmp_path)
    assert list(models) == ["owner/name:m-q8.gguf", "owner/name@c0:m-q8.gguf", "owner/other@v2:sub/m.gguf"]
    assert models["owner/name:m-q8.gguf"].size_bytes == 9
    spec = parse_spec("owner/other@v2:sub/m.gguf")
    assert (spec.repo, spec.branch, spec.file) == ("owner/other", "v2", "sub/m.gguf")


def test_environment_moves_the_caches(tmp_path: Path) -> None:
    hub_file(tmp_path / "h" / "hub", "o/n", "c", "a.gguf", "main")
    hub_file(tmp_path / "c", "o/n", "c", "b.gguf", "main")
    put(tmp_path / "l" / "c.gguf")
    assert list(found(tmp_path, HF_HOME=str(tmp_path / "h"))) == ["o/n:a.gguf"]
    assert list(found(tmp_path, HF_HUB_CACHE=str(tmp_path / "c"))) == ["o/n:b.gguf"]
    assert [model.origin for model in found(tmp_path, LLAMA_CACHE=str(tmp_path / "l")).values()] == ["llama.cpp"]


def test_other_programs(tmp_path: Path) -> None:
    put(tmp_path / "home" / ".lmstudio" / "models" / "maker" / "repo" / "a.gguf")
    put(tmp_path / "home" / ".ollama" / "models" / "blobs" / "sha256-12ab")
    manifests = tmp_path / "home" / ".ollama" / "models" / "manifests" / "host" / "library"
    layers = [
        {"mediaType": "application/vnd.x.image.template", "digest": "sha256:99"},
        {"mediaType": "application/vnd.x.image.model", "digest": "sha256:12ab"},
    ]
    put(manifests / "qwen" / "0.6b").write_text(json.dumps({"layers": layers}))
    put(manifests / "qwen" / "broken").write_text("{")
    put(manifests / "qwen" / "odd").write_text('{"layers": [1]}')
    models = found(tmp_path)
    lm_studio = models["~/.lmstudio/models/maker/repo/a.gguf"]
    assert (lm_studio.name, lm_studio.origin) == ("a", "LM Studio")
    ollama = models["~/.ollama/models/blobs/sha256-12ab"]
    assert (ollama.name, ollama.origin) == ("qwen:0.6b", "Ollama")


def test_each_file_is_listed_once(tmp_path: Path) -> None:
    real = put(tmp_path / "data" / "models" / "a.gguf")
    link = tmp_path / "home" / ".lmstudio" / "models" / "a.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    assert [model.origin for model in found(tmp_path).values()] == ["tui-chat"]


def test_what_may_not_be_looked_at_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "data" / "models"
    put(place / "a.gguf")
    put(place / "listed" / "b.gguf")
    stat = Path.stat

    def refusing(path: Path, **options: bool) -> os.stat_result:
        # As in a directory with read but without execute permission, which root may always enter.
        if path.parent.name == "listed":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    assert [model.path.name for model in found(tmp_path).values()] == ["a.gguf"]


def test_broken_links_are_left_out(tmp_path: Path) -> None:
    place = tmp_path / "data" / "models"
    place.mkdir(parents=True)
    (place / "gone.gguf").symlink_to(tmp_path / "nothing")
    (place / "loop").symlink_to(place)
    put(place / "a.gguf")
    assert [model.path.name for model in found(tmp_path).values()] == ["a.gguf"]
