"""The glass box on the chat screen: the waterfall of the token on show, what other settings would have made of its
answer, and the tokens of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.message import Message as TextualMessage

from tui_chat.chat.conversation import Message, Role
from tui_chat.config import InferenceSettings
from tui_chat.display.text import one_line
from tui_chat.engine.types import SAMPLING_FIELDS, GeneratedToken
from tui_chat.errors import UsageError
from tui_chat.language import _, n_
from tui_chat.ui.reading import PromptRead, PromptReading, RowRead, RowReading
from tui_chat.ui.screens.token_search import TokenSearchScreen
from tui_chat.ui.session import Session
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.status_bar import StatusBar
from tui_chat.ui.widgets.steering import NothingToChoose
from tui_chat.ui.wondering import Asked, MarksReady, WaterfallReady, Wondering
from tui_chat.ui.written import Text, text_of_answer, text_of_prompt

_ASKED_BY = (*SAMPLING_FIELDS, "ban", "json_schema")
"""The settings that decide which token comes."""


class GlassScreen(TokenSearchScreen):
    """Asks for what the inspector shows, on a thread of its own, and shows what was found.

    Args:
        session: What is shown.
    """

    class Found(TextualMessage, bubble=False):
        """Another thread has found something."""

        def __init__(self, found: WaterfallReady | MarksReady | PromptRead | RowRead) -> None:
            super().__init__()
            self.found = found

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._wondering = Wondering(session.lend, self._report_found)
        self._what_if = False
        self._note = ""
        self._prompt: PromptReading | None = None
        self._prompt_of: str | None = None
        self._prompt_at: int | None = None
        self._row = RowReading(session.ask, self._report_found)
        self._settings_seen = self._deciding()
        self._inference_seen = session.inference
        self._model_seen = session.model

    def on_unmount(self) -> None:
        self._wondering.close()
        self._row.stop()
        if self._prompt is not None:
            self._prompt.stop()

    @property
    def what_if(self) -> bool:
        """Whether the waterfall is that of the sliders, not of the settings that ran."""
        return self._what_if

    @property
    def prompt_tokens(self) -> Sequence[GeneratedToken] | None:
        """The tokens of the prompt, where the inspector shows those; None where it shows a message's."""
        return None if self._prompt is None else self._prompt.tokens

    def show_what_if(self, on: bool) -> None:
        """Shows the waterfall with the settings of the sliders, and which tokens they would have changed."""
        self._what_if = on
        self._ask_table()
        text = self._text(coming=False) if on else None
        if text is None or not text.ran:
            self._wondering.ask_marks(None)
            self.show_marks(frozenset(), "")
            return
        inference, pieces = self._session.inference, self._session.pieces
        self._wondering.ask_marks(Asked(self._inspected, text, len(text.tokens) - 1, inference, pieces))

    def show_marks(self, marks: frozenset[int], note: str) -> None:
        """Marks the tokens of the answer on show that would come out differently.

        Args:
            marks: Which of them, from 0.
            note: What to say of them, from the longest way to say it to the shortest, in lines.
        """
        self._note = note
        self.remark("")
        self.query_one(Inspector).mark(marks, note)
        if self._inspected is not None:
            self.mark_tokens(self._inspected, marks)
        self.query_one(StatusBar).differs = note.splitlines()[-1] if note else ""

    # What happened

    @on(Inspector.Shown)
    def _token_shown(self, event: Inspector.Shown) -> None:
        event.stop()
        self._ask_table()

    @on(NothingToChoose)
    def _nothing_to_choose(self, event: NothingToChoose) -> None:
        event.stop()
        unread = _("These tokens are being read: figures follow.")
        none = _("there is no token to change yet: send a message")
        self.say(event.why or (none if self.query_one(Inspector).token is None else unread))

    @on(Inspector.Wanted)
    def _inspector_wanted(self, event: Inspector.Wanted) -> None:
        event.stop()
        match event.what:
            case "what-if":
                self.show_what_if(not self._what_if)
            case "prompt":
                self._toggle_prompt()
            case "enter":
                try:
                    self.fork_at(event.inspector.current, (), goes_on=True)
                except UsageError as error:
                    self.say(str(error))

    @on(Found)
    def _found(self, event: Found) -> None:
        event.stop()
        match event.found:
            case WaterfallReady() as ready:
                self._show_table(ready)
            case MarksReady() as marks:
                self._take_marks(marks)
            case PromptRead() as read:
                self._take_prompt(read)
            case RowRead() as row:
                if row.error is not None:
                    self.say(str(row.error))
                elif row.token is self.query_one(Inspector).token:
                    self._ask_table()

    def _report_found(self, found: WaterfallReady | MarksReady | PromptRead | RowRead) -> None:
        self.post_message(self.Found(found))

    async def _frame(self) -> None:
        session = self._session
        if session.inference is not self._inference_seen:
            self._inference_seen, before, self._settings_seen = session.inference, self._settings_seen, self._deciding()
            if before != self._settings_seen and self.query_one(Inspector).token is not None:
                self.show_what_if(True)
        if session.model is not self._model_seen:
            self._model_seen = session.model
            self._ask_table()
        answer = session.answer
        if answer is not None and answer.message_id == self._inspected:
            self.query_one(Inspector).show_pending(None if answer.pending is None else answer.pending.token)
        await super()._frame()

    async def _finished(self) -> None:
        await super()._finished()
        if self._what_if:  # more was written since it was asked
            self.show_what_if(True)
        else:
            self._ask_table()  # the last one that streamed by may have had to wait

    def _inspect(self, tokens: Sequence[GeneratedToken], message_id: str | None) -> None:
        self._what_if = False
        self._inference_seen, self._settings_seen = self._session.inference, self._deciding()
        if self._prompt is not None:
            self._prompt.stop()
        self._row.stop()
        self._prompt = self._prompt_of = None
        self._wondering.ask_marks(None)
        if self._note:
            self.show_marks(frozenset(), "")
        super()._inspect(tokens, message_id)

    def _path_on_show(self) -> Sequence[Message]:
        conversation, of = self._session.conversation, self._prompt_of
        if self._prompt is None or of is None or of not in conversation:
            return super()._path_on_show()
        return conversation.path_to(conversation[of].parent_id if conversation[of].role is Role.ASSISTANT else of)

    # The waterfall

    def _deciding(self, inference: InferenceSettings | None = None) -> tuple[object, ...]:
        return tuple(getattr(inference or self._session.inference, name) for name in _ASKED_BY)

    def _text(self, *, coming: bool = True) -> Text | None:
        session = self._session
        if session.model is None:
            return None
        if self._prompt is not None:
            return text_of_prompt((), self._prompt.tokens, session.model)
        if self._inspected is None:
            return None
        if (given := self.told.given(self._inspected)) is not None:
            tokens = self.told.tokens(session.conversation[self._inspected])
            return text_of_prompt(given.ids[: given.start], tokens, session.model)
        return text_of_answer(session, self._inspected, coming=coming)

    def _ask_table(self) -> None:
        inspector, session = self.query_one(Inspector), self._session
        token, index = inspector.token, inspector.current
        if token is None or index is None:
            inspector.show_table(None, None, note=self._note)
            return
        text = self._text()
        if text is None or index >= len(text.tokens) or text.tokens[index].id != token.id:
            inspector.show_table(None, None, problem=self._why_not(), note=self._note)
            return
        with_sliders = self._what_if or not text.ran
        asked = Asked(
            token,
            text,
            index,
            session.inference if with_sliders else None,
            session.pieces,
            urgent=inspector.selected is not None or not session.answering or self._waits,
        )
        self._wondering.ask(asked)

    def _show_table(self, ready: WaterfallReady) -> None:
        inspector = self.query_one(Inspector)
        asked, token = ready.asked, inspector.token
        if asked.subject is not token or token is None or inspector.current is None:
            return  # overtaken
        problem = ""
        if ready.error is not None:
            problem = one_line(str(ready.error))
        elif ready.table is None:
            problem = self._why_none(asked)
        answer = self._session.answer
        pending = answer.pending if answer is not None else None
        chosen = None if pending is not None and pending.token is token else token.id
        title = f"{inspector.current + 1}"
        if not asked.text.ran:
            title += " " + _("given")
            if ready.table is not None and ready.table.known is not None:
                self._row.want(token, asked.text.up_to(asked.index), ready.table.position)
        elif asked.inference is not None and (ready.table is None or ready.table.params != asked.text.ran[asked.index]):
            title += " " + _("what if")
        inspector.show_table(ready.table, chosen, title=title, problem=problem, note=self._note)

    def _why_not(self) -> str:
        """Why nothing can be asked about the token on show."""
        session = self._session
        if session.model is None:
            return _("Figures follow when the model is loaded.") if session.loading else _("No model is loaded.")
        return _("The loaded model did not write this, or what stood before it was not kept.")

    def _why_none(self, asked: Asked) -> str:
        if not asked.text.before and asked.index == 0:
            return _("The first token of all has nothing before it, so no figures.")
        if not asked.text.ran and (self._prompt is None or not self._prompt.done):
            return _("These tokens are being read: figures follow.")
        return _("Not inspected: no figures were kept.")

    def _take_marks(self, marks: MarksReady) -> None:
        if not self._what_if or marks.asked.subject != self._inspected or self._prompt is not None:
            return
        if marks.error is not None:
            self.say(str(marks.error))
        if marks.same:
            if marks.asked.inference is not None and self._deciding(marks.asked.inference) == self._deciding():
                self.show_what_if(False)
                self.remark(_("the settings are those that ran: nothing would differ"))
            return
        from tui_chat.engine.waterfall import Basis

        n, n_asked = sum(outcome.differs for outcome in marks.outcomes), len(marks.outcomes)
        short = n_("{n} of {all} would differ", "{n} of {all} would differ", n).format(n=f"{n:,}", all=f"{n_asked:,}")
        if not marks.done:
            short += " …"
        note = short
        if n and marks.done:
            long = _("{n} of {all} would differ; after the first all is conditional on the old text")
            guessed = sum(outcome.basis is Basis.TRUNCATED for outcome in marks.outcomes)
            if guessed:
                long += _(" ({guessed} judged by their best candidates alone)")
            long = long.format(n=f"{n:,}", all=f"{n_asked:,}", guessed=f"{guessed:,}")
            keys, rest = _(" · n next · ⏎ from there"), short + _(" · rest conditional")
            note = "\n".join((long, rest + keys, rest, short))
        self.show_marks(frozenset(outcome.index for outcome in marks.outcomes if outcome.differs), note)
        if marks.done and n:
            self.remark(note.splitlines()[0])

    # The prompt

    def _toggle_prompt(self) -> None:
        """Shows the tokens of the prompt in place of those of the message on show, or those again."""
        session, inspector, shown = self._session, self.query_one(Inspector), self._inspected
        if self._prompt is not None:
            shown, at = self._prompt_of, self._prompt_at
            here = shown is not None and shown in session.conversation
            self._inspect(self.told.tokens(session.conversation[shown]) if shown is not None and here else (), shown)
            inspector.select(at)
            return
        text, at = self._text(), inspector.selected
        given = None if shown is None else self.told.given(shown)
        before = () if text is None else text.before if given is None else given.ids
        if not before:
            self.say(_("there is no prompt to show"))
            return
        self._inspect((), None)
        self._prompt_of, self._prompt_at = shown, at
        self._prompt = PromptReading(before, session.piece_of)
        inspector.show_answer(self._prompt.tokens, given=True)
        inspector.select(given.start + at if given is not None and at is not None else len(before) - 1)
        self._say_reading()
        self._prompt.begin(session.ask, self._report_found)

    def _take_prompt(self, read: PromptRead) -> None:
        if read.reading is not self._prompt:
            return
        self._prompt.take(read)
        if read.error is not None:
            self.say(str(read.error))
        if read.traces:
            self.query_one(Inspector).replace(self._prompt.tokens)
        self._say_reading()

    def _say_reading(self) -> None:
        assert self._prompt is not None
        known, n = sum(token.trace is not None for token in self._prompt.tokens), len(self._prompt.tokens)
        of = _("the prompt · {n} of {all} tokens read").format(n=f"{known:,}", all=f"{n:,}")
        done = _("the prompt · {n} tokens · p goes back").format(n=f"{n:,}")
        self._note = done if self._prompt.done else of
        self.query_one(Inspector).mark(frozenset(), self._note)
