"""The app: themes, keys, the palette, and the way in (`run_app`) and out."""

from __future__ import annotations

import asyncio
import difflib
import gc
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from tui_chat import paths, startup
from tui_chat.chat.conversation import Conversation
from tui_chat.config import LoadedSettings
from tui_chat.display.figures import size
from tui_chat.errors import TuiChatError, UsageError
from tui_chat.language import _
from tui_chat.lessons.course.progress import Progress
from tui_chat.themes import DEFAULT_THEME, LoadedThemes, load_themes
from tui_chat.ui.archive import STORE_NAME, NoArchive, StoreArchive
from tui_chat.ui.bridge import EngineReported
from tui_chat.ui.commanding import AppCommands
from tui_chat.ui.downloads import Downloader
from tui_chat.ui.garbage import GarbageRota
from tui_chat.ui.history import InputHistory
from tui_chat.ui.keys import binding_ids, clashes, help_rows
from tui_chat.ui.requests import RequestBuilder
from tui_chat.ui.screens.chat import ChatScreen
from tui_chat.ui.screens.help import HelpScreen
from tui_chat.ui.session import Session
from tui_chat.ui.tokenizer_watch import TokenizerWatch
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.turns import NoticeKind

if TYPE_CHECKING:
    from tui_chat.engine.types import EngineEvent, GeneratedToken, Limits
    from tui_chat.ui.news import News
    from tui_chat.ui.widgets.inspector import Inspector

SWITCH_INTERVAL_S = 0.0005
"""How long the screen may keep the interpreter while the engine thread waits for it, instead of Python's 5 ms."""

CLOSE_TIMEOUT_S = 0.2
"""How long quitting waits for the engine thread."""


