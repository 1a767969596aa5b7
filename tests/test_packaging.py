"""The wheel holds everything the program reads while it runs, and works from wherever it is unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tui_chat import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_what_the_program_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == f"tui_chat-{__version__}-py3-none-any.whl"
    data = [path for path in (ROOT / "tui_chat").rglob("*") if path.is_file() and path.suffix not in (".pyc", ".orig")]
    assert {path.relative_to(ROOT).as_posix() for path in data} <= names
    assert {f"tui_chat/_themes/{path.name}" for path in (ROOT / "themes").glob("*.yaml")} <= names
    assert not any(name.startswith(("tests/", "scripts/", "themes/")) for name in names)


def test_an_unpacked_wheel_finds_its_themes_its_model_and_its_languages(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import tui_chat.language, tui_chat.themes, tui_chat.models.resolve\n"
        "for code, word in (('es', 'entropía'), ('pt', 'entropia')):\n"
        "    tui_chat.language.use(code)\n"
        "    assert tui_chat.language._('entropy') == word, code\n"
        "loaded = tui_chat.themes.load_themes()\n"
        "assert not loaded.failures, loaded.failures\n"
        "print(tui_chat.__file__, *sorted(loaded.themes), tui_chat.models.resolve.builtin_path(), sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    where, *themes, model = result.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path)
    assert themes == sorted(path.stem for path in (ROOT / "themes").glob("*.yaml"))
    assert Path(model).is_relative_to(tmp_path)
    assert Path(model).stat().st_size < 8_000_000


def test_constraints_cover_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    names = {item.partition(">")[0].lower().replace("_", "-") for item in asked}
    assert names <= pinned


def test_the_environment_of_the_tests_is_the_pinned_one() -> None:
    from importlib import metadata

    differing = []
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, separator, version = line.partition("==")
        if separator:
            try:
                installed = metadata.version(name).partition("+")[0]
            except metadata.PackageNotFoundError:
                continue
            if installed != version:
                differing.append(f"{name} {installed} instead of {version}")
    assert not differing
