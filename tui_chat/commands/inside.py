"""The commands that look into the loaded model and what runs it: `/memory`, `/kernels`, `/checkpoint`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Command, CommandContext, Lesson
from tui_chat.language import N_

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="memory",
            group=LESSONS,
            summary=N_("Show what the model and this conversation take of memory"),
            run=_showing(_memory),
            details=N_(
                "Weights by type, the KV cache with its formula and the live values in it, compute buffers, process "
                "and GPU. Look at the row *now* as the conversation grows."
            ),
            examples=(("/memory", N_("what is taken at this moment")),),
        ),
        Command(
            name="kernels",
            group=LESSONS,
            summary=N_("Show what computes the model, and what another build would give"),
            run=_showing(_kernels),
            details=N_(
                "Backends, devices, what the code for the CPU uses, flash attention, threads, batches; and the "
                "command for each other build of llama.cpp. Look for what the CPU has and the build does not use."
            ),
            examples=(("/kernels", N_("what runs where")),),
        ),
        Command(
            name="checkpoint",
            group=LESSONS,
            summary=N_("Show what the loaded file says of itself"),
            run=_showing(_checkpoint),
            details=N_(
                "Architecture, sizes, tensors by type, tokenizer, chat template, and how it was trained where the "
                "file tells. `tui-chat info` does the same for any file."
            ),
            examples=(("/checkpoint", N_("the header of the loaded file")),),
        ),
    )


def _showing(lesson: Lesson) -> Callable[[CommandContext, Invocation], None]:
    """Runs a lesson that takes no arguments."""
    return lambda context, invocation: context.report(f"/{invocation.name}", lesson)


def _memory(engine: Engine, watch: Watch) -> Report:
    from tui_chat.lessons.memory import memory

    return memory(engine, watch)


def _kernels(engine: Engine, watch: Watch) -> Report:
    from tui_chat.lessons.kernels import kernels

    return kernels(engine, watch)


def _checkpoint(engine: Engine, watch: Watch) -> Report:
    from tui_chat.lessons.checkpoint import checkpoint

    return checkpoint(engine, watch)
