"""`tui-chat benchmark`: how fast a model runs here and what watching it costs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tui_chat import paths
from tui_chat.cli.inference import LoadedModel, find_model
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option
from tui_chat.errors import StorageError, UsageError
from tui_chat.lessons.benchmark import Benchmark, run_benchmark
from tui_chat.lessons.documents import dump
from tui_chat.models.geometry import GEOMETRIES, ensure_model, vocabulary_of
from tui_chat.models.resolve import builtin_path


@click.command("benchmark", cls=Command)
@click.option(
    "--as",
    "geometry",
    metavar="GEOMETRY",
    help=f"Measure random weights of this shape instead of a model: {', '.join(GEOMETRIES)}. Written once, then kept.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=240,
    show_default=True,
    help="Tokens decoded in each loop, over all rounds.",
)
@click.option("--samplers", is_flag=True, help="Measure every sampler at once, and a grammar of JSON, too.")
@click.option("--in-app", is_flag=True, help="Measure inside the running app too, drawn without a terminal.")
@json_option
@model_option
@config_option
@llm_options
def command(geometry: str | None, tokens: int, samplers: bool, in_app: bool, as_json: bool, model: str | None) -> None:
    """Measure a bare llama_decode loop, our loop without and with inspection, prefill, first token and memory.

    All figures come from one run in which the measurements take turns, so that their ratios hold on a busy machine.
    """
    loaded = current_settings()
    if geometry is not None and model is not None:
        raise UsageError("--as and --model both name what to measure: use one of them")
    path = _geometry_file(geometry) if geometry is not None else find_model(loaded, model)
    document: dict[str, object] = {}
    with LoadedModel(path, loaded.settings) as llm:
        result = llm.run(lambda engine: run_benchmark(engine, tokens=tokens, samplers=samplers, on_progress=_say))
        document.update(result.as_dict())
    if in_app:
        from tui_chat.ui.measure import measure_in_app

        _say("inside the app")
        document["in_app"] = measure_in_app(loaded, path, tokens=tokens)
    click.echo(dump(document) if as_json else _table(result, document.get("in_app")))


def _say(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"tui-chat: {text}", err=True)


def _geometry_file(name: str) -> Path:
    shape = GEOMETRIES.get(name.lower())
    if shape is None:
        raise UsageError(f"there is no geometry {name!r}: choose from {', '.join(GEOMETRIES)}")
    directory = paths.ensure_dir(paths.cache_dir() / "geometry")
    _say(f"{shape.name}: {shape.n_params / 1e6:,.0f} M random weights")
    try:
        return ensure_model(shape, vocabulary_of(builtin_path()), directory)
    except OSError as error:
        raise StorageError(
            f"{directory}: the model cannot be written: {error.strerror}; make room or set TUI_CHAT_HOME"
        ) from error


def _parts(b: Benchmark) -> str:
    sizes = {"weights": b.model_bytes, "cache": b.kv_bytes, "else": b.memory_above_bytes}
    return ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sizes.items())


def _chains(b: Benchmark) -> list[tuple[str, str]]:
    rates = {
        "every sampler": (b.every_sampler_tokens_per_s, b.every_sampler_ratio),
        "a JSON grammar": (b.json_grammar_tokens_per_s, b.json_grammar_ratio),
    }
    return [
        (f"decode, {name}", f"{rate:9.1f} tok/s   {ratio:6.1%} of the bare loop")
        for name, (rate, ratio) in rates.items()
        if rate is not None and ratio is not None
    ]


def _table(b: Benchmark, in_app: object) -> str:
    rows = [
        (b.description, f"{b.model}, loaded in {b.load_s:.2f} s, {b.machine['threads']} threads"),
        ("decode, bare loop", f"{b.floor_tokens_per_s:9.1f} tok/s"),
        ("decode", f"{b.tokens_per_s:9.1f} tok/s   {b.ratio:6.1%} of the bare loop"),
        ("decode, inspected", f"{b.inspected_tokens_per_s:9.1f} tok/s   {b.inspected_ratio:6.1%} of the bare loop"),
        ("  what it adds", f"{b.overhead_us:9.0f} µs a token"),
        *_chains(b),
        (f"prefill {b.prefill_tokens}, one batch", f"{b.prefill_floor_tokens_per_s:9.1f} tok/s"),
        (f"prefill {b.prefill_tokens}", f"{b.prefill_tokens_per_s:9.1f} tok/s   {b.prefill_ratio:6.1%} of one batch"),
        ("first token", f"{b.ttft_s * 1e3:9.1f} ms after a prompt of {b.prefill_tokens}"),
        ("memory", f"{b.rss_bytes / 1e6:9.1f} MB: {_parts(b)}"),
    ]
    if isinstance(in_app, dict):
        rows += [
            ("in the app, inspected", f"{in_app['tokens_per_s']:9.1f} tok/s   {in_app['ratio']:6.1%} of the bare loop"),
            ("  key echo", f"{in_app['key_echo_p99_ms']:9.1f} ms (99th percentile of {in_app['keys']})"),
        ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
