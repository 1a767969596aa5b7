"""What a demonstration is about: messages, how they become a prompt, and how the next token would be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.prompt import Prompt, PromptBuilder, fit_prompt
from tui_chat.chat.template import ChatTemplate, choose_template
from tui_chat.engine.types import Limits, SamplingParams

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A conversation as it stands, in the app or made for a command, and the settings it would be answered with."""

    messages: Sequence[Message] = ()
    params: SamplingParams = field(default_factory=SamplingParams)
    limits: Limits = field(default_factory=Limits)
    configured_template: str | None = None
    """Chat template of the settings; None takes the model's own."""
    enable_thinking: bool | None = None
    """For templates that can switch reasoning; None leaves it to the template."""
    prefill: str = ""
    """What the next answer is to begin with."""

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
