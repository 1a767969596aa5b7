"""What an answer is asked for with: the messages before it, the settings, and the tokens it is to begin with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.fork import Fork
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import GenerationRequest
from tui_chat.ui.ports import BuildRequest
from tui_chat.ui.progress import Answer

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Question:
    """One answer that is asked for."""

    messages: Sequence[Message]
    """Those before the answer."""
    inference: InferenceSettings
    seed: int
    prefill: str = ""
    """The text it is to begin with."""
    fork: Fork | None = None
    """What it is to begin with, where it goes on from the middle of another one."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What is kept of it with the answer."""
        known = {**self.inference.model_dump(mode="json"), "seed": self.seed, "prefill": self.prefill or None}
        return {name: value for name, value in known.items() if value is not None}

    def request(self, engine: Engine, build: BuildRequest) -> GenerationRequest:
        """The request; for the engine thread, because only that may ask the vocabulary which tokens a text is.

        Raises:
            TuiChatError: The settings, the messages or the fork do not hold with this model.
        """
        params = self.inference.sampling_params(self.seed, engine.vocab.resolve)
        request = build(engine, self.messages, params, self.inference, self.prefill)
        return request if self.fork is None else self.fork.splice(request, engine.vocab, engine.info.n_ctx)


def seed_of(inference: InferenceSettings, old: Message | None = None) -> int:
    """The seed of the settings; else that of the answer it goes on from, for the same draws at the same places."""
    if inference.seed is not None:
        return inference.seed
    if old is not None and isinstance(old.settings.get("seed"), int):
        return cast("int", old.settings["seed"])
    return secrets.randbits(32)


def take_back(conversation: Conversation, answer: Answer) -> tuple[list[str], str | None]:
    """Takes an answer that came to nothing out of a conversation, and the message it was asked for.

    Returns:
        The ids of what is to be forgotten, and the text of that message; None where it was another try, in which case
        what was there before is there again.
    """
    asked = conversation[answer.message_id].parent_id
    gone = [answer.message_id]
    text: str | None = None
    if answer.retry_of is None and asked is not None:
        gone.append(asked)
        text = conversation[asked].text
    for message_id in gone:
        conversation.remove(message_id)
    if answer.retry_of is not None:
        conversation.select(answer.retry_of, descend=False)
    if not any(message.role is Role.USER for message in conversation):
        # A system text alone is no conversation to keep; it is stored with the next message.
        gone += [message.id for message in conversation]
    return gone, text
