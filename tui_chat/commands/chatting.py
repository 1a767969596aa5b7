"""The commands about the conversation, the model and the program: `/new`, `/model`, `/theme`, `/help`, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tui_chat.commands.compare import commands as compare_commands
from tui_chat.commands.constraints import commands as constraints_commands
from tui_chat.commands.educational import commands as educational_commands
from tui_chat.commands.every_setting import commands as every_setting_commands
from tui_chat.commands.explain import commands as explain_commands
from tui_chat.commands.fuzzy import did_you_mean, nearest
from tui_chat.commands.groups import CONVERSATION, PROGRAM
from tui_chat.commands.haiku import commands as haiku_commands
from tui_chat.commands.help import help_command
from tui_chat.commands.inside import commands as inside_commands
from tui_chat.commands.learn import commands as learn_commands
from tui_chat.commands.logits import commands as logits_commands
from tui_chat.commands.order import commands as order_commands
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.perplexity import commands as perplexity_commands
from tui_chat.commands.presets import commands as presets_commands
from tui_chat.commands.prompting import commands as prompting_commands
from tui_chat.commands.registry import Argument, Command, CommandContext, Registry
from tui_chat.commands.settings import commands as settings_commands
from tui_chat.commands.settings import show_setting
from tui_chat.commands.stats import commands as stats_commands
from tui_chat.commands.steering import commands as steering_commands
from tui_chat.commands.stepping import commands as stepping_commands
from tui_chat.commands.tokens import commands as tokens_commands
from tui_chat.commands.traces import commands as traces_commands
from tui_chat.commands.training import commands as training_commands
from tui_chat.commands.view import commands as view_commands
from tui_chat.commands.why import commands as why_commands
from tui_chat.display.text import shortened
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

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
            *steering_commands(),
            *settings_commands(),
            *order_commands(),
            *constraints_commands(),
            *every_setting_commands(),
            *presets_commands(),
            *learn_commands(),
            *tokens_commands(),
            *view_commands(),
            *logits_commands(),
            *prompting_commands(),
            *haiku_commands(),
            *compare_commands(),
            *explain_commands(),
            *stats_commands(),
            *inside_commands(),
            *perplexity_commands(),
            *why_commands(),
            *stepping_commands(),
            *traces_commands(),
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
            group=CONVERSATION,
            summary=N_("Begin a new conversation"),
            run=lambda context, _invocation: context.new_conversation(),
            details=N_("The present conversation stays stored."),
            examples=(("/new", N_("begins with an empty context")),),
        ),
        Command(
            name="retry",
            aliases=("regenerate",),
            group=CONVERSATION,
            summary=N_("Answer the last message once more"),
            run=lambda context, _invocation: context.retry(),
            details=N_(
                "The new answer stands beside the old one, which stays. With a fixed seed and the same settings it "
                "comes out the same."
            ),
            examples=(("/retry", N_("draws another answer")),),
        ),
        Command(
            name="stop",
            group=CONVERSATION,
            summary=N_("Stop the answer, or set the texts that end one"),
            run=_stop,
            arguments=(
                Argument("texts", N_("stop strings, or off"), lambda _context: [("off", _("no stop strings"))]),
            ),
            details=N_(
                "Without an argument it stops the answer under way. With texts, an answer ends where one of them "
                "comes; it is not shown."
            ),
            examples=(
                ("/stop", N_("stops the answer under way")),
                ('/stop "###" END', N_("ends answers at either text")),
                ("/stop off", N_("removes all stop strings")),
            ),
            present=lambda context: _listed(_stops(context)),
        ),
        Command(
            name="system",
            group=CONVERSATION,
            summary=N_("Set the text that tells the model how to behave"),
            run=_system,
            arguments=(
                Argument("text", N_("any text, or off"), lambda _context: [("off", _("no system text"))], rest=True),
            ),
            details=N_(
                "It stands before the first message. Changing it begins a branch with the same messages; the old "
                "one stays."
            ),
            examples=(
                ("/system You're a pirate. Don't break character.", N_("sets it; quotes are not needed")),
                ("/system off", N_("removes it")),
                ("/system", N_("shows it")),
            ),
            present=lambda context: shortened(" ".join((context.system() or _("none")).split())),
        ),
    )


def _program(registry: Callable[[], Registry]) -> tuple[Command, ...]:
    return (
        Command(
            name="model",
            group=PROGRAM,
            summary=N_("Load another model; the conversation stays"),
            run=_model,
            arguments=(
                Argument(
                    "model",
                    N_("builtin, a path, a training, or owner/name:file.gguf"),
                    lambda context: context.models(),
                    rest=True,
                ),
            ),
            details=N_(
                "A path to a .gguf file, a file of a repository on the Hub, or `builtin`. What is not on this "
                "machine yet is fetched."
            ),
            examples=(
                ("/model builtin", N_("loads the model inside the program")),
                ("/model ~/models/qwen3-0.6b-q8_0.gguf", N_("loads a file")),
                ("/model", N_("lists the models on this machine")),
            ),
            present=lambda context: context.model(),
        ),
        Command(
            name="theme",
            group=PROGRAM,
            summary=N_("Change the colours"),
            run=_theme,
            arguments=(Argument("name", N_("a theme"), lambda context: [(name, "") for name in context.themes()]),),
            examples=(("/theme", N_("lists the themes")),),
            present=lambda context: context.theme(),
        ),
        help_command(registry),
        Command(
            name="quit",
            aliases=("exit",),
            group=PROGRAM,
            summary=N_("Leave the program"),
            run=lambda context, _invocation: context.quit(),
            examples=(("/quit", N_("leaves at once; the conversation is stored")),),
        ),
    )


def _stops(context: CommandContext) -> tuple[str, ...]:
    stops = context.get_setting("stop")
    return tuple(str(stop) for stop in stops) if isinstance(stops, Iterable) and not isinstance(stops, str) else ()


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(repr(text) for text in texts) or _("none")


def _stop(context: CommandContext, invocation: Invocation) -> None:
    words = invocation.words()
    if not words:
        if context.is_answering():
            context.stop()
        else:
            text = _("No answer is under way. Stop strings: **{stops}**.").format(stops=_listed(_stops(context)))
            if _stops(context):
                show_setting(context, invocation, "stop", text)
            else:
                context.show(text)
        return
    texts = () if words == ("off",) else tuple(dict.fromkeys(word for word in words if word))
    context.set_setting("stop", texts)
    context.notify(_("stop strings: {stops}").format(stops=_listed(texts)))


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
        said = _("The system text is:") + f"\n\n{_quoted(present)}" if present else _("There is no system text.")
        context.show(said)
        return
    context.set_system(None if text == "off" else text)
    context.notify(_("the system text is gone") if text == "off" else _("the system text is set"))


def _model(context: CommandContext, invocation: Invocation) -> None:
    text = invocation.text()
    if text:
        context.switch_model(text)
        return
    rows = "\n".join(f"| `/model {name}` | {detail} |" for name, detail in context.models())
    loaded = _("Loaded: **{model}**.").format(model=context.model()) if context.model() else _("No model is loaded.")
    head = "| {write} | {model} |".format(write=_("write"), model=_("model"))
    context.show(f"{loaded}\n\n{head}\n|---|---|\n{rows}" if rows else loaded)


def _theme(context: CommandContext, invocation: Invocation) -> None:
    name = invocation.text()
    themes = list(context.themes())
    if not name:
        now = _("now")
        listed = "\n".join(f"- `{theme}`" + (f" ({now})" if theme == context.theme() else "") for theme in themes)
        context.show(_("Themes:") + f"\n\n{listed}")
        return
    by_fold = {theme.casefold(): theme for theme in themes}
    if name.casefold() not in by_fold:
        near = nearest(name, themes)
        hint = did_you_mean(near) if near else _("there are {names}").format(names=", ".join(themes))
        raise UsageError(_("there is no theme {name}: {hint}").format(name=name, hint=hint))
    context.set_theme(by_fold[name.casefold()])


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())
