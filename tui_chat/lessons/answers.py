"""What is known of an answer once it has ended, from the figures that were kept while it was made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tui_chat.chat.conversation import Message
from tui_chat.display import figures
from tui_chat.engine.types import FinishReason, Timings, TokenTrace, Usage
from tui_chat.language import N_, _, n_

_ENDS: dict[FinishReason | None, str] = {
    FinishReason.EOS: N_("the model gave its end token"),
    FinishReason.LENGTH: N_("the limit of tokens, or the end of the context, was reached"),
    FinishReason.STOP: N_("a stop string came"),
    FinishReason.CANCELLED: N_("you stopped it"),
    FinishReason.TIME: N_("the time limit was reached"),
    FinishReason.CONFIDENCE: N_("the model was too unsure to go on"),
    None: N_("it broke off"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """What is known of an answer that has ended. What is not known is None; nothing is guessed."""

    model: str | None = None
    """Name of the model that wrote it."""
    reason: FinishReason | None = None
    """None where it broke off."""
    generated: int | None = None
    """Tokens of the answer, without those it was to begin with or kept of another."""
    usage: Usage | None = None
    timings: Timings | None = None
    traces: tuple[TokenTrace, ...] = ()
    """The figures of its tokens, of all of them or of none."""
    may_go_on: bool = False
    """Whether another program may still be writing it."""

    @classmethod
    def of(cls, message: Message, traces: Iterable[TokenTrace]) -> AnswerFigures:
        """What a message and the traces of its tokens tell.

        Args:
            message: An answer.
            traces: Of its tokens; without those it was to begin with, which nothing chose. They count for nothing
                where one is missing, and those that a fork kept belong to the other answer.
        """
        found, ids = tuple(traces), message.ids
        if ids is not None and ids[len(ids) - len(found) :] != tuple(trace.id for trace in found):
            found = ()
        if message.usage is not None:
            generated: int | None = message.usage.generated
        else:
            generated = len(found) or (None if ids is None else len(ids))
        return cls(
            model=message.model,
            reason=message.finish_reason,
            generated=generated,
            usage=message.usage,
            timings=message.timings,
            # Those of a fork have the tokens that it kept before them.
            traces=found[len(found) - generated :] if generated is not None and len(found) >= generated else (),
        )

    @property
    def n_prompt(self) -> int | None:
        """Tokens of the prompt; the first token of the answer stands right behind them."""
        if self.usage is not None:
            return self.usage.prompt
        return self.traces[0].position if self.traces else None

    @property
    def n_reused(self) -> int | None:
        """Tokens of the prompt that were in the cache already."""
        return None if self.usage is None else self.usage.reused

    @property
    def n_read(self) -> int | None:
        """Tokens of the prompt that had to be evaluated; None where it was not read to its end."""
        if self.usage is None or (self.reason is FinishReason.CANCELLED and not self.generated):
            return None
        return self.usage.prompt - self.usage.reused

    @property
    def prefill_s(self) -> float | None:
        """Seconds in which the prompt was read."""
        return None if self.timings is None else self.timings.prefill_s

    @property
    def prefill_rate(self) -> float | None:
        """Tokens of the prompt evaluated a second."""
        return self.n_read / self.prefill_s if self.n_read is not None and self.prefill_s else None

    @property
    def ttft_s(self) -> float | None:
        """Seconds from the request to the first token; None where none came."""
        if not self.generated:
            return None
        if self.timings is not None:
            return self.timings.ttft_s
        return self.traces[0].seconds if self.traces else None

    @property
    def decode_s(self) -> float | None:
        """Seconds from the first token to the end, or to the last token where only the tokens tell."""
        if not self.generated:
            return None
        if self.timings is not None:
            return self.timings.decode_s
        return self.traces[-1].seconds - self.traces[0].seconds if self.traces else None

    @property
    def decode_rate(self) -> float | None:
        """Tokens a second after the first one, which belongs to the prefill."""
        return (self.generated - 1) / self.decode_s if self.generated and self.generated > 1 and self.decode_s else None

    @property
    def entropies(self) -> tuple[float, ...]:
        """Entropy of the raw distribution each token was taken from, nats."""
        return tuple(trace.entropy for trace in self.traces)

    @property
    def surprisals(self) -> tuple[float, ...]:
        """-ln p of each token in the raw distribution, nats."""
        return tuple(trace.surprisal for trace in self.traces)


def end_words(reason: FinishReason | None) -> str:
    """Why an answer ended, as a sentence without its full stop."""
    return _(_ENDS[reason])


def prefill_words(answer: AnswerFigures) -> str:
    """How many tokens of the prompt were evaluated, in what time."""
    if answer.n_read is None or answer.prefill_s is None:
        return _("not known")
    text = n_("{n} token in {time}", "{n} tokens in {time}", answer.n_read)
    return _with_rate(text.format(n=f"{answer.n_read:,}", time=figures.span(answer.prefill_s)), answer.prefill_rate)


def decode_words(answer: AnswerFigures) -> str:
    """How many tokens were decoded after the first, in what time."""
    if answer.decode_s is None or answer.generated is None:
        return _("not known") if answer.generated is None else _("no token was generated")
    n = answer.generated - 1
    text = n_("{n} token after the first in {time}", "{n} tokens after the first in {time}", n)
    return _with_rate(text.format(n=f"{n:,}", time=figures.span(answer.decode_s)), answer.decode_rate)


def usage_document(answer: AnswerFigures) -> dict[str, object]:
    """The token counts and times of an answer, null where they are not known."""
    return {
        "finish_reason": None if answer.reason is None else str(answer.reason),
        "usage": {"prompt": answer.n_prompt, "reused": answer.n_reused, "generated": answer.generated},
        "timings": {
            "ttft_s": answer.ttft_s,
            "prefill_s": answer.prefill_s,
            "prefill_tokens_per_s": answer.prefill_rate,
            "decode_s": answer.decode_s,
            "tokens_per_s": answer.decode_rate,
        },
    }


def _with_rate(text: str, rate: float | None) -> str:
    return text if rate is None else f"{text} = {figures.rate(rate)}"
