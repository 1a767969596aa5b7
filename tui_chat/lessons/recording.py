"""An answer of a loaded model as a trace to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from tui_chat import __version__
from tui_chat.chat.conversation import Message
from tui_chat.chat.trace_file import PERIODS, AnswerTrace, ModelMark, params_from
from tui_chat.engine.gguf import fingerprint
from tui_chat.engine.llama import library_version
from tui_chat.engine.types import FinishReason, GeneratedToken, ModelInfo, SamplingParams, Usage
from tui_chat.errors import TraceError


def recorded(
    info: ModelInfo,
    *,
    prompt_ids: Sequence[int],
    periods: Sequence[tuple[int, SamplingParams]],
    tokens: Sequence[GeneratedToken],
    text: str,
    usage: Usage | None,
    n_kept: int = 0,
    ignore_eos: bool = False,
    finish_reason: FinishReason | None = None,
    end: GeneratedToken | None = None,
) -> AnswerTrace:
    """The trace of an answer that the loaded model wrote; reads some of the model's file.

    Args:
        info: The model.
        prompt_ids: What stood before the answer.
        periods: (first token, settings), in order.
        tokens: The whole answer.
        text: What it spells.
        usage: Of the run that wrote its end; None where it is not known: it was interrupted.
        n_kept: How many of the first tokens another answer wrote.
        ignore_eos: Whether the end-of-generation tokens were banned.
        finish_reason: Why it ended.
        end: The end-of-generation token.

    Raises:
        ModelError: The model's file cannot be read any more.
    """
    return AnswerTrace(
        program=__version__,
        library=library_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=ModelMark.of(info, fingerprint(info.path)),
        prompt_ids=tuple(prompt_ids),
        chunks=usage.chunks if usage is not None else (),
        periods=tuple(periods),
        ignore_eos=ignore_eos,
        n_given=_put_in(tokens, n_kept) if usage is None else max(0, usage.prompt - len(prompt_ids)),
        tokens=tuple(tokens),
        text=text,
        finish_reason=finish_reason,
        end=end,
    )


def _put_in(tokens: Sequence[GeneratedToken], n_kept: int) -> int:
    """How many of the first tokens the run did not write: those kept, and a text behind them that was put there."""
    n_given = min(n_kept, len(tokens))
    while n_given < len(tokens) and tokens[n_given].forced and tokens[n_given].trace is None:
        n_given += 1
    return n_given


def recorded_message(info: ModelInfo, message: Message, tokens: Sequence[GeneratedToken]) -> AnswerTrace:
    """The trace of an answer of a conversation.

    Args:
        info: The loaded model.
        message: The answer.
        tokens: Its tokens with their figures, as far as they were kept.

    Raises:
        TraceError: Another model wrote it, or what stood before it was not kept.
        ModelError: The model's file cannot be read any more.
    """
    periods = cast("Sequence[tuple[int, Mapping[str, object]]] | None", message.settings.get(PERIODS))
    if message.ids is None or message.prompt_ids is None or periods is None:
        raise TraceError("only an answer can be saved as a trace, and one that was written since traces are kept whole")
    if message.model != info.name:
        raise TraceError(f"{message.model} wrote this answer: load it to save the trace")
    if tuple(token.id for token in tokens) != message.ids:
        raise TraceError("the figures of this answer were not kept whole, so there is no trace to save")
    return recorded(
        info,
        prompt_ids=message.prompt_ids,
        periods=[(int(first), params_from(params)) for first, params in periods],
        tokens=tokens,
        text=message.text,
        usage=message.usage,
        n_kept=message.n_kept,
        finish_reason=message.finish_reason,
    )
