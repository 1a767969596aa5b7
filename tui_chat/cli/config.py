"""`tui-chat config`: the effective settings and where each came from; or what is wrong with a settings file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import click

from tui_chat import paths
from tui_chat.cli.options import (
    Command,
    answer_options,
    config_option,
    current_settings,
    json_option,
    llm_options,
    sampling_options,
    ui_options,
)
from tui_chat.cli.program import one_line
from tui_chat.config import LoadedSettings, check_file
from tui_chat.errors import ConfigError, UsageError


@click.command("config", cls=Command)
@click.option(
    "--check",
    "checked",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="List everything that is wrong with a settings file; exit 2 if anything is.",
)
@json_option
@config_option
@answer_options
@sampling_options
@llm_options
@ui_options
def command(checked: Path | None, as_json: bool) -> int:
    """Show the effective settings and where each of them came from."""
    if checked is not None:
        return _check(checked, as_json)
    loaded = current_settings()
    click.echo(_to_json(loaded) if as_json else _to_table(loaded))
    return 0


def _check(path: Path, as_json: bool) -> int:
    problems = check_file(path)
    if as_json:
        report = {"file": str(path), "ok": not problems, "problems": [_problem(problem) for problem in problems]}
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    elif problems:
        for problem in problems:
            click.echo(one_line(str(problem)))
    else:
        click.echo(f"{path}: all settings hold")
    return UsageError.exit_code if problems else 0


def _problem(problem: ConfigError) -> dict[str, object]:
    source = problem.source or ""
    line = source.rpartition(":")[2]
    return {
        "key": problem.key,
        "line": int(line) if line.isdigit() else None,
        "message": str(problem).removeprefix(f"{source}: "),
    }


def _to_json(loaded: LoadedSettings) -> str:
    report = {
        "file": str(loaded.file) if loaded.file else None,
        "settings": {section: _plain(values) for section, values in loaded.settings},
        "origins": dict(loaded.origins),
    }
    return json.dumps(report, ensure_ascii=False, indent=2)


def _plain(values: object) -> dict[str, object]:
    return {name: _value(value) for name, value in values}  # type: ignore[attr-defined]


def _value(value: object) -> object:
    """A setting as JSON can hold it: a ban, an infinitely negative bias, is the text `-inf`."""
    match value:
        case float() if math.isinf(value):
            return "-inf"
        case tuple():
            return [_value(item) for item in value]
        case Mapping():
            return {str(key): _value(item) for key, item in value.items()}
        case Path():
            return str(value)
    return value


def _to_table(loaded: LoadedSettings) -> str:
    file = loaded.file or paths.config_file()
    lines = [f"settings file  {file}{'' if loaded.file else '  (not there: all defaults)'}"]
    width = max(len(key.partition(".")[2]) for key in loaded.origins)
    for section, values in loaded.settings:
        lines += ["", click.style(section, bold=True)]
        for name, value in _plain(values).items():
            origin = loaded.origins[f"{section}.{name}"]
            shown = one_line(_shown(value))
            changed = origin != "default"
            lines.append(
                f"  {name:<{width}}  {click.style(f'{shown:<14}', bold=changed)}  {_short_origin(origin, file)}"
            )
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case str():
            return value or '""'
        case []:
            return "[]"
        case list():
            return ", ".join(": ".join(map(str, item)) if isinstance(item, list) else str(item) for item in value)
    return json.dumps(value, ensure_ascii=False)


def _short_origin(origin: str, file: Path) -> str:
    return "file" if origin == f"file {file}" else origin
