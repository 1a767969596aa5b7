"""`tui-chat replay`: the answer of a trace file once more, compared token by token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui_chat.cli.inference import find_model
from tui_chat.cli.lessons import on_model, show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option
from tui_chat.errors import TraceError
from tui_chat.lessons.watch import Watch

if TYPE_CHECKING:
    from tui_chat.chat.trace_file import AnswerTrace
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report


@click.command("replay", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-3,
    show_default=True,
    metavar="X",
    help="How far a logit may be off, in nats.",
)
@json_option
@model_option
@config_option
@llm_options
def command(file: Path, tolerance: float, as_json: bool, model: str | None) -> int:
    """Make the answer in the trace FILE again and say whether every id and every logit came out the same.

    The model is the one the trace names, loaded as it was then, unless --model names its file elsewhere. The exit
    status is 0 where all is the same and 1 where something is not, or where another model wrote the trace.
    """
    from tui_chat.chat.trace_file import read_trace
    from tui_chat.lessons.replay import replay, require_model

    trace = read_trace(file)
    loaded = current_settings()
    where = model or _place(trace, file)
    require_model(trace, find_model(loaded, where), str(file))
    settings = loaded.settings
    # What decides on rounding is taken from the trace; where the model runs is this machine's affair.
    mark = trace.model
    llm = settings.llm.model_copy(
        update={
            "n_ctx": mark.n_ctx,
            "n_batch": mark.n_batch,
            "n_ubatch": mark.n_ubatch,
            "n_threads": settings.llm.n_threads or mark.n_threads,
            "flash_attn": mark.flash_attn,
            "type_k": mark.type_k,
            "type_v": mark.type_v,
        }
    )
    loaded = replace(loaded, settings=settings.model_copy(update={"llm": llm}))

    def lesson(engine: Engine, watch: Watch) -> Report:
        return replay(engine, watch, trace, str(file), tolerance=tolerance)

    report = on_model(loaded, where, lesson)
    show(report, as_json=as_json)
    return 0 if report.document["same"] else 1


def _place(trace: AnswerTrace, file: Path) -> str:
    """Where the model of a trace is on this machine; only a file is looked for, whatever a stranger's trace names.

    Raises:
        TraceError: It is not there.
    """
    from tui_chat.engine.gguf import fingerprint
    from tui_chat.models.resolve import BUILTIN, builtin_path

    if Path(trace.model.path).is_file():
        return str(Path(trace.model.path).absolute())
    if builtin_path().is_file() and fingerprint(builtin_path()) == trace.model.sha256:
        return BUILTIN
    raise TraceError(
        f"the model of {file}, {trace.model.name}, is not at {trace.model.path}: name its file with --model"
    )
