"""Answers as they stand, for the question what other settings would have made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from tui_chat.chat.conversation import Message
from tui_chat.chat.trace_file import PERIODS, params_from
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import SAMPLING_FIELDS, Bias, GeneratedToken, Limits, ModelInfo, SamplingParams
from tui_chat.errors import SamplingError, TuiChatError

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.sampling import Sampler
    from tui_chat.engine.whatif import Written
    from tui_chat.ui.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """Tokens in a row that can be asked about, without the engine."""

    before: tuple[int, ...]
    """All tokens before the first one."""
    tokens: tuple[GeneratedToken, ...]
    ran: tuple[SamplingParams, ...]
    """The settings that each of them was drawn with; none where nothing drew them."""
    model: ModelInfo

    def up_to(self, index: int) -> list[int]:
        """All tokens up to number `index` of them and that one."""
        return [*self.before, *(token.id for token in self.tokens[: index + 1])]

    def written(self, engine: Engine | None) -> Written:
        """The same for `engine.whatif`.

        Args:
            engine: Lent for as long as this is used; without one, nothing that needs the texts of tokens can be asked.
        """
        from tui_chat.engine.whatif import Written

        vocab = None if engine is None else engine.vocab

        def make(params: SamplingParams, history: Sequence[int]) -> Sampler:
            from tui_chat.engine.generation import make_sampler

            n_answer = len(history) - len(self.before)
            return make_sampler(params, Limits(), self.model, self.model.n_ctx, history, vocab=vocab, n_answer=n_answer)

        return Written(self.before, self.tokens, self.ran, self.model.n_vocab, make)


def text_of_answer(session: Session, message_id: str, *, coming: bool = False) -> Text | None:
    """The tokens of an answer, those that came so far; None where what stood before it was not kept.

    Args:
        session: Has the conversation.
        message_id: The answer.
        coming: Put the token that a person is asked about, in step mode, behind them.
    """
    conversation, answer, model = session.conversation, session.answer, session.model
    if message_id not in conversation or model is None or conversation[message_id].model != model.name:
        return None
    message = conversation[message_id]
    tokens = tuple(session.tokens_of.get(message_id, ()))
    before = message.prompt_ids
    pending: tuple[GeneratedToken, ...] = ()
    if answer is not None and answer.message_id == message_id and answer.params is not None:
        before = answer.prompt_ids[: answer.n_prompt]
        pending = (answer.pending.token,) if coming and answer.pending is not None else ()
    ran = settings_of(session, message, len(tokens) + len(pending))
    if before is None or ran is None:
        return None
    return Text(tuple(before), (*tokens, *pending), ran, model)


def text_of_prompt(before: Sequence[int], tokens: Sequence[GeneratedToken], model: ModelInfo) -> Text:
    """Tokens of a prompt: nothing drew them.

    Args:
        before: All tokens before them.
        tokens: They themselves, with their figures as far as they are known.
        model: The model that read them.
    """
    return Text(tuple(before), tuple(tokens), (), model)


class PresentSettings:
    """The settings of the sliders as the sampler takes them. Bans and grammars are looked up again only when changed.

    For one thread.
    """

    def __init__(self) -> None:
        self._biases: tuple[object, tuple[Bias, ...]] | None = None
        self._grammar: tuple[object, str] | None = None

    def params(
        self, inference: InferenceSettings, seed: int, engine: Engine | None, pieces: Sequence[bytes]
    ) -> SamplingParams:
        """The settings of an answer with this seed.

        Args:
            inference: What the sliders say.
            seed: Used where they name none.
            engine: Lent.
            pieces: The bytes of the tokens, for where there is no engine.

        Raises:
            TuiChatError: They do not hold.
        """
        from tui_chat.engine.bias import first_pieces

        resolve = partial(first_pieces, pieces) if engine is None else engine.vocab.resolve
        about = (inference.logit_bias, inference.ban, id(engine))
        if self._biases is None or self._biases[0] != about:
            found = inference.resolved_biases(resolve)
            self._biases = (about, tuple(bias for one in found for bias in one.biases))
        text = (inference.grammar, inference.json_schema)
        if self._grammar is None or self._grammar[0] != text:
            self._grammar = (text, inference.grammar_text())
        plain = inference.model_copy(update={"logit_bias": (), "ban": (), "grammar": "", "json_schema": ""})
        params = plain.sampling_params(seed if inference.seed is None else inference.seed)
        return replace(params, logit_bias=self._biases[1], grammar=self._grammar[1])


def settings_of(session: Session, message: Message, n: int) -> tuple[SamplingParams, ...] | None:
    """The settings that each of the first `n` tokens was drawn with; None where they were not kept."""
    answer = session.answer
    if answer is not None and answer.message_id == message.id and answer.changes:
        periods: Sequence[tuple[int, SamplingParams]] = answer.changes
    else:
        try:
            periods = _stored_periods(message)
        except (TuiChatError, TypeError, ValueError):
            return None
    ran: list[SamplingParams] = []
    for index, (first, params) in enumerate(periods):
        stop = periods[index + 1][0] if index + 1 < len(periods) else n
        ran[first:] = [params] * (max(first, stop) - first)
    del ran[n:]
    old = message.forked_from
    if message.n_kept and old is not None and old in session.conversation:
        kept = min(n, message.n_kept)
        ran[:kept] = settings_of(session, session.conversation[old], kept) or ran[:kept]
    return tuple(ran) if len(ran) == n else None


def _stored_periods(message: Message) -> list[tuple[int, SamplingParams]]:
    kept = cast("Sequence[tuple[int, Mapping[str, object]]] | None", message.settings.get(PERIODS))
    if kept is None:
        if message.settings.get("logit_bias") or message.settings.get("ban") or message.settings.get("grammar"):
            raise SamplingError("these were not kept as the sampler takes them")
        return [(0, params_from({k: v for k, v in message.settings.items() if k in SAMPLING_FIELDS}))]
    return [(int(first), params_from(values)) for first, values in kept]
