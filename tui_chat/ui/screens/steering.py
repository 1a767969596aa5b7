"""Going on otherwise, on the chat screen: forks, tokens put in by hand, steps, and the lane of a comparison kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import on

from tui_chat.chat.conversation import Message, Role
from tui_chat.errors import TuiChatError, UsageError
from tui_chat.language import _
from tui_chat.ui.forking import said_at
from tui_chat.ui.screens.answering import AnsweringScreen
from tui_chat.ui.summary import answer_footer
from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.lanes_card import LanesCard
from tui_chat.ui.widgets.steering import CandidateBanned, CandidateChosen
from tui_chat.ui.widgets.step_panel import StepPanel
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from tui_chat.engine.stepping import StepControl


class SteeringScreen(AnsweringScreen):
    """Lets a person decide what the model goes on from."""

    # What commands ask for

    def fork_at(self, index: int | None, forced: Sequence[int] | str, *, goes_on: bool) -> None:
        """Goes on from the answer on show with something put in, in the screen's turn; one that waits, waits again.

        Args:
            index: Which token gives way, from 0; None is the selected one, else the end.
            forced: What takes its place.
            goes_on: Let the model go on behind that.

        Raises:
            UsageError: There is no answer, or it has not that many tokens.
        """
        message_id, place = self._place(index)
        waits = self._waits and message_id == self._answer_id
        self.call_next(partial(self._fork, message_id, place, forced, goes_on=goes_on or waits))

    def set_stepping(self, on: bool) -> None:
        """Turns step mode on or off, for the answer under way too."""
        self._session.stepping.turn(on=on)
        self._show_steps()
        self._say()

    async def rebuild(self) -> None:
        """Shows the conversation anew; what waited in another one does no more."""
        await super().rebuild()
        self._show_steps()

    # Messages of the widgets

    @on(CandidateChosen)
    async def _candidate_chosen(self, event: CandidateChosen) -> None:
        event.stop()
        answer, inspector = self._session.answer, self.query_one(Inspector)
        coming = event.widget is self.query_one(StepPanel)
        index = inspector.current if event.index is None else event.index
        if answer is not None and self._waits:
            coming |= self.inspected_id == answer.message_id and index == len(answer.tokens)
            if coming:
                pending = answer.pending
                drawn = pending is not None and pending.token.id == event.token
                self._decide(lambda control: control.draw() if drawn else control.pick(event.token))
                return
        if index is not None and await self._say_again(index, event.token, answer=event.goes_on):
            return
        try:
            message_id, place = self._place(index)
        except UsageError as error:
            self.say(str(error))
            return
        await self._fork(message_id, place, (event.token,), goes_on=event.goes_on)

    @on(CandidateBanned)
    def _candidate_banned(self, event: CandidateBanned) -> None:
        event.stop()
        if self._waits:
            self._decide(lambda control: control.ban(event.token))
        else:
            self.say(_("a candidate is banned while an answer waits before it: /step on"))

    @on(LanesCard.Kept)
    async def _lane_kept(self, event: LanesCard.Kept) -> None:
        event.stop()
        comparison, number = event.card.comparison, event.number
        if comparison.asked_id is None:
            self.say(_("nothing was asked yet: send a message, and compare its answers"))
            return
        model = self._session.model
        if model is not None and model.name != comparison.model:
            self.say(_("{model} wrote these lanes: load it to keep one").format(model=comparison.model))
            return
        try:
            self._session.adopt(comparison.asked_id, comparison.inference(number), comparison.events(number))
        except TuiChatError as error:
            self.say(str(error))
            return
        event.card.folded = True
        await self.rebuild()
        self.say(_("lane {n} is the answer now").format(n=number + 1))
        self.query_one(Composer).focus_input()

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "step":
            return self._waits
        if action == "command":
            return self._waits or self.query_one(StepPanel).has_focus
        return super().check_action(action, parameters)

    def action_step(self, what: str) -> None:
        if what == "run":
            if self._session.stepping.run():
                self._show_steps()
        else:
            self._decide(lambda control: control.draw() if what == "draw" else control.back())

    def action_step_mode(self) -> None:
        session = self._session
        control = session.stepping.control if session.answering else None
        self.set_stepping(not (session.stepping.on if control is None else control.stepping))
        self.say(_("answers wait before each token") if session.stepping.on else _("answers run"))

    def action_command(self) -> None:
        composer = self.query_one(Composer)
        self.show_pane("chat", focus=False)
        composer.focus_input()
        composer.begin_command()

    # Inside

    @property
    def _waits(self) -> bool:
        """Whether the answer under way waits before a token."""
        answer = self._session.answer
        return answer is not None and answer.running and answer.pending is not None

    @property
    def _answer_id(self) -> str | None:
        answer = self._session.answer
        return None if answer is None else answer.message_id

    def _decide(self, order: Callable[[StepControl], bool]) -> None:
        control = self._session.stepping.control
        if control is not None and self._waits:
            order(control)

    def _place(self, index: int | None) -> tuple[str, int]:
        """The answer on show and the token of it that is meant.

        Raises:
            UsageError: There is no answer, or it has not that many tokens.
        """
        conversation = self._session.conversation
        message_id = self.inspected_id
        if message_id is None or message_id not in conversation or conversation[message_id].role is not Role.ASSISTANT:
            last = conversation.last(Role.ASSISTANT)
            if last is None:
                raise UsageError(_("there is no answer to go on from yet: send a message first"))
            message_id = last.id
        inspector = self.query_one(Inspector)
        # Of an answer that is on disk, only the ids may be known.
        tokens = self._session.tokens_of.get(message_id) or conversation[message_id].ids or ()
        if index is None:
            index = inspector.selected if message_id == self.inspected_id else None
        place = len(tokens) if index is None else index
        if place > len(tokens):
            raise UsageError(
                _("the answer has no token {n} to go on from: choose 1 to {most}").format(
                    n=place + 1, most=len(tokens) + 1
                )
            )
        return message_id, place

    async def _fork(self, message_id: str, index: int, forced: Sequence[int] | str, *, goes_on: bool) -> None:
        session = self._session
        last = session.conversation.last(Role.ASSISTANT)
        try:
            session.fork(message_id, index, forced, goes_on=goes_on)
        except TuiChatError as error:
            self.say(str(error))
            return
        turn, self._turn = self._turn, None
        if turn is not None and last is not None and last.id == message_id:
            await turn.remove()
            await self._begin_answer()
        else:
            await self._show_from_here()

    async def _say_again(self, index: int, token: int, *, answer: bool) -> bool:
        """Goes on from a token of a prompt, in the message that it is of; False where the inspector shows an answer.

        A message of the user is said again with the candidate in that place, an answer is gone on from.
        """
        session = self._session
        conversation, shown = session.conversation, self.inspected_id
        if shown is not None and shown in conversation and conversation[shown].role is Role.ASSISTANT:
            return False
        found = said_at(self.query_one(TokenStrip).tokens, self._path_on_show(), index)
        if found is None:
            self.say(_("this token is the template's: only those of messages can be changed"))
            return True
        message, ids, place = found
        if message.role is Role.SYSTEM:
            self.say(_("this token is of the system text: /system changes that"))
            return True
        if message.role is Role.ASSISTANT:
            await self._fork(message.id, place, (token,), goes_on=answer)
            return True
        # A token that ends an answer ends the message, too; the template writes its own behind it.
        ends = session.model is not None and token in session.model.eog_ids
        try:
            session.respell(message.id, [*ids[:place], *(() if ends else (token, *ids[place + 1 :]))], answer=answer)
        except TuiChatError as error:
            self.say(str(error))
            return True
        self._turn = None
        await (self._show_from_here() if answer else self.rebuild())
        return True

    def _path_on_show(self) -> Sequence[Message]:
        """The messages in what the inspector shows the tokens of."""
        conversation, shown = self._session.conversation, self.inspected_id
        return conversation.path_to(shown) if shown is not None and shown in conversation else conversation.path

    async def _show_from_here(self) -> None:
        """Shows the path anew up to the answer that was just asked for, and that one as it comes."""
        transcript, path = self.query_one(Transcript), self._session.conversation.path
        await transcript.show_messages(path[:-1], partial(answer_footer, self._session))
        await self._begin_answer()

    # Steps

    async def step_reported(self) -> None:
        """Shows that the answer waits before a token, or that one was withdrawn."""
        answer, turn = self._session.answer, self._turn
        if answer is None or turn is None:
            return
        if len(answer.tokens) < self._n_inspected and answer.message_id == self.inspected_id:
            self._inspect(answer.tokens, answer.message_id)
        self._flush_tokens()
        if turn.text.startswith(answer.text) and len(turn.text) > len(answer.text):
            await turn.rewrite(answer.text)
        await self._show_written(turn, answer)
        self._show_steps()
        if answer.pending is not None and answer.pending.refused:
            self.say(answer.pending.refused)

    async def _begin_answer(self) -> None:
        await super()._begin_answer()
        self._show_steps()

    async def _finished(self) -> None:
        await super()._finished()
        self._show_steps()

    async def _failed(self, error: TuiChatError) -> None:
        await super()._failed(error)
        self._show_steps()

    def _show_steps(self) -> None:
        """Brings the panel and the inspector up to what is waited before."""
        panel, answer, stepping = self.query_one(StepPanel), self._session.answer, self._session.stepping
        pending = answer.pending if answer is not None and answer.running else None
        if answer is not None and answer.message_id == self.inspected_id:
            self.query_one(Inspector).show_pending(None if pending is None else pending.token)
        focused, control = panel.has_focus, stepping.control
        if answer is not None and pending is not None:
            trace = pending.token.trace
            held = None if stepping.on or trace is None else stepping.held_by(trace)
            shown = panel.display
            panel.show(pending, len(answer.tokens) + 1, "" if held is None else held.source)
            if not shown and self._pane == "chat" and self._is_idle():
                panel.focus()
        elif answer is None or not answer.running or control is None or not control.stepping:
            panel.hide()
            if focused:
                self.query_one(Composer).focus_input()
        elif panel.display:
            panel.show(None, 0)

    def _back_to_steps(self) -> None:
        """Goes from a composer where nobody writes back to the panel while that waits for its keys."""
        control = self._session.stepping.control
        if self._waits and control is not None and control.stepping and self._is_idle():
            self.set_focus(self.query_one(StepPanel))

    def _is_idle(self) -> bool:
        """Whether nobody writes or looks at anything."""
        focused = self.focused
        return focused is None or (isinstance(focused, MessageInput) and self.query_one(Composer).rests)
