"""The model files that are on this machine already: our own, the Hub's cache, and those of other programs."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tui_chat.models.resolve import BUILTIN, builtin_path

MAX_DEPTH = 4
"""How many directories deep a model may lie below a place that is searched."""

_LATER_PART = re.compile(r"-(?!00001-of)\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file on this machine."""

    name: str
    """What to call it."""
    path: Path
    size_bytes: int
    """Of this file; a split model's other parts are not counted."""
    origin: str
    """Whose it is: `builtin`, `tui-chat`, `Hub cache`, `LM Studio`, ..."""
    spec: str
    """What to write after `/model` or `--model`."""


def local_models(
    data_dir: Path, *, env: Mapping[str, str] | None = None, home: Path | None = None
) -> tuple[LocalModel, ...]:
    """All models found, each once; those of places that cannot be read are left out.

    Args:
        data_dir: The program's data directory; its `models/` is searched.
        env: Environment variables that move the caches; the process's own by default.
        home: The user's home directory.
    """
    env = os.environ if env is None else env
    home = Path.home() if home is None else home
    found: list[LocalModel] = []
    if _is_file(builtin_path()):
        found.append(LocalModel(BUILTIN, builtin_path(), builtin_path().stat().st_size, BUILTIN, BUILTIN))
    found += _directory(data_dir / "models", "tui-chat", home)
    found += _hub_cache(_hub_root(env, home), home)
    for origin, place in _places(env, home):
        found += _directory(place, origin, home)
    found += _ollama(Path(env.get("OLLAMA_MODELS") or home / ".ollama" / "models"), home)
    once: dict[Path, LocalModel] = {}
    for model in found:
        once.setdefault(model.path.resolve(), model)
    return tuple(once.values())


def _places(env: Mapping[str, str], home: Path) -> list[tuple[str, Path]]:
    caches = (
        home / "Library" / "Caches" if sys.platform == "darwin" else Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    )
    return [
        ("LM Studio", home / ".lmstudio" / "models"),
        ("LM Studio", home / ".cache" / "lm-studio" / "models"),
        ("llama.cpp", Path(env.get("LLAMA_CACHE") or caches / "llama.cpp")),
    ]


def _hub_root(env: Mapping[str, str], home: Path) -> Path:
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"])
    caches = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(env.get("HF_HOME") or caches / "huggingface") / "hub"


def _directory(place: Path, origin: str, home: Path) -> list[LocalModel]:
    return [_model(path.stem, path, origin, _shown(path, home)) for path in _gguf_files(place)]


def _hub_cache(root: Path, home: Path) -> list[LocalModel]:
    found: list[LocalModel] = []
    for folder in _listed(root):
        parts = folder.name.split("--")
        if parts[0] != "models" or len(parts) != 3:
            continue
        repo = f"{parts[1]}/{parts[2]}"
        commits = {_first_line(ref): ref.relative_to(folder / "refs").as_posix() for ref in _files(folder / "refs", 2)}
        snapshots = sorted(_listed(folder / "snapshots"), key=lambda commit: commits.get(commit.name) != "main")
        for snapshot in snapshots:
            branch = commits.get(snapshot.name, snapshot.name)
            for path in _gguf_files(snapshot):
                file = path.relative_to(snapshot).as_posix()
                at = "" if branch == "main" else f"@{branch}"
                found.append(_model(path.stem, path, "Hub cache", f"{repo}{at}:{file}"))
    return found


def _ollama(root: Path, home: Path) -> list[LocalModel]:
    """Models are named by small manifests that point at blobs without a suffix."""
    found: list[LocalModel] = []
    for manifest in _files(root / "manifests", MAX_DEPTH):
        try:
            layers = json.loads(manifest.read_bytes())["layers"]
            digest = next(layer["digest"] for layer in layers if layer["mediaType"].endswith(".image.model"))
            path = root / "blobs" / str(digest).replace(":", "-")
            if _is_file(path):
                found.append(_model(f"{manifest.parent.name}:{manifest.name}", path, "Ollama", _shown(path, home)))
        except (OSError, ValueError, LookupError, TypeError, StopIteration):
            continue
    return found


def _model(name: str, path: Path, origin: str, spec: str) -> LocalModel:
    return LocalModel(name, path, path.stat().st_size, origin, spec)


def _gguf_files(place: Path) -> list[Path]:
    """The models below a directory: no projectors, only the first part of a split one."""
    return [
        path
        for path in _files(place, MAX_DEPTH)
        if path.suffix == ".gguf" and not _LATER_PART.search(path.name) and "mmproj" not in path.name.lower()
    ]


def _files(place: Path, depth: int) -> Iterator[Path]:
    for entry in _listed(place):
        if _is_file(entry):
            yield entry
        elif depth > 1 and _is_dir(entry):
            yield from _files(entry, depth - 1)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(_mode(path))


def _is_dir(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """Type and permissions; 0 where there is nothing, or in a directory that may be listed but not entered."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _listed(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except OSError:
        return []


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _shown(path: Path, home: Path) -> str:
    """The path with the home directory as "~", as `parse_spec` takes it."""
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)
