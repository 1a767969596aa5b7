"""`tui-chat doctor`: what this installation is, what it can do here, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

from tui_chat.cli.machine import (
    TRUE_COLOR,
    llama_facts,
    missing_packages,
    model_facts,
    package_facts,
    path_facts,
    program_facts,
    terminal_facts,
)
from tui_chat.cli.options import Command, config_option, current_settings, json_option
from tui_chat.cli.startup_timing import COLUMNS, LINES, measure_startup, summarise
from tui_chat.errors import ConfigError

MIN_COLUMNS, MIN_LINES = 60, 16
"""Smallest terminal the app draws on."""

Report = dict[str, Any]


@click.command("doctor", cls=Command)
@click.option("--startup", is_flag=True, help="Start the app in a terminal of its own and time it.")
@click.option("--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Starts that are timed.")
@config_option
@json_option
def command(startup: bool, runs: int, as_json: bool) -> int:
    """Show versions, devices, paths and the terminal, and name what is wrong.

    Exit status 1 means that something keeps the program from working.
    """
    report = examine()
    if not report["problems"]:
        try:
            report["tokenizer"] = _tokenizer()
        except ConfigError as error:
            report["problems"].append(str(error))
    if startup:
        report["startup"] = time_startup(runs)
    click.echo(json.dumps(report, ensure_ascii=False, indent=2) if as_json else "\n".join(describe(report)))
    return 1 if report["problems"] else 0


def examine() -> Report:
    """Everything but the timing, with `problems` (they keep it from working) and `notes` (they make it less good)."""
    report: Report = {
        "program": program_facts(),
        "packages": package_facts(),
        "llama_cpp": llama_facts(),
        "builtin_model": model_facts(),
        "paths": path_facts(),
        "terminal": terminal_facts(),
    }
    return {**report, "problems": list(_problems(report)), "notes": list(_notes(report))}


def _tokenizer() -> Report | None:
    from tui_chat.cli.tokenizer_facts import tokenizer_facts

    return tokenizer_facts(current_settings())


def time_startup(runs: int) -> Report:
    """Median and single figures of `runs` starts, in seconds."""
    timings = measure_startup(runs)
    return {**asdict(summarise(timings)), "runs": [asdict(timing) for timing in timings]}


def describe(report: Report) -> Iterator[str]:
    """The report for people, line by line."""
    program, terminal = report["program"], report["terminal"]
    yield from _section(
        "program",
        {
            "tui-chat": f"{program['version']} in {program['location']}",
            "Python": f"{program['python']} ({program['implementation']}) {program['executable']}",
            "system": f"{program['platform']}, {program['cpu_count']} CPUs",
        },
    )
    yield from _section("packages", {name: version or "not installed" for name, version in report["packages"].items()})
    yield from _section("llama.cpp", _llama_rows(report["llama_cpp"]))
    model = report["builtin_model"]
    size = f"{model['size_bytes'] / 1e6:.1f} MB" if "size_bytes" in model else model["error"]
    yield from _section("built-in model", {"file": model["path"], "size": size})
    yield from _section("directories", {place["name"]: _place(place) for place in report["paths"]})
    yield from _section("terminal", _terminal_rows(terminal))
    if tokenizer := report.get("tokenizer"):
        file = f"{tokenizer['repo']}:{tokenizer['file']}"
        yield from _section("tokenizer", {"file": file, "compared": tokenizer["result"]})
    if "startup" in report:
        yield from _section(f"start-up ({COLUMNS}×{LINES}, median)", _startup_rows(report["startup"]))
    yield ""
    yield from (f"✗ {problem}" for problem in report["problems"])
    yield from (f"! {note}" for note in report["notes"])
    if not report["problems"]:
        yield "✓ everything the program needs is there"


def _section(title: str, rows: Mapping[str, object]) -> Iterator[str]:
    yield click.style(title, bold=True)
    width = max(map(len, rows))
    for name, value in rows.items():
        yield f"  {name:<{width}}  {value}"


def _llama_rows(facts: Mapping[str, Any]) -> dict[str, object]:
    if "error" in facts:
        return {"error": facts["error"]}
    build = facts.get("llama_cpp_build")
    rows: dict[str, object] = {
        "version": f"llama-cpp-python {facts['llama_cpp_python']}" + (f" with {build}" if build else ""),
        "GPU offload": "yes" if facts["supports_gpu_offload"] else "no (this build runs on the CPU)",
    }
    for index, device in enumerate(facts["devices"]):
        memory = f", {device['memory_total'] / 2**30:.1f} GiB" if device["memory_total"] else ""
        rows[f"device {index}"] = f"{device['name']} · {device['description']} ({device['type']}{memory})"
    rows["features"] = " ".join(facts["features"]) or "none named"
    return rows


def _place(place: Mapping[str, Any]) -> str:
    state = "" if place["writable"] else "  (cannot be written)"
    return f"{place['path']}{state or ('' if place['exists'] else '  (made when it is needed)')}"


def _terminal_rows(facts: Mapping[str, Any]) -> dict[str, object]:
    colors = facts["colors"]
    depth = "16.7 million" if colors == TRUE_COLOR else str(colors or "none")
    return {
        "size": f"{facts['columns']}×{facts['lines']}" if facts["columns"] else "not known",
        "TERM": facts["term"] or "not set",
        "COLORTERM": facts["colorterm"] or "not set",
        "colours": depth + (" (NO_COLOR is set)" if facts["no_color"] else ""),
        "encoding": facts["encoding"],
        "input, output": " and ".join(
            "a terminal" if facts[f"{side}_is_terminal"] else "not a terminal" for side in ("input", "output")
        ),
    }


def _startup_rows(timing: Mapping[str, Any]) -> dict[str, object]:
    rows = {"first frame": "first_frame_s", "built-in model ready": "model_ready_s", "end after Ctrl+Q": "quit_s"}
    return {
        name: f"{timing[key]:.3f} s   (of {', '.join(f'{run[key]:.3f}' for run in timing['runs'])})"
        for name, key in rows.items()
    }


def _problems(report: Report) -> Iterator[str]:
    for name in missing_packages(report["packages"]):
        yield f"the package {name} is not installed: install tui-chat again"
    if "error" in report["llama_cpp"]:
        yield f"llama.cpp cannot be loaded ({report['llama_cpp']['error']}): install llama-cpp-python again"
    if "error" in report["builtin_model"]:
        yield f"the built-in model is not at {report['builtin_model']['path']}: install tui-chat again"


def _notes(report: Report) -> Iterator[str]:
    for place in report["paths"]:
        if not place["writable"]:
            yield (
                f"the {place['name']} directory {place['path']} cannot be written: "
                "change its permissions, or set TUI_CHAT_HOME to a directory you can write"
            )
    terminal = report["terminal"]
    if not terminal["output_is_terminal"]:
        return
    if terminal["columns"] and (terminal["columns"] < MIN_COLUMNS or terminal["lines"] < MIN_LINES):
        yield f"the terminal is smaller than {MIN_COLUMNS}×{MIN_LINES}, which the app needs"
    if not terminal["unicode"]:
        yield f"the terminal's encoding is {terminal['encoding']}: set a UTF-8 locale to see bars and symbols"
    if terminal["colors"] < 256:
        yield "the terminal shows few colours: set TERM and COLORTERM to what it can do"
