"""What a demonstration is about: messages, how they become a prompt, and how the next token would be chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.prompt import Prompt, PromptBuilder, fit_prompt, without_oldest
from tui_chat.chat.template import ChatTemplate, choose_template
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import Limits, SamplingParams
from tui_chat.language import N_, n_
from tui_chat.lessons.report import Tone, Words

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine

EXAMPLE_QUESTION = N_("What is a token?")
"""Stands in where nothing was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A conversation as it stands, in the app or made for a command, and the settings it would be answered with."""

    messages: Sequence[Message] = ()
    params: SamplingParams = field(default_factory=SamplingParams)
    """Without what `biased` adds: `sampling` gives all of it."""
    biased: InferenceSettings | None = None
    """Settings whose biases and bans hold: the engine must look up which tokens their texts are."""
    limits: Limits = field(default_factory=Limits)
    configured_template: str | None = None
    """Chat template of the settings; None takes the model's own."""
    enable_thinking: bool | None = None
    """For templates that can switch reasoning; None leaves it to the template."""
    prefill: str = ""
    """What the next answer is to begin with."""
    left_out: Callable[[Sequence[Message]], int] = lambda _: 0
    """How many messages of a conversation the chat left out last; only the engine thread may ask."""

    def asking(self, text: str, system: str | None = None) -> Scene:
        """The same settings, with nothing said before but `system`, and `text` to answer."""
        conversation = Conversation()
        if system:
            conversation.set_system(system)
        conversation.append(Role.USER, text)
        return replace(self, messages=conversation.path, prefill="")

    def unanswered(self) -> Scene:
        """The same up to the last message of the user: what that message's answer is made of."""
        asked = [index for index, message in enumerate(self.messages) if message.role is Role.USER]
        return replace(self, messages=tuple(self.messages[: asked[-1] + 1]) if asked else ())

    def template(self, engine: Engine) -> ChatTemplate:
        """The template the messages go through.

        Raises:
            TemplateError: It does not parse.
        """
        return choose_template(self.configured_template, engine.info.chat_template, engine.info.name)

    def sampling(self, engine: Engine) -> SamplingParams:
        """How the next token is chosen; only the engine thread may look up which tokens the texts to ban are.

        Raises:
            SamplingError: A text to ban or to bias is no token of the vocabulary.
        """
        if self.biased is None:
            return self.params
        biases = self.biased.sampling_params(self.params.seed, engine.vocab.resolve).logit_bias
        return replace(self.params, logit_bias=biases)

    def prompt(self, engine: Engine) -> Prompt:
        """What the model would be given now.

        Raises:
            TemplateError: The template refuses the messages or fails.
        """
        return self.builder(engine).build(self.messages)

    def fitted(self, engine: Engine) -> Prompt:
        """The same, without the oldest exchanges where the context does not hold all: what a chat would send.

        Raises:
            PromptTooLongError: The last message alone does not fit.
            TemplateError: The template refuses the messages or fails.
        """
        return fit_prompt(
            self.messages,
            engine.vocab,
            self.template(engine),
            n_ctx=engine.context.n_ctx,
            reserve=self.limits.max_tokens,
            at_least=self.left_out(self.messages),
            enable_thinking=self.enable_thinking,
            prefill=self.prefill,
        )

    def builder(self, engine: Engine) -> PromptBuilder:
        """What makes the prompt of the messages.

        Raises:
            TemplateError: The template does not parse.
        """
        return PromptBuilder(
            engine.vocab, self.template(engine), enable_thinking=self.enable_thinking, prefill=self.prefill
        )

    def without_system(self, engine: Engine, dropped: int) -> Scene:
        """The same without its system text, and without the messages that have no room beside that.

        Args:
            engine: The model it is for.
            dropped: `Prompt.dropped` of the whole scene.
        """
        kept = without_oldest(self.messages, self.template(engine), dropped)
        return replace(self, messages=tuple(message for message in kept if message.role is not Role.SYSTEM))


def warning(dropped: int) -> tuple[Words, ...]:
    """What to say where so many messages have no room in the prompt."""
    if not dropped:
        return ()
    words = n_(
        "The context is full: the first {n} message is left out.",
        "The context is full: the first {n} messages are left out.",
        dropped,
    )
    return (Words(words.format(n=dropped), Tone.WARN),)
