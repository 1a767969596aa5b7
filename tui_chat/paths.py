"""Where the program keeps things. Nothing is created until someone asks for it with `ensure_dir`.

The directories are the platform's own for an application of this name. The environment variable `TUI_CHAT_HOME` puts
all of them below one directory instead, which is how a portable installation, or a test, keeps to itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from tui_chat.errors import StorageError

APP_NAME = "tui-chat"

HOME_VARIABLE = "TUI_CHAT_HOME"
"""Environment variable that moves every directory below the one it names."""


def config_dir() -> Path:
    """Directory of the settings file and the user's own themes."""
    return _place("config")


def data_dir() -> Path:
    """Directory of the conversations and of models that were put there by hand."""
    return _place("data")


def cache_dir() -> Path:
    """Directory of what can be made again, such as random-weight models of the benchmark."""
    return _place("cache")


def log_dir() -> Path:
    """Directory of log files and of reports on unexpected errors."""
    return _place("log")


def config_file() -> Path:
    """The settings file that is read when none is named."""
    return config_dir() / "config.yaml"


def ensure_dir(path: Path) -> Path:
    """Make a directory, with its parents, and check that files can be written into it.

    Returns:
        `path`, so that the call can stand inside an expression.

    Raises:
        StorageError: The directory cannot be made or written; names it and the remedy.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise StorageError(f"{path} is a file where a directory is needed: {_remedy('move it away')}") from error
    except NotADirectoryError as error:
        raise StorageError(
            f"{path} cannot be made because a part of the path is a file: {_remedy('move that away')}"
        ) from error
    except OSError as error:
        raise StorageError(
            f"the directory {path} cannot be made ({error.strerror}): {_remedy('make it by hand')}"
        ) from error
    if not is_writable(path):
        raise StorageError(f"the directory {path} cannot be written: {_remedy('change its permissions')}")
    return path


def is_writable(path: Path) -> bool:
    """Whether files could be written into `path`, or, where it does not exist yet, whether it could be made."""
    while not path.exists():
        if path.parent == path:
            return False
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def _remedy(action: str) -> str:
    return f"{action}, or set {HOME_VARIABLE} to a directory you can write"


def _place(kind: Literal["config", "data", "cache", "log"]) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser() / kind
    import platformdirs

    directories = platformdirs.PlatformDirs(APP_NAME, appauthor=False)
    match kind:
        case "config":
            return directories.user_config_path
        case "data":
            return directories.user_data_path
        case "cache":
            return directories.user_cache_path
        case _:
            return directories.user_log_path