class TuiChatApp(App[int]):
    """The app around the chat screen.

    Args:
        loaded: The effective settings.
        themes: What there is to choose from.
        make_session: Makes the session, given a function that brings events from any thread to the screen.
        model: What to load, as the user names it; None takes what the settings say.
        history: What was sent before.
        course: How far the user is in the course of lessons.
        find_models: Gives (what to write, what it is) of the models on this machine; runs on a thread of its own.
        note: What the user should know at the start.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tui-chat"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar = []

    def __init__(
        self,
        loaded: LoadedSettings,
        *,
        themes: LoadedThemes,
        make_session: Callable[[Callable[[EngineEvent | News], None]], Session],
        model: str | None = None,
        history: InputHistory | None = None,
        course: Progress | None = None,
        find_models: Callable[[], tuple[tuple[str, str], ...]] | None = None,
        note: str | None = None,
    ) -> None:
        self._find_models = find_models
        self._themes = themes
        super().__init__()
        for theme in themes.themes.values():
            self.register_theme(theme.to_textual())
        self.closed_cleanly = True
        """False if the engine thread did not end in time."""
        self.educational = loaded.settings.ui.educational
        """Whether each answer is followed by a log of how it came about."""
        self.course = course or Progress()
        """How far the user is in the course of lessons."""
        self._settings = loaded.settings
        self._model = model
        self._history = history or InputHistory(None)
        self._session = make_session(self._report)
        self._commands = AppCommands(self)
        self._garbage = GarbageRota()
        self._chat: ChatScreen | None = None
        self._known_models: tuple[tuple[str, str], ...] = (("builtin", _("the model inside the package")),)
        self._note = note
        self._problems: list[str] = [str(error) for error in themes.failures]
        self.theme = self._chosen_theme()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Gives our own variables to themes that lack them."""
        theme = self._themes.choose(DEFAULT_THEME)
        return theme.variables() if theme is not None else {}

    def get_default_screen(self) -> Screen[None]:
        """Gives the chat screen."""
        commands = self._commands
        self._chat = ChatScreen(
            self._session,
            history=self._history,
            complete=commands.complete,
            execute=commands.execute,
            take_report=commands.take_report,
        )
        return self._chat

    # Life

    def on_ready(self) -> None:
        """Marks the first frame and lets the model load; nothing heavy happened until now."""
        startup.mark("first_frame")
        self.chat.call_after_refresh(self._first_frame)

    def _first_frame(self) -> None:
        self._garbage.begin()
        self.set_interval(1, self._collect_garbage)
        self._apply_keys()
        self.run_worker(self._begin(), exit_on_error=True)

    async def _begin(self) -> None:
        try:
            self._history.read()
            self._session.start(self._model)
        except Exception as error:  # nothing that the disk or a path does may keep the app from opening
            self._problems.append(str(error) if isinstance(error, TuiChatError) else repr(error))
        for problem in self._problems:
            await self.chat.show_notice(problem, NoticeKind.PROBLEM)
        self._problems.clear()
        if self._note is not None:
            await self.chat.show_notice(self._note)
        self.chat.refresh_status()
        # A daemon of its own, because a slow disk must not hold up the way out.
        threading.Thread(target=self._look_for_models, name="tui-chat-models", daemon=True).start()

    def _look_for_models(self) -> None:
        if self._find_models is None:
            return
        # Without the list, models can still be named.
        with suppress(Exception):
            self._known_models = self._find_models()

    def _collect_garbage(self) -> None:
        session = self._session
        typed = [composer.text for composer in self.chat.query(Composer)]  # none while the screen is taken down
        state = (typed, session.conversation.id, len(session.conversation), tuple(self.screen_stack))
        self._garbage.look(state, time.monotonic(), busy=session.answering or session.loading is not None)

    def on_unmount(self) -> None:
        self._garbage.end()

    def on_chat_screen_model_ready(self) -> None:
        startup.mark("model_ready")
        # Needed with the first answer, and too long to be imported between two keys.
        self.run_worker(asyncio.to_thread(importlib.import_module, "tui_chat.ui.widgets.calm_markdown"))

    def on_answering_screen_answered(self) -> None:
        if self.educational:
            self._commands.log_answer()
        self._commands.learning.answered()

    def on_inspector_selected(self, message: Inspector.Selected) -> None:
        self._commands.learning.token_selected(message.token)

    def on_inspector_asked(self, message: Inspector.Asked) -> None:
        self._command(f"/why {message.figure}")()

    @property
    def chat(self) -> ChatScreen:
        """The chat screen."""
        assert self._chat is not None
        return self._chat

    @property
    def session(self) -> Session:
        """What the screen shows."""
        return self._session

    @property
    def known_models(self) -> Sequence[tuple[str, str]]:
        """(what to write, what it is) of the models on this machine, as far as they are known."""
        return self._known_models

    def _report(self, event: EngineEvent | News) -> None:
        if self._chat is not None:
            self._chat.post_message(EngineReported(event))

    # Themes and keys

    def set_theme(self, name: str) -> None:
        """Switches to a theme.

        Raises:
            UsageError: There is none of that name.
        """
        if self._themes.choose(name) is None:
            raise UsageError(f"no theme is called {name}: choose from {', '.join(self._themes.themes)}")
        self.theme = name

    @property
    def theme_names(self) -> tuple[str, ...]:
        """The themes there are."""
        return tuple(self._themes.themes)

    def _chosen_theme(self) -> str:
        wanted = self._settings.ui.theme
        if self._themes.choose(wanted) is not None:
            return wanted
        known = tuple(self._themes.themes)
        self._problems.append(f"no theme is called {wanted}: choose from {', '.join(known)} in ui.theme")
        return DEFAULT_THEME if DEFAULT_THEME in known else (known[0] if known else "textual-dark")

    def _apply_keys(self) -> None:
        keys = self._settings.ui.keys
        if not keys:
            return
        known = binding_ids()
        unknown = [name for name in keys if name not in known]
        if unknown:
            near = ", ".join(difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.4)) or ", ".join(
                list(known)[:4]
            )
            self._problems.append(f"ui.keys names no binding {unknown[0]!r}: the nearest are {near}; F1 lists all")
        for problem in clashes({name: keys.get(name, default) for name, default in known.items()}, set(keys)):
            self._problems.append(problem)
        self.set_keymap({name: value for name, value in keys.items() if name in known})

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        """Does nothing: clashes of the settings were reported when the app began."""

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Gives what the command palette offers."""
        chat = self.chat
        yield SystemCommand("New conversation", "Begin afresh; the system text stays", self._command("/new"))
        yield SystemCommand("Retry", "Answer the last message again", self._command("/retry"))
        yield SystemCommand("Stop", "Stop the answer or the load under way", chat.action_stop)
        yield SystemCommand("Fold thinking", "Show or hide what the model thought", chat.action_fold)
        yield SystemCommand("Trainings", "Watch a model learn, and talk to it", self._command("/train"))
        yield SystemCommand("Built-in model", "Switch to the model inside the package", self._command("/model builtin"))
        for name, theme in self._themes.themes.items():
            yield SystemCommand(f"Theme: {name}", theme.summary, partial(self.set_theme, name))
        yield SystemCommand("Help", "Keys and commands", self.action_help)
        yield SystemCommand("Quit", "Leave at once", self.action_quit)

    def _command(self, line: str) -> Callable[[], None]:
        def run() -> None:
            try:
                self._commands.execute(line)
            except TuiChatError as error:
                self.chat.say(str(error))

        return run

    # Ways out

    def _fatal_error(self) -> None:
        """Leaves after an exception nobody caught; `run_app` raises it once the terminal is itself again."""
        self._close_messages_no_wait()

    async def action_help(self) -> None:
        """Shows or hides the help."""
        if isinstance(self.screen, HelpScreen):
            self.pop_screen()
        else:
            self.push_screen(HelpScreen(help_rows(self)))

    async def action_quit(self) -> None:
        """Leaves at once, whatever is under way."""
        self.closed_cleanly = self._session.close(CLOSE_TIMEOUT_S)
        self.exit(0)


def make_app(
    loaded: LoadedSettings,
    *,
    model: str | None = None,
    conversation: Conversation | None = None,
    tokens_of: Mapping[str, Sequence[GeneratedToken]] | None = None,
    note: str | None = None,
    limit: Callable[[Limits], Limits] = lambda limits: limits,
    remember: bool = True,
) -> TuiChatApp:
    """Puts the app together with the real engine.

    Args:
        loaded: The effective settings.
        model: What to load, as the user names it; None takes what the settings say.
        conversation: One to go on with.
        tokens_of: The tokens of its answers, as far as they are known.
        note: What the user should know at the start.
        limit: Has the last word on when an answer ends.
        remember: Keep conversations and what was sent on disk.
    """
    settings = loaded.settings
    tokenizer = settings.tokenizer
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def make_session(report: Callable[[EngineEvent | News], None]) -> Session:
        from tui_chat.engine.worker import EngineWorker

        build_request = RequestBuilder(settings.tokenizer.chat_template, report, limit=limit)
        return Session(
            settings,
            EngineWorker(report),
            build_request=build_request,
            left_out=build_request.left_out,
            archive=StoreArchive(paths.data_dir() / STORE_NAME, report) if remember else NoArchive(),
            downloads=Downloader(report),
            report=report,
            conversation=conversation,
            tokens_of=tokens_of,
            check_tokenizer=TokenizerWatch(tokenizer.repo, tokenizer.file, report)
            if tokenizer.repo and tokenizer.file
            else None,
        )

    return TuiChatApp(
        loaded,
        themes=load_themes(paths.config_dir() / "themes"),
        make_session=make_session,
        model=model,
        history=InputHistory(paths.data_dir() / "history.jsonl" if remember else None),
        course=Progress.at_home() if remember else Progress(),
        find_models=_find_models,
        note=note,
    )


def _find_models() -> tuple[tuple[str, str], ...]:
    from tui_chat.models.local import local_models

    found = local_models(paths.data_dir())
    return tuple((model.spec, f"{size(model.size_bytes)} · {model.origin}") for model in found)


def run_app(
    loaded: LoadedSettings,
    *,
    model: str | None = None,
    conversation: Conversation | None = None,
    tokens_of: Mapping[str, Sequence[GeneratedToken]] | None = None,
    note: str | None = None,
) -> int:
    """Runs the app until the user quits.

    Args:
        loaded: The effective settings.
        model: What to load, as the user names it; None takes what the settings say.
        conversation: One to go on with.
        tokens_of: The tokens of its answers, as far as they are known.
        note: What the user should know at the start.

    Returns:
        The exit status of the process.
    """
    # A collection before the first frame finds next to nothing and costs a twentieth of the time to it.
    gc.disable()
    app = make_app(loaded, model=model, conversation=conversation, tokens_of=tokens_of, note=note)
    code = app.run() or 0
    if app._exception is not None:
        raise app._exception
    if not app.closed_cleanly:
        # The engine's thread is inside llama.cpp and cannot be joined: unloading under it would crash.
        sys.stdout.flush()
        os._exit(code)
    return code
