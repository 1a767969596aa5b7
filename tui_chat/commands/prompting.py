"""The commands about the prompt itself: `/template` shows it, `/think` and `/prefill` change how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.lessons import GROUP
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch

_NOTICE_CHARS = 40
"""Longest beginning that a notice quotes whole."""

_STATES: dict[str, bool | None] = {"on": True, "off": False, "auto": None}


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="template",
            group=GROUP,
            summary="Show the exact prompt the model sees",
            run=_template,
            details="The conversation up to your last message, as the chat template makes one text of it, with the "
            "control tokens and the opening of the answer. The table says at which token each message begins. Look at "
            "how little tells your words from the model's.",
            examples=(("/template", "the prompt that your last message was answered from"),),
        ),
        Command(
            name="think",
            group="Conversation",
            summary="Let the model think before it answers, or not",
            run=_think,
            arguments=(
                Argument(
                    "state",
                    "on, off or auto",
                    lambda _: [
                        ("on", "ask for it"),
                        ("off", "close the think block beforehand"),
                        ("auto", "leave it to the template"),
                    ],
                ),
            ),
            details="Passes `enable_thinking` to the chat template, for the answers from now on. The card shows what "
            "that changes in the prompt: with thinking off many templates write a think block that is empty and closed "
            "already. A template that does not know the switch changes nothing, and the card says so.",
            examples=(
                ("/think on", "asks for thinking from the next answer on"),
                ("/think off", "answers at once"),
                ("/think", "shows what the template does in each case"),
            ),
            present=lambda context: _word(context),
        ),
        Command(
            name="prefill",
            group="Conversation",
            summary="Begin the next answer for the model",
            run=_prefill,
            arguments=(Argument("text", "any text, or off", lambda _: [("off", "no beginning")], rest=True),),
            details="The text stands behind the opening of the answer, and the model goes on from there: it is part of "
            "the next answer, and of that one only. Quotes around it keep spaces at its end. Look at how far the first "
            "words decide what follows.",
            examples=(
                ("/prefill A token is like", "the next answer begins so"),
                ("/prefill", "shows it"),
                ("/prefill off", "removes it"),
            ),
            present=lambda context: repr(context.prefill()) if context.prefill() else "none",
        ),
    )


def _template(context: CommandContext, invocation: Invocation) -> None:
    scene = context.scene().unanswered()

    def lesson(engine: Engine, _watch: Watch) -> Report:
        from tui_chat.lessons.template import Reader, template

        reader = Reader(engine.info.name, engine.vocab, engine.context.n_ctx)
        return template(reader, scene.builder(engine), scene, fitted_for=engine)

    context.report(f"/{invocation.name}", lesson)


def _think(context: CommandContext, invocation: Invocation) -> None:
    word = invocation.text().lower()
    if word:
        if word not in _STATES:
            raise UsageError(f"/think is on, off or auto, not {word!r}")
        context.set_setting("enable_thinking", _STATES[word])
        context.notify(f"thinking is {word} from the next answer on")
    if not context.model():
        context.show(f"Thinking is **{_word(context)}**. Whether a model's template can switch it, is seen with one.")
        return
    scene = context.scene()

    def lesson(engine: Engine, _watch: Watch) -> Report:
        from tui_chat.lessons.thinking import thinking

        return thinking(engine, scene)

    context.report(f"/{invocation.name} {word}".rstrip(), lesson)


def _word(context: CommandContext) -> str:
    state = context.get_setting("enable_thinking")
    return next(word for word, value in _STATES.items() if value is state)


def _prefill(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if not text:
        present = context.prefill()
        context.show(
            f"The next answer begins with:\n\n{_indented(present)}" if present else "Nothing begins the next answer."
        )
        return
    context.set_prefill("" if text == "off" else text)
    context.notify(
        "nothing begins the next answer" if text == "off" else f"the next answer begins with {_shortened(text)!r}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _NOTICE_CHARS else text[: _NOTICE_CHARS - 1] + "…"


def _indented(text: str) -> str:
    """A text as a block of code: nothing in it is marked up."""
    return "\n".join(f"    {line}" for line in text.split("\n"))
