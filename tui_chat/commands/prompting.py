"""The commands about the prompt itself: `/template` shows it, `/think` and `/prefill` change how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.groups import CONVERSATION, LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.config import THINKING_STATES
from tui_chat.display.text import shortened
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="template",
            group=LESSONS,
            summary=N_("Show the exact prompt the model sees"),
            run=_template,
            details=N_(
                "The conversation up to your last message, as the chat template makes one text of it, with the "
                "control tokens and the opening of the answer. The table says at which token each message begins. "
                "Look at how little tells your words from the model's."
            ),
            examples=(("/template", N_("the prompt that your last message was answered from")),),
        ),
        Command(
            name="think",
            group=CONVERSATION,
            summary=N_("Let the model think before it answers, or not"),
            run=_think,
            arguments=(
                Argument(
                    "state",
                    N_("on, off or auto"),
                    lambda _context: [
                        ("on", _("ask for it")),
                        ("off", _("close the think block beforehand")),
                        ("auto", _("leave it to the template")),
                    ],
                ),
            ),
            details=N_(
                "Passes `enable_thinking` to the chat template, for the answers from now on. The card shows what that "
                "changes in the prompt: with thinking off many templates write a think block that is empty and closed "
                "already. A template that does not know the switch changes nothing, and the card says so."
            ),
            examples=(
                ("/think on", N_("asks for thinking from the next answer on")),
                ("/think off", N_("answers at once")),
                ("/think", N_("shows what the template does in each case")),
            ),
            present=lambda context: _word(context),
        ),
        Command(
            name="prefill",
            group=CONVERSATION,
            summary=N_("Begin the next answer for the model"),
            run=_prefill,
            arguments=(
                Argument("text", N_("any text, or off"), lambda _context: [("off", _("no beginning"))], rest=True),
            ),
            details=N_(
                "The text stands behind the opening of the answer, and the model goes on from there: it is part of "
                "the next answer, and of that one only. Quotes around it keep spaces at its end. Look at how far the "
                "first words decide what follows."
            ),
            examples=(
                ("/prefill A token is like", N_("the next answer begins so")),
                ("/prefill", N_("shows it")),
                ("/prefill off", N_("removes it")),
            ),
            present=lambda context: repr(context.prefill()) if context.prefill() else _("none"),
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
        if word not in THINKING_STATES:
            raise UsageError(_("/think is on, off or auto, not {word!r}").format(word=word))
        context.set_setting("enable_thinking", THINKING_STATES[word])
        context.notify(_("thinking is {state} from the next answer on").format(state=word))
    if not context.model():
        text = _("Thinking is **{state}**. Whether a model's template can switch it, is seen with one.")
        context.show(text.format(state=_word(context)))
        return
    scene = context.scene()

    def lesson(engine: Engine, _watch: Watch) -> Report:
        from tui_chat.lessons.thinking import thinking

        return thinking(engine, scene)

    context.report(f"/{invocation.name} {word}".rstrip(), lesson)


def _word(context: CommandContext) -> str:
    state = context.get_setting("enable_thinking")
    return next(word for word, value in THINKING_STATES.items() if value is state)


def _prefill(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if not text:
        present = context.prefill()
        begun = _("The next answer begins with:") + f"\n\n{_indented(present)}"
        context.show(begun if present else _("Nothing begins the next answer."))
        return
    context.set_prefill("" if text == "off" else text)
    context.notify(
        _("nothing begins the next answer")
        if text == "off"
        else _("the next answer begins with {text!r}").format(text=shortened(text))
    )


def _indented(text: str) -> str:
    """A text as a block of code: nothing in it is marked up."""
    return "\n".join(f"    {line}" for line in text.split("\n"))
