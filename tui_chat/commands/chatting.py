"""The commands about the conversation, the model and the program: `/new`, `/model`, `/theme`, `/help`, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tui_chat.commands.educational import commands as educational_commands
from tui_chat.commands.every_setting import commands as every_setting_commands
from tui_chat.commands.explain import commands as explain_commands
from tui_chat.commands.fuzzy import nearest
from tui_chat.commands.haiku import commands as haiku_commands
from tui_chat.commands.help import help_command
from tui_chat.commands.inside import commands as inside_commands
from tui_chat.commands.learn import commands as learn_commands
from tui_chat.commands.lessons import commands as lesson_commands
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.perplexity import commands as perplexity_commands
from tui_chat.commands.prompting import commands as prompting_commands
from tui_chat.commands.registry import Argument, Command, CommandContext, Registry
from tui_chat.commands.settings import commands as settings_commands
from tui_chat.commands.settings import show_setting
from tui_chat.commands.stats import commands as stats_commands
from tui_chat.commands.tokens import commands as tokens_commands
from tui_chat.commands.training import commands as training_commands
from tui_chat.commands.why import commands as why_commands
from tui_chat.errors import UsageError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def default_registry() -> Registry:
    """All commands there are."""
    registry: Registry

    def lookup() -> Registry:
        return registry

    registry = Registry(
        (
            *_conversation(),
            *settings_commands(),
            *every_setting_commands(),
            *learn_commands(),
            *tokens_commands(),
            *lesson_commands(),
            *prompting_commands(),
            *haiku_commands(),
            *explain_commands(),
            *stats_commands(),
            *inside_commands(),
            *perplexity_commands(),
            *why_commands(),
            *educational_commands(),
            *training_commands(),
            *_program(lookup),
        )
    )
    return registry


def _conversation() -> tuple[Command, ...]:
    return (
        Command(
            name="new",
            aliases=("clear",),
            group="Conversation",
            summary="Begin a new conversation",
            run=lambda context, _: context.new_conversation(),
            details="The present conversation stays stored.",
            examples=(("/new", "begins with an empty context"),),
        ),
        Command(
            name="retry",
            aliases=("regenerate",),
            group="Conversation",
            summary="Answer the last message once more",
            run=lambda context, _: context.retry(),
            details="The new answer stands beside the old one, which stays. With a fixed seed and the same settings it "
            "comes out the same.",
            examples=(("/retry", "draws another answer"),),
        ),
        Command(
            name="stop",
            group="Conversation",
            summary="Stop the answer, or set the texts that end one",
            run=_stop,
            arguments=(Argument("texts", "stop strings, or off", lambda _: [("off", "no stop strings")]),),
            details="Without an argument it stops the answer under way. With texts, an answer ends where one of them "
            "comes; it is not shown.",
            examples=(
                ("/stop", "stops the answer under way"),
                ('/stop "###" END', "ends answers at either text"),
                ("/stop off", "removes all stop strings"),
            ),
            present=lambda context: _listed(_stops(context)),
        ),
        Command(
            name="system",
            group="Conversation",
            summary="Set the text that tells the model how to behave",
            run=_system,
            arguments=(Argument("text", "any text, or off", lambda _: [("off", "no system text")], rest=True),),
            details="It stands before the first message. Changing it begins a branch with the same messages; the old "
            "one stays.",
            examples=(
                ("/system You're a pirate. Don't break character.", "sets it; quotes are not needed"),
                ("/system off", "removes it"),
                ("/system", "shows it"),
            ),
            present=lambda context: _shortened(context.system() or "none"),
        ),
    )


def _program(registry: Callable[[], Registry]) -> tuple[Command, ...]:
    return (
        Command(
            name="model",
            group="Program",
            summary="Load another model; the conversation stays",
            run=_model,
            arguments=(
                Argument(
                    "model",
                    "builtin, a path, a training, or owner/name:file.gguf",
                    lambda context: context.models(),
                    rest=True,
                ),
            ),
            details="A path to a .gguf file, a file of a repository on the Hub, or `builtin`. What is not on this "
            "machine yet is fetched.",
            examples=(
                ("/model builtin", "loads the model inside the program"),
                ("/model ~/models/qwen3-0.6b-q8_0.gguf", "loads a file"),
                ("/model", "lists the models on this machine"),
            ),
            present=lambda context: context.model(),
        ),
        Command(
            name="theme",
            group="Program",
            summary="Change the colours",
            run=_theme,
            arguments=(Argument("name", "a theme", lambda context: [(name, "") for name in context.themes()]),),
            examples=(("/theme", "lists the themes"),),
            present=lambda context: context.theme(),
        ),
        help_command(registry),
        Command(
            name="quit",
            aliases=("exit",),
            group="Program",
            summary="Leave the program",
            run=lambda context, _: context.quit(),
            examples=(("/quit", "leaves at once; the conversation is stored"),),
        ),
    )


def _stops(context: CommandContext) -> tuple[str, ...]:
    stops = context.get_setting("stop")
    return tuple(str(stop) for stop in stops) if isinstance(stops, Iterable) and not isinstance(stops, str) else ()


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(repr(text) for text in texts) or "none"


def _stop(context: CommandContext, invocation: Invocation) -> None:
    words = invocation.words()
    if not words:
        if context.is_answering():
            context.stop()
        else:
            text = f"No answer is under way. Stop strings: **{_listed(_stops(context))}**."
            if _stops(context):
                show_setting(context, invocation, "stop", text)
            else:
                context.show(text)
        return
    texts = () if words == ("off",) else tuple(dict.fromkeys(word for word in words if word))
    context.set_setting("stop", texts)
    context.notify(f"stop strings: {_listed(texts)}")


def _system(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if not text:
        present, scene = context.system(), context.scene()
        if present and context.model() and scene.unanswered().messages:

            def lesson(engine: Engine, watch: Watch) -> Report:
                from tui_chat.lessons.system_text import system_text

                return system_text(engine, watch, scene)

            context.report(f"/{invocation.name}", lesson)
            return
        context.show(f"The system text is:\n\n{_quoted(present)}" if present else "There is no system text.")
        return
    context.set_system(None if text == "off" else text)
    context.notify("the system text is gone" if text == "off" else "the system text is set")


def _model(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if text:
        context.switch_model(text)
        return
    rows = "\n".join(f"| `/model {name}` | {detail} |" for name, detail in context.models())
    loaded = f"Loaded: **{context.model()}**." if context.model() else "No model is loaded."
    context.show(f"{loaded}\n\n| write | model |\n|---|---|\n{rows}" if rows else loaded)


def _theme(context: CommandContext, invocation: Invocation) -> None:
    name = invocation.text()
    themes = list(context.themes())
    if not name:
        listed = "\n".join(f"- `{theme}`" + (" (now)" if theme == context.theme() else "") for theme in themes)
        context.show(f"Themes:\n\n{listed}")
        return
    by_fold = {theme.casefold(): theme for theme in themes}
    if name.casefold() not in by_fold:
        near = nearest(name, themes)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(themes)}"
        raise UsageError(f"there is no theme {name}: {hint}")
    context.set_theme(by_fold[name.casefold()])


def _shortened(text: str, width: int = 40) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())
