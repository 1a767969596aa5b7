"""From messages to a request: the template is rendered and the prompt fitted on the engine thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_chat.chat.conversation import Message
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import GenerationRequest, Limits, SamplingParams
from tui_chat.language import _, n_
from tui_chat.ui.news import News, PromptNoted

if TYPE_CHECKING:
    from tui_chat.chat.template import ChatTemplate
    from tui_chat.engine.engine import Engine


class RequestBuilder:
    """Makes requests with the configured chat template or the model's own. For the engine thread only.

    Args:
        configured: The template of the settings, if there is one.
        report: Told what the user should know of a prompt; the same thing only once in a row.
        limit: Has the last word on when an answer ends.
    """

    def __init__(
        self,
        configured: str | None,
        report: Callable[[News], None],
        *,
        limit: Callable[[Limits], Limits] = lambda limits: limits,
    ) -> None:
        self._configured = configured
        self._limit = limit
        self._report = report
        self._template: tuple[str | None, ChatTemplate] | None = None
        self._dropped = 0
        self._first_id: str | None = None
        self._noted: tuple[str, ...] = ()

    def __call__(
        self,
        engine: Engine,
        messages: Sequence[Message],
        params: SamplingParams,
        inference: InferenceSettings,
        prefill: str = "",
    ) -> GenerationRequest:
        """Makes the request that answers the last of the messages, with an answer that begins with `prefill`.

        Raises:
            TemplateError: The template does not parse, or refuses the messages.
            PromptTooLongError: The last message alone does not fit into the context.
        """
        from tui_chat.chat.prompt import fit_prompt

        first_id = messages[0].id if messages else None
        if first_id != self._first_id:
            self._first_id, self._dropped = first_id, 0
        limits = inference.limits()
        prompt = fit_prompt(
            messages,
            engine.vocab,
            self._template_of(engine),
            n_ctx=engine.info.n_ctx,
            reserve=limits.max_tokens,
            at_least=self._dropped,
            enable_thinking=inference.enable_thinking,
            prefill=prefill,
        )
        notes = tuple(_(note) for note in prompt.notes)
        if prompt.dropped and prompt.dropped != self._dropped:
            full = n_(
                "the context is full: the first message is no longer read by the model",
                "the context is full: the first {n} messages are no longer read by the model",
                prompt.dropped,
            )
            notes += (full.format(n=prompt.dropped),)
        self._dropped = prompt.dropped
        if notes != self._noted:
            self._noted = notes
            if notes:
                self._report(PromptNoted(notes))
        room = engine.info.n_ctx - len(prompt.ids)
        limits = self._limit(replace(limits, max_tokens=min(limits.max_tokens, room)))
        return GenerationRequest(prompt_ids=prompt.ids, n_prefilled=prompt.n_prefilled, params=params, limits=limits)

    def left_out(self, messages: Sequence[Message]) -> int:
        """How many messages of this conversation the last request left out."""
        return self._dropped if messages and messages[0].id == self._first_id else 0

    def _template_of(self, engine: Engine) -> ChatTemplate:
        from tui_chat.chat.template import choose_template

        source = engine.info.chat_template
        if self._template is None or self._template[0] != source:
            self._template = (source, choose_template(self._configured, source, engine.info.name))
        return self._template[1]
