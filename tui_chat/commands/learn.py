"""The command `/learn`: the course of lessons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="learn",
            group=LESSONS,
            summary=N_("Take a course of ten short lessons, each with something to do"),
            run=_learn,
            arguments=(Argument("number", N_("1 to 10"), _numbers),),
            details=N_(
                "Each lesson explains one thing with figures of the loaded model, and ends with a task. The app "
                "sees by itself when it is done, keeps that for the next time, and names the next lesson."
            ),
            examples=(("/learn", N_("the lessons, and which are done")), ("/learn 1", N_("opens the first one"))),
            present=lambda context: _("{n} of 10 done").format(n=len(context.course().done)),
        ),
    )


def _learn(context: CommandContext, invocation: Invocation) -> None:
    from tui_chat.lessons.course.progress import lesson_number

    progress, text = context.course(), invocation.text().strip()
    if not text:
        from tui_chat.lessons.course.lessons import contents

        context.show_report("/learn", contents(progress))
        return
    number = lesson_number(text)
    scene, done = context.scene(), number in progress.done

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.course.lessons import open_lesson

        return open_lesson(engine, watch, scene, number, done=done)

    context.report(f"/learn {number}", lesson)
    progress.begin(number)


def _numbers(context: CommandContext) -> Sequence[tuple[str, str]]:
    from tui_chat.lessons.course.lessons import LESSONS

    done = context.course().done
    return [(str(n), f"{'✓ ' if n in done else ''}{_(lesson.title)}") for n, lesson in enumerate(LESSONS, start=1)]
