"""Dialogues and how they are written as ChatML.

`render` gives the same text as the chat template that is stored in the model file (a test holds the two together), cut
into pieces that the model gives itself (the answers) and pieces that are given to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tui_chat.training.wording import first_sentence

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

EMPTY_THINK = f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n"
"""Put before an answer when thinking is switched off."""

THINK_NUDGE = "Think first."
"""Added to the system prompt when thinking is switched on."""


class Thinking(StrEnum):
    """How the switch `enable_thinking` stands in a dialogue."""

    FREE = "free"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer."""

    intent: str
    user: str
    answer: str
    think: str = ""
    """Text of the think block; empty for none."""
    must_contain: tuple[str, ...] = ()
    """What a right answer must contain in any case, where that can be said (a sum, a capital, a name)."""
    plain: bool = True
    """Whether the user's words may be varied freely; False where single letters matter."""

    @property
    def reply(self) -> str:
        """What the model writes: the think block, if any, and the answer."""
        return f"{THINK_OPEN}\n{self.think}\n{THINK_CLOSE}\n\n{self.answer}" if self.think else self.answer


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation from its system prompt to its last answer."""

    exchanges: tuple[Exchange, ...]
    system: str | None = None
    thinking: Thinking = Thinking.FREE
    opened: bool = False
    """Whether the last answer is only begun, up to its first full stop: enough to learn which answer it is to be."""

    def render(self) -> Iterator[tuple[str, bool]]:
        """Pieces of the ChatML text in order, each with whether the model itself writes it."""
        system = self.system
        if self.thinking is Thinking.ON:
            system = THINK_NUDGE if system is None else f"{system}\n{THINK_NUDGE}"
        given = f"{IM_START}system\n{system}{IM_END}\n" if system is not None else ""
        for index, exchange in enumerate(self.exchanges):
            given += f"{IM_START}user\n{exchange.user}{IM_END}\n{IM_START}assistant\n"
            # The empty block is no part of a stored message, so only the newest answer follows one.
            if self.thinking is Thinking.OFF and index == len(self.exchanges) - 1:
                given += EMPTY_THINK
            yield given, False
            if self.opened and index == len(self.exchanges) - 1:
                yield first_sentence(exchange.reply), True
                return
            yield f"{exchange.reply}{IM_END}", True
            given = "\n"
        yield given, False

    def prompt(self) -> str:
        """The text up to where the model writes its last answer."""
        pieces = [text for text, _ in self.render()]
        return "".join(pieces[: -1 if self.opened else -2])

    @property
    def text(self) -> str:
        """The whole ChatML text."""
        return "".join(text for text, _ in self.render())
