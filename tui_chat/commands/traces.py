"""Traces of answers: `/trace` shows and saves them, `/replay` makes an answer again from one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_chat import paths
from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.chat.trace_file import AnswerTrace
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch

_SAVE = "save"

SUFFIX = ".trace.jsonl"


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="trace",
            group=LESSONS,
            summary=N_("Show or save all that made an answer"),
            run=_trace,
            arguments=(
                Argument(
                    "what",
                    N_("save, or a trace file to read"),
                    lambda context: [(_SAVE, _("the answer on show into a file")), *_files(context)],
                ),
                Argument("file", N_("where to save it; else beside the conversations")),
            ),
            details=N_(
                "A trace holds every token of an answer with its logits, its candidates and its draw, the prompt, the "
                "settings and which model it was: it is read without the model, and `/replay` makes the answer again "
                "from it. Of the answer that the inspector shows."
            ),
            examples=(
                ("/trace", N_("shows that of the answer on show")),
                ("/trace save", N_("saves it")),
                ("/trace save ~/sea.trace.jsonl", N_("saves it there; /trace and that name reads it")),
            ),
        ),
        Command(
            name="replay",
            group=LESSONS,
            summary=N_("Make an answer again, and compare every figure"),
            run=_replay,
            arguments=(
                Argument("file", N_("a trace file; the answer on show without"), lambda context: _files(context)),
            ),
            details=N_(
                "The loaded model gets the same prompt, settings and seed once more, and each id and each logit is "
                "held against what was recorded. It says whether all came out the same, and what differed first. The "
                "trace must be of the loaded model."
            ),
            examples=(("/replay", N_("the answer on show")),),
        ),
    )


def traces_dir() -> Path:
    """Where traces are kept that were given no file."""
    return paths.data_dir() / "traces"


def _files(_context: CommandContext) -> Sequence[tuple[str, str]]:
    """The traces there, newest first."""
    found = sorted(traces_dir().glob(f"*{SUFFIX}"), reverse=True)
    return [(path.name, _("a saved trace")) for path in found]


def _place(word: str) -> Path:
    """The file that is meant: where it says, else among the saved traces."""
    path = Path(word).expanduser()
    kept = traces_dir() / word
    return kept if not path.exists() and kept.is_file() else path


def _trace(context: CommandContext, invocation: Invocation) -> None:
    words = invocation.words()
    title = f"/{invocation.name} {invocation.rest}".rstrip()
    if words and words[0] == _SAVE:
        if len(words) > 2:
            raise UsageError(
                _("/trace save takes one file, not {n}: put quotes around its name").format(n=len(words) - 1)
            )
        context.make_report(title, _saving(context.answer_trace(), words[1] if len(words) == 2 else None))
        return
    if len(words) > 1:
        raise UsageError(_("/trace takes one file, not {n}: put quotes around its name").format(n=len(words)))
    make = context.answer_trace() if not words else None
    name = words[0] if words else _("the answer on show")

    def read() -> Report:
        from tui_chat.chat.trace_file import read_trace
        from tui_chat.lessons.trace import trace_report

        return trace_report(make() if make is not None else read_trace(_place(name)), name)

    context.make_report(title, read)


def _saving(make: Callable[[], AnswerTrace], name: str | None) -> Callable[[], Report]:
    def save() -> Report:
        from tui_chat.chat.trace_file import write_trace
        from tui_chat.lessons.trace import trace_report

        trace = make()
        if name is None:
            path = paths.ensure_dir(traces_dir()) / f"{time.strftime('%Y%m%d-%H%M%S')}{SUFFIX}"
        else:
            path = Path(name).expanduser()
        write_trace(path, trace)
        return trace_report(trace, str(path), saved=True)

    return save


def _replay(context: CommandContext, invocation: Invocation) -> None:
    words = invocation.words()
    if len(words) > 1:
        raise UsageError(_("/replay takes one file, not {n}: put quotes around its name").format(n=len(words)))
    make = context.answer_trace() if not words else None
    name = words[0] if words else _("the answer on show")

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.chat.trace_file import read_trace
        from tui_chat.lessons.replay import replay

        return replay(engine, watch, make() if make is not None else read_trace(_place(name)), name)

    context.report(f"/{invocation.name} {invocation.rest}".rstrip(), lesson)
