"""The plan of the house, held against its imports: which room may use which, and which package only one room."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import tui_chat

PACKAGE = Path(tui_chat.__file__).parent

MAX_LINES = 450

BELOW_LESSONS = {"chat", "display", "language", "engine", "models", "checkpoints", "config", "paths", "errors"}

MAY_USE: dict[str, set[str]] = {
    "errors": set(),
    "interrupts": set(),
    "startup": set(),
    "paths": {"errors"},
    "engine": {"errors"},
    "display": {"engine.types", "language"},
    "language": {"errors"},
    "chat": {"engine", "language", "errors"},
    "checkpoints": {"paths", "errors"},
    "models": {"engine.types", "checkpoints", "paths", "errors"},
    "config": {"engine.types", "engine.bias", "engine.gbnf", "engine.json_schema", "language", "paths", "errors"},
    "themes": {"paths", "errors"},
    "lessons": BELOW_LESSONS,
    "commands": {"lessons", *BELOW_LESSONS},
    "ui": {"commands", "lessons", "themes", "startup", *BELOW_LESSONS},
    "training": {"checkpoints", "interrupts", "paths", "errors"},
    "cli": {"ui", "commands", "lessons", "themes", "interrupts", "startup", "training", *BELOW_LESSONS},
    "__main__": {"cli"},
}
"""Room to the rooms it may import from, besides itself. A dotted name allows that module alone."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "llama_cpp": ("engine.llama",),
    "textual": ("ui", "themes"),
    "torch": ("training",),
    "click": ("cli",),
    "sqlite3": ("chat",),
}
"""Foreign package to the modules or rooms that may import it."""

BUILT_FOR_DIRECTORIES = {"mkdir", "makedirs", "ensure_dir", "mkdtemp"}


@dataclass(frozen=True)
class Import:
    """`importer` imports `target` (dotted, without the package's own name where it is ours)."""

    importer: str
    target: str
    ours: bool
    line: int


@cache
def modules() -> dict[str, Path]:
    """Dotted name below the package to file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


@cache
def imports_of(name: str, path: Path) -> tuple[Import, ...]:
    return tuple(_imports(name, path))


def _imports(name: str, path: Path) -> Iterator[Import]:
    known = modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from tui_chat import paths` names a module, `from tui_chat.paths import data_dir` a thing in one.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [full if full.removeprefix("tui_chat.") in known else node.module for full in inner]
        else:
            continue
        for target in targets:
            ours = target.split(".")[0] == "tui_chat"
            yield Import(name, target.removeprefix("tui_chat.") if ours else target, ours, node.lineno)


def all_imports() -> list[Import]:
    return [entry for name, path in modules().items() for entry in imports_of(name, path)]


def lies_in(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def may_import(importer: str, target: str) -> bool:
    room = importer.split(".")[0]
    if target == "tui_chat" or lies_in(target, room):
        return True
    return any(lies_in(target, place) for place in MAY_USE[room])


def test_every_room_has_its_place_in_the_plan() -> None:
    assert {name.split(".")[0] for name in modules()} <= MAY_USE.keys()


def test_imports_run_one_way() -> None:
    wrong = [entry for entry in all_imports() if entry.ours and not may_import(entry.importer, entry.target)]
    assert not wrong, "\n".join(f"{e.importer}:{e.line} must not import {e.target}" for e in wrong)


def test_no_module_waits_for_another_in_a_circle() -> None:
    graph = {name: {e.target for e in imports_of(name, path) if e.ours} for name, path in modules().items()}
    rooms: dict[str, set[str]] = {}
    for name, targets in graph.items():
        rooms.setdefault(name.split(".")[0], set()).update(target.split(".")[0] for target in targets)
    order: list[str] = []
    pending = {room: {t for t in targets if t in rooms and t != room} for room, targets in rooms.items()}
    while pending:
        free = [room for room, targets in pending.items() if targets <= set(order)]
        assert free, f"these rooms import each other: {sorted(pending)}"
        order += free
        for room in free:
            del pending[room]


@pytest.mark.parametrize(("package", "places"), ONLY_IN.items())
def test_a_foreign_package_is_imported_only_where_it_belongs(package: str, places: tuple[str, ...]) -> None:
    wrong = [
        entry
        for entry in all_imports()
        if not entry.ours
        and lies_in(entry.target, package)
        and not any(lies_in(entry.importer, place) for place in places)
    ]
    assert not wrong, "\n".join(f"{e.importer}:{e.line} imports {e.target}" for e in wrong)


@pytest.mark.parametrize("name", modules())
def test_a_module_fits_in_the_head(name: str) -> None:
    lines = len(modules()[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name} has {lines} lines: give it fewer subjects"


def outside_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs while the module is imported: not the bodies of functions, but their defaults."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)


@pytest.mark.parametrize("name", modules())
def test_no_directory_is_made_on_import(name: str) -> None:
    for node in outside_functions(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in BUILT_FOR_DIRECTORIES, f"{name}:{node.lineno} calls {called}"


def imported_by(statement: str, home: Path) -> set[str]:
    """Top-level packages that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "TUI_CHAT_HOME": str(home)},
    )
    return set(result.stdout.split())


def test_the_command_line_starts_without_anything_heavy(home: Path) -> None:
    loaded = imported_by("import tui_chat.cli.group, tui_chat.config, tui_chat.cli.config", home)
    heavy = {"textual", "numpy", "llama_cpp", "torch", "huggingface_hub", "tokenizers", "jinja2", "gguf", "yaml"}
    assert not loaded & heavy
    assert not home.exists()


def test_the_first_frame_does_not_wait_for_the_engine(home: Path) -> None:
    loaded = imported_by("import tui_chat.ui.app", home)
    assert not loaded & {"llama_cpp", "torch", "huggingface_hub", "tokenizers", "gguf", "numpy", "jinja2"}
    assert not home.exists()
