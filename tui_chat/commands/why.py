"""The command `/why`: the formula of a figure, with the numbers of the token that is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="why",
            group=LESSONS,
            summary=N_("Explain a figure: its formula, with the real numbers in it"),
            run=_why,
            arguments=(Argument("figure", N_("what to explain, such as entropy"), _figures),),
            details=N_(
                "Of the token selected in the inspector, else the most surprising one of the answer (of an example "
                "where nothing was asked yet): the formula, the same with this token's numbers, what it means and "
                "where to read more. Without a figure it lists all there are, with their "
                "present values. In the inspector, `?` on a token explains its probability, and a click on a figure "
                "explains that one."
            ),
            examples=(
                ("/why", N_("all figures there are, with their present values")),
                ("/why entropy", N_("how unsure the model was")),
                ("/why top-p", N_("where the cut fell, and why there")),
                ("/why tok/s", N_("how fast the answer was written")),
                ("/why kv", N_("what the context takes of memory")),
            ),
        ),
    )


def _figures(context: CommandContext) -> Sequence[tuple[str, str]]:
    from tui_chat.lessons.formulas import all_figures
    from tui_chat.lessons.why import present

    seen = context.inspected()
    return [(figure.name, f"{_(figure.title)} · {present(figure, seen)}") for figure in all_figures()]


def _why(context: CommandContext, invocation: Invocation) -> None:
    from tui_chat.lessons.formulas import FIGURES, MODEL, find_figure
    from tui_chat.lessons.why import why

    words = invocation.words()
    figure = find_figure(" ".join(words)) if words else None
    name, seen, scene = figure.name if figure else None, context.inspected(), context.scene()

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.allocation import read_log

        return why(replace(seen, model=engine.info, memory=read_log(engine.load_log)), name)

    def example(engine: Engine, watch: Watch) -> Report:
        from tui_chat.lessons.scene import EXAMPLE_QUESTION
        from tui_chat.lessons.why import first_token

        question = _(EXAMPLE_QUESTION)
        note = _("Nothing was asked yet, so this is an example: an answer to “{question}”.").format(question=question)
        return why(replace(first_token(engine, watch, scene.asking(question)), note=note), name)

    title = f"/{invocation.name} {name or ''}".rstrip()
    # Only the model's own figures need the model, which would let the others wait for an answer under way.
    if not seen.tokens and not scene.unanswered().messages and figure not in FIGURES[MODEL] and context.model():
        context.report(title, example)
    elif figure in FIGURES[MODEL] or (figure is None and context.model() and not context.is_answering()):
        context.report(title, lesson)
    else:
        context.show_report(title, why(seen, name))
