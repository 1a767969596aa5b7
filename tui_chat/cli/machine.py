"""What `doctor` looks at: this program, the packages it stands on, llama.cpp, its directories and the terminal."""

from __future__ import annotations

import locale
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from tui_chat import __version__, paths

Facts = dict[str, object]
"""A part of the report, as JSON holds it."""

_PACKAGES = (
    "click",
    "gguf",
    "huggingface_hub",
    "jinja2",
    "llama-cpp-python",
    "numpy",
    "platformdirs",
    "pydantic",
    "pyyaml",
    "textual",
    "tokenizers",
)

_EXTRAS = ("torch", "safetensors", "textual-serve")

TRUE_COLOR = 1 << 24


def program_facts() -> Facts:
    """Version and place of the program and of the Python that runs it."""
    return {
        "version": __version__,
        "location": str(Path(__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
    }


def package_facts() -> Facts:
    """Package to its version, or None where it is not installed: first those that are needed, then the extras'."""
    return {name: _version(name) for name in (*_PACKAGES, *_EXTRAS)}


def missing_packages(packages: Facts) -> list[str]:
    """The needed packages that are not there."""
    return [name for name in _PACKAGES if packages[name] is None]


def llama_facts() -> Facts:
    """What this build of llama.cpp can do and which devices it sees; `error` alone if it cannot be loaded."""
    try:
        from tui_chat.engine.llama import system_facts

        facts = dict(system_facts())
    # A broken native library shows itself in many ways, and saying which one is this command's work.
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    facts["features"] = _features(str(facts.get("system_info", "")))
    return facts


def model_facts() -> Facts:
    """Where the built-in model is, and its size; `error` if it is not there."""
    from tui_chat.models.resolve import builtin_path

    path = builtin_path()
    try:
        return {"path": str(path), "size_bytes": path.stat().st_size}
    except OSError as error:
        return {"path": str(path), "error": error.strerror or str(error)}


def path_facts() -> list[Facts]:
    """The program's directories: name, path, whether it exists and whether it can be written or made."""
    places = {
        "settings": paths.config_dir(),
        "data": paths.data_dir(),
        "cache": paths.cache_dir(),
        "log": paths.log_dir(),
    }
    return [
        {"name": name, "path": str(path), "exists": path.exists(), "writable": paths.is_writable(path)}
        for name, path in places.items()
    ]


def terminal_facts() -> Facts:
    """Size, colours and character set of the terminal, as far as the environment tells."""
    size = shutil.get_terminal_size((0, 0))
    encoding = (sys.stdout.encoding if sys.stdout else None) or locale.getpreferredencoding(False)
    return {
        "input_is_terminal": sys.stdin is not None and sys.stdin.isatty(),
        "output_is_terminal": sys.stdout is not None and sys.stdout.isatty(),
        "columns": size.columns or None,
        "lines": size.lines or None,
        "term": os.environ.get("TERM"),
        "colorterm": os.environ.get("COLORTERM"),
        "program": os.environ.get("TERM_PROGRAM"),
        "colors": _color_count(),
        "no_color": bool(os.environ.get("NO_COLOR")),
        "encoding": encoding,
        "unicode": encoding.lower().replace("-", "").startswith("utf"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _features(system_info: str) -> list[str]:
    """Names of the features that llama.cpp says were compiled in and are there, such as AVX2."""
    return re.findall(r"(\w+) = 1\b", system_info)


def _color_count() -> int:
    """Colours the terminal shows: 0 for none."""
    term = os.environ.get("TERM", "")
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return TRUE_COLOR
    if not term or term == "dumb":
        return 0
    guess = 256 if "256color" in term else 8
    try:
        answer = subprocess.run(["tput", "-T", term, "colors"], capture_output=True, text=True, timeout=5, check=True)
        return max(0, int(answer.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return guess
