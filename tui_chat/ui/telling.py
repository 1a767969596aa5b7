"""The tokens of the messages on the screen, and their figures where those must be read from disk or computed first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tui_chat import paths
from tui_chat.chat.conversation import Message, Role
from tui_chat.engine.control import CancelFlag
from tui_chat.engine.types import GeneratedToken, TokenTrace
from tui_chat.ui.archive import STORE_NAME
from tui_chat.ui.beside import beside
from tui_chat.ui.session import Session
from tui_chat.ui.told import Given, given_before, spelled, stored_tokens, with_figures

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tui_chat.engine.engine import Engine


class Told:
    """For the screen's thread.

    Args:
        session: Whose messages they are.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._given: dict[str, tuple[Given, list[GeneratedToken]]] = {}
        self._unread: set[str] = set()
        self._reading: CancelFlag | None = None

    def tokens(self, message: Message) -> Sequence[GeneratedToken]:
        """An answer's tokens, or those the model was given with a message of the user; none where they are not known.

        What it was given stands in the template, between control tokens; the first message has the system text too.
        """
        if message.role is Role.ASSISTANT:
            return self._session.tokens_of.get(message.id, ())
        self._find(message)
        found = self._given.get(message.id)
        return () if found is None else found[1]

    def given(self, message_id: str) -> Given | None:
        """What the model was given with a message of the user, where that is on show."""
        found = self._given.get(message_id)
        return None if found is None else found[0]

    async def fetch(self) -> None:
        """Reads the tokens of the answers on the path that are on disk alone.

        Raises:
            StorageError: They cannot be read.
        """
        session = self._session
        known = session.tokens_of
        missing = [item for item in session.conversation.path if item.ids and not known.get(item.id)]
        missing = [item for item in missing if item.role is Role.ASSISTANT]
        if not missing:
            return
        path = paths.data_dir() / STORE_NAME
        found = await beside(lambda: stored_tokens(path, missing), name="tui-chat-tokens")
        for message in missing:
            tokens = found.get(message.id) or [GeneratedToken(token, b"", None) for token in message.ids or ()]
            own = session.model is not None and session.model.name == message.model
            if not known.get(message.id):  # else the answer has come to life meanwhile
                known[message.id] = spelled(tokens, session.piece_of) if own else tokens

    def read(
        self,
        message_id: str,
        report: Callable[[Sequence[TokenTrace]], object],
        fail: Callable[[BaseException], object],
    ) -> None:
        """Has the engine compute the figures of what it was given, unless it answers, or has done so.

        Args:
            message_id: Of the message of the user.
            report: Told of them as they come, for `take`; on the engine thread.
            fail: Told what went wrong; on the screen's thread.
        """
        session = self._session
        if message_id not in self._unread or session.answering or session.model is None or self._reading is not None:
            return
        given = self._given[message_id][0]
        self._unread.discard(message_id)
        self._reading = cancel = CancelFlag()
        session.lessons.add(cancel)

        def job(engine: Engine) -> None:
            for traces in given.read(engine, cancel):
                report(traces)

        def ended(future: Future[None]) -> None:
            session.lessons.discard(cancel)
            self._reading = None if self._reading is cancel else self._reading
            error = None if future.cancelled() else future.exception()
            if cancel.is_set() or future.cancelled():
                self._unread.add(message_id)
            elif error is not None:
                fail(error)

        loop = asyncio.get_running_loop()

        def done(future: Future[None]) -> None:
            with suppress(RuntimeError):  # the program ended meanwhile
                loop.call_soon_threadsafe(ended, future)

        session.ask(job).add_done_callback(done)

    def take(self, message_id: str, traces: Sequence[TokenTrace]) -> Sequence[GeneratedToken]:
        """Takes figures in; gives the tokens of the message."""
        if message_id not in self._given:
            return ()
        given, tokens = self._given[message_id]
        with_figures(tokens, traces, given.start)
        return tokens

    def stop_reading(self) -> None:
        """Gives up what is being computed: the engine is needed."""
        if self._reading is not None:
            self._reading.set()

    def _find(self, message: Message) -> None:
        """Looks at the answer behind a message of the user for what the model was given with it."""
        session = self._session
        path = [item for item in session.conversation.path if item.role is not Role.SYSTEM]
        at = next((index for index, item in enumerate(path) if item.id == message.id), len(path))
        answer = path[at + 1] if at + 1 < len(path) else None
        if answer is None or session.model is None or answer.model != session.model.name:
            return
        prompt_ids, running = answer.prompt_ids, session.answer
        if running is not None and running.message_id == answer.id and running.prompt_ids:
            prompt_ids = running.prompt_ids[: running.n_prompt]
        known = self._given.get(message.id)
        if not prompt_ids or (known is not None and known[0].ids == prompt_ids and all(t.piece for t in known[1])):
            return
        before = next((item for item in reversed(path[:at]) if item.role is Role.ASSISTANT), None)
        before_ids = () if before is None else before.ids or ()
        given = given_before(prompt_ids, message, before, before_ids, session.piece_of)
        self._given[message.id] = (given, given.tokens(session.piece_of))
        self._unread.add(message.id)
