"""Slash commands as values: their names, what they take, how they explain themselves, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tui_chat.commands.fuzzy import did_you_mean, nearest
from tui_chat.commands.parsing import Invocation, parse_command
from tui_chat.errors import UsageError
from tui_chat.language import _

if TYPE_CHECKING:
    from tui_chat.chat.trace_file import AnswerTrace
    from tui_chat.engine.breakpoints import Breakpoint
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.answers import AnswerFigures
    from tui_chat.lessons.compare import Comparison
    from tui_chat.lessons.course.progress import Progress
    from tui_chat.lessons.inspected import Inspected
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.scene import Scene
    from tui_chat.lessons.watch import Watch

Lesson = Callable[["Engine", "Watch"], "Report"]
"""A demonstration with its arguments filled in; it runs on the engine thread."""


class CommandContext(Protocol):
    """What a command may ask of the app and tell it. Everything is called on the app's own thread."""

    def get_sampling(self, name: str) -> int | float | None:
        """A sampling setting by its field name; None for a seed that is fresh for each answer."""

    def default_sampling(self, name: str) -> int | float | None:
        """The value a sampling setting had when the program started."""

    def set_sampling(self, name: str, value: int | float | None) -> None:
        """Change a sampling setting from the next token on."""

    def get_setting(self, name: str) -> object:
        """Any setting of `inference` by its field name (`max_tokens` for `max_length`)."""

    def default_setting(self, name: str) -> object:
        """The value any setting had when the program started."""

    def set_setting(self, name: str, value: object) -> None:
        """Change any setting, sampling from the next token on, the rest from the next answer on."""

    def set_settings(self, values: Mapping[str, object]) -> None:
        """Change several settings together, by the names of `set_setting`; they are taken back together too."""

    def undoable(self) -> Sequence[str]:
        """The settings in the last change that can be taken back; empty where there is none."""

    def step_settings(self, direction: int) -> Sequence[str]:
        """Take the last change of settings back (-1), or bring it again (1); the settings in it."""

    def prefill(self) -> str:
        """What the next answer is to begin with; "" for nothing."""

    def set_prefill(self, text: str) -> None:
        """Let the next answer begin with a text, or with nothing."""

    def system(self) -> str | None:
        """The system text of the conversation."""

    def set_system(self, text: str | None) -> None:
        """Give the conversation another system text, or none."""

    def new_conversation(self) -> None:
        """Begin an empty conversation; the present one stays stored."""

    def model(self) -> str:
        """What the loaded model is called; "" while there is none."""

    def models(self) -> Sequence[tuple[str, str]]:
        """(what to write after /model, what it is) for each model known on this machine."""

    def switch_model(self, spec: str) -> None:
        """Load another model; the conversation stays. Raises `ModelNotFoundError` where the text means nothing."""

    def trainings(self) -> Sequence[str]:
        """Names of the trainings on this machine."""

    def show_trainings(self, name: str | None) -> None:
        """Show the trainings, that of this name or path first. Raises `UsageError` where there is none of it."""

    def theme(self) -> str:
        """Name of the present theme."""

    def themes(self) -> Sequence[str]:
        """Names of all themes."""

    def set_theme(self, name: str) -> None:
        """Change the theme."""

    def is_answering(self) -> bool:
        """Whether an answer is under way."""

    def stop(self) -> None:
        """Stop the answer under way."""

    def retry(self) -> None:
        """Answer the last message once more, beside the answer there is."""

    def fork(self, index: int | None, text: str, *, goes_on: bool) -> None:
        """Put a text in place of a token of the answer on show (counted from 0; None is the selected one, else the end)
        and of all behind it, as a sibling; let the model go on there, or not. Raises `UsageError` without an answer."""

    def stepping(self) -> bool:
        """Whether answers wait before each token."""

    def set_stepping(self, on: bool) -> None:
        """Let answers wait before each token, one under way too, or no longer."""

    def breakpoints(self) -> Sequence[Breakpoint]:
        """Where a run stops by itself."""

    def set_breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        """Let runs stop at these, and no others."""

    def quit(self) -> None:
        """Leave the program."""

    def notify(self, text: str) -> None:
        """Say one short thing that passes."""

    def report(self, title: str, lesson: Lesson) -> None:
        """Run a demonstration on the loaded model and show its report in a card. Raises `EngineError` without one."""

    def show_report(self, title: str, report: Report) -> None:
        """Show a report that needed no model in a card, at once."""

    def make_report(self, title: str, make: Callable[[], Report]) -> None:
        """Make a report that needs no model on a thread of its own, and show it in a card."""

    def compare(self, title: str, comparison: Comparison) -> None:
        """Run a comparison in a card from which one of its lanes can be kept. Raises `EngineError` without a model."""

    def answer_trace(self) -> Callable[[], AnswerTrace]:
        """What makes the trace of the answer on show; it reads files. Raises `TraceError` where there is none."""

    def scene(self) -> Scene:
        """The conversation as it stands and the settings it would be answered with."""

    def answers(self) -> Sequence[AnswerFigures]:
        """The figures of this conversation's answers that have ended, as far as they are at hand."""

    def educational(self) -> bool:
        """Whether each answer is followed by a log of how it came about."""

    def set_educational(self, on: bool) -> None:
        """Follow each answer by such a log from now on, or no longer."""

    def course(self) -> Progress:
        """How far the user is in the course of lessons."""

    def inspected(self) -> Inspected:
        """The token selected in the inspector, else the most surprising one, and what is known of its answer."""

    def view(self) -> str:
        """The view of the messages, in words."""

    def set_view(self, tokens: bool | None, measure: str | None) -> None:
        """Show the tokens or the text, None the other of the two; and what tokens are tinted by, None as before."""

    def show(self, markdown: str) -> None:
        """Put a card into the transcript; the model does not see it."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command."""

    name: str
    hint: str
    """What to write, in a few words."""
    values: Callable[[CommandContext], Sequence[tuple[str, str]]] | None = None
    """(value, what it is) to complete with."""
    optional: bool = True
    present: Callable[[CommandContext, Sequence[str]], str] | None = None
    """The value it would change, from the words before it; None leaves that to the command."""
    rest: bool = False
    """Takes the rest of the line as it is, spaces and apostrophes and all."""
    parts: Callable[[CommandContext], Sequence[tuple[str, str]]] | None = None
    """(part, what it is), where it may also be a list with commas; each part is offered once."""

    def __str__(self) -> str:
        return f"[{self.name}]" if self.optional else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One slash command."""

    name: str
    """Without the slash."""
    group: str
    """The heading it stands under in the help."""
    summary: str
    """One line, beginning with a verb."""
    run: Callable[[CommandContext, Invocation], None]
    aliases: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    details: str = ""
    """Markdown: what it does and what to look at."""
    examples: tuple[tuple[str, str], ...] = ()
    """(line to type, what it does)."""
    present: Callable[[CommandContext], str] | None = None
    """The value it would change, as text."""

    @property
    def syntax(self) -> str:
        """How to write it."""
        return " ".join([f"/{self.name}", *map(str, self.arguments)])


class Registry:
    """All commands of the app, in the order the help shows them: those of a group together.

    Args:
        commands: In order, their groups too. Names and aliases must be unique.
    """

    def __init__(self, commands: Iterable[Command]) -> None:
        given = tuple(commands)
        groups = list(dict.fromkeys(command.group for command in given))
        self.commands = tuple(sorted(given, key=lambda command: groups.index(command.group)))
        self._by_name: Mapping[str, Command] = {
            name: command for command in self.commands for name in (command.name, *command.aliases)
        }
        if len(self._by_name) != sum(1 + len(command.aliases) for command in self.commands):
            raise ValueError("two commands share a name")

    def __iter__(self) -> Iterator[Command]:
        return iter(self.commands)

    def find(self, name: str) -> Command:
        """The command with this name or alias, with or without its slash.

        Raises:
            UsageError: There is none; names the nearest.
        """
        name = name.removeprefix("/").lower()
        command = self._by_name.get(name)
        if command is None:
            near = [f"/{other}" for other in nearest(name, self._by_name)]
            hint = did_you_mean(near) if near else _("/help lists all commands")
            raise UsageError(_("there is no command {name}: {hint}").format(name=f"/{name}", hint=hint))
        return command

    def execute(self, line: str, context: CommandContext) -> bool:
        """Run the command in `line`; False where the line is a message.

        Raises:
            UsageError: No such command, or wrong arguments; the text says what to write.
            TuiChatError: What the command itself ran into.
        """
        invocation = parse_command(line)
        if invocation is None:
            return False
        command = self.find(invocation.name)
        if invocation.rest and not command.arguments:
            text = _("{command} takes no argument, so {rest!r} is one too many")
            raise UsageError(text.format(command=f"/{command.name}", rest=invocation.rest))
        command.run(context, Invocation(command.name, invocation.rest))
        return True
