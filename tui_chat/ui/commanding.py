"""Slash commands inside the app: what they may ask of the session, the screen and the app, and completion for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from tui_chat.chat.conversation import Role
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.completion import complete
from tui_chat.errors import EngineError, ModelNotFoundError, TraceError, UsageError
from tui_chat.language import _
from tui_chat.ui.learning import Learning
from tui_chat.ui.reporting import Reporting
from tui_chat.ui.summary import ended_answers, model_line
from tui_chat.ui.tints import Measure
from tui_chat.ui.widgets.completion_menu import Offer, Suggestion
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.turns import NoticeKind

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
    from tui_chat.ui.app import TuiChatApp
    from tui_chat.ui.screens.chat import ChatScreen
    from tui_chat.ui.session import Session
    from tui_chat.ui.widgets.report_card import ReportCard


class AppCommands:
    """The `CommandContext` of the app; the composer completes and carries out lines with it.

    What takes time is handed to the screen, which does it in its turn.
    """

    def __init__(self, app: TuiChatApp) -> None:
        self._app = app
        self._registry = default_registry()
        self._reporting = Reporting(app, lambda title, report: self.learning.report_shown(title, report))
        self.learning = Learning(app, self._reporting.put)
        """What looks for the tasks of the course."""

    def complete(self, line: str) -> Offer:
        """Gives what to offer for a line of the composer."""
        found = complete(line, self._registry, self)
        if found is None:
            return Offer()
        suggestions = []
        for item in found.suggestions:
            matched = tuple(place for start, end in item.spans for place in range(start, end))
            value = _("now {value}").format(value=item.value) if item.value else ""
            suggestions.append(Suggestion(line[: found.start] + item.insert, item.label, matched, item.detail, value))
        return Offer(tuple(suggestions), found.hint, of_name=" " not in line)

    def execute(self, line: str) -> bool:
        """Carries out a command; False where the line is a message.

        Raises:
            TuiChatError: The command does not hold, or what it ran into.
        """
        return self._registry.execute(line, self)

    async def take_report(self, card: ReportCard, what: str) -> None:
        """Copies or saves a report."""
        await self._reporting.take(card, what)

    def log_answer(self) -> None:
        """Shows how the answer that has just ended came about."""
        from tui_chat.lessons.educational import answer_log

        session = self._session
        answer, answers = session.answer, ended_answers(session)
        if session.model is not None and answer is not None and answers:
            report = answer_log(session.model, answer.prompt_ids, answers[-1])
            self._reporting.put(report.title, report, follow=False)

    # CommandContext

    def get_sampling(self, name: str) -> int | float | None:
        return cast("int | float | None", self._session.value(name))

    def default_sampling(self, name: str) -> int | float | None:
        return cast("int | float | None", self._session.setting_default(name))

    def set_sampling(self, name: str, value: int | float | None) -> None:
        self._session.set_value(name, value)
        self._chat.show_settings()

    def get_setting(self, name: str) -> object:
        return self._session.value(name)

    def default_setting(self, name: str) -> object:
        return self._session.setting_default(name)

    def set_setting(self, name: str, value: object) -> None:
        self._session.set_value(name, value)
        self._chat.show_settings()

    def set_settings(self, values: Mapping[str, object]) -> None:
        self._session.set_values(values)
        self._chat.show_settings()

    def undoable(self) -> Sequence[str]:
        return self._session.tuning.undoable

    def step_settings(self, direction: int) -> Sequence[str]:
        names = self._session.step_settings(direction)
        self._chat.show_settings()
        return names

    def prefill(self) -> str:
        return self._session.prefill

    def set_prefill(self, text: str) -> None:
        self._session.prefill = text
        self._chat.show_settings()

    def system(self) -> str | None:
        return self._session.conversation.system

    def set_system(self, text: str | None) -> None:
        if self._session.answering:
            raise UsageError(_("still answering: stop it before you change the system text"))
        self._session.set_system(text)
        self._chat.call_next(self._chat.rebuild)

    def new_conversation(self) -> None:
        self._session.new_conversation()
        self._chat.call_next(self._chat.rebuild)

    def model(self) -> str:
        model = self._session.model
        return "" if model is None else model_line(model)

    def models(self) -> Sequence[tuple[str, str]]:
        return self._app.known_models

    def switch_model(self, spec: str) -> None:
        from tui_chat.models.resolve import parse_spec

        try:
            found = parse_spec(spec)
        except OSError as error:
            raise ModelNotFoundError(f"{spec} cannot be read ({error.strerror}): change its permissions") from error
        self._session.switch_model(found)
        self._chat.refresh_status()

    def trainings(self) -> Sequence[str]:
        from tui_chat.ui.trainings import training_names

        return training_names()

    def show_trainings(self, name: str | None) -> None:
        from tui_chat.ui.training_talk import show_trainings

        show_trainings(self._app, name)

    def theme(self) -> str:
        return self._app.theme

    def themes(self) -> Sequence[str]:
        return self._app.theme_names

    def set_theme(self, name: str) -> None:
        self._app.set_theme(name)

    def is_answering(self) -> bool:
        return self._session.answering

    def stop(self) -> None:
        self._chat.action_stop()

    def retry(self) -> None:
        self._chat.call_next(self._chat.answer_again)

    def fork(self, index: int | None, text: str, *, goes_on: bool) -> None:
        self._chat.fork_at(index, text or (), goes_on=goes_on)

    def stepping(self) -> bool:
        return self._session.stepping.on

    def set_stepping(self, on: bool) -> None:
        self._chat.set_stepping(on)

    def breakpoints(self) -> Sequence[Breakpoint]:
        return self._session.stepping.breakpoints

    def set_breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        self._session.stepping.stop_at(breakpoints)
        self._chat.show_settings()

    def make_report(self, title: str, make: Callable[[], Report]) -> None:
        self._reporting.make(title, make)

    def compare(self, title: str, comparison: Comparison) -> None:
        from tui_chat.ui.widgets.lanes_card import LanesCard

        self._require_model()
        self._reporting.start(title, comparison.run, lambda: LanesCard(title, comparison))

    def answer_trace(self) -> Callable[[], AnswerTrace]:
        from tui_chat.lessons.recording import recorded_message

        session, model = self._session, self._session.model
        shown = self._chat.inspected_id
        last = session.conversation.last(Role.ASSISTANT)
        message = session.conversation[shown] if shown is not None and shown in session.conversation else last
        if message is None or message.role is not Role.ASSISTANT or model is None:
            raise TraceError(_("there is no answer on show: send a message first"))
        if not message.finished:
            raise TraceError(_("the answer is still being written: stop it or let it end first"))
        tokens = tuple(session.tokens_of.get(message.id, ()))
        return lambda: recorded_message(model, message, tokens)

    def quit(self) -> None:
        self._app.call_next(self._app.action_quit)

    def notify(self, text: str) -> None:
        self._chat.say(text)

    def report(self, title: str, lesson: Callable[[Engine, Watch], Report]) -> None:
        self._require_model()
        self._reporting.start(title, lesson)

    def show_report(self, title: str, report: Report) -> None:
        self._reporting.put(title, report)

    def answers(self) -> tuple[AnswerFigures, ...]:
        return ended_answers(self._session)

    def educational(self) -> bool:
        return self._app.educational

    def set_educational(self, on: bool) -> None:
        self._app.educational = on

    def scene(self) -> Scene:
        from tui_chat.lessons.scene import Scene

        session = self._session
        inference = session.inference
        # A demonstration draws with a seed of its own where none is fixed, the same each time.
        return Scene(
            messages=session.conversation.path,
            params=inference.model_copy(update={"ban": (), "logit_bias": ()}).sampling_params(inference.seed or 0),
            biased=inference,
            limits=inference.limits(),
            configured_template=session.settings.tokenizer.chat_template,
            enable_thinking=inference.enable_thinking,
            prefill=session.prefill,
            left_out=session.left_out,
        )

    def course(self) -> Progress:
        return self._app.course

    def inspected(self) -> Inspected:
        from tui_chat.lessons.inspected import Inspected
        from tui_chat.ui.written import settings_of

        session, shown, told = self._session, self._chat.inspected_id, self._chat.told
        answer, conversation = session.answer, session.conversation
        inspector = self._chat.query_one(Inspector)
        if (prompt := self._chat.prompt_tokens) is not None:
            return Inspected.of_prompt(prompt, inspector.selected, session.model, session.piece_of)
        message = conversation.last(Role.ASSISTANT)
        if shown is not None and shown in conversation:
            message = conversation[shown]
        if message is None:
            return Inspected(model=session.model)
        prompt_ids = message.prompt_ids
        if answer is not None and answer.message_id == message.id:
            prompt_ids = answer.prompt_ids[: answer.n_prompt]
        if (given := told.given(message.id)) is not None:
            prompt_ids = given.ids[: given.start]
        tokens = told.tokens(message)
        return Inspected.of(
            message,
            tokens,
            inspector.selected if message.id == shown else None,
            prompt_ids=prompt_ids,
            model=session.model,
            piece_of=session.piece_of,
            ran=settings_of(session, message, len(tokens)) if message.role is Role.ASSISTANT else None,
        )

    def view(self) -> str:
        return self._chat.view

    def set_view(self, tokens: bool | None, measure: str | None) -> None:
        self._chat.call_next(self._chat.set_view, tokens, None if measure is None else Measure(measure))

    def show(self, markdown: str) -> None:
        self._chat.call_next(self._chat.show_notice, markdown, NoticeKind.REPORT)

    def _require_model(self) -> None:
        if self._session.model is None:
            raise EngineError(_("no model is loaded yet: the demonstrations need one"))

    @property
    def _chat(self) -> ChatScreen:
        return self._app.chat

    @property
    def _session(self) -> Session:
        return self._app.session
