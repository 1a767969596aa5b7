"""Answers whose beginning is in the request: those tokens come first, with no figures, and are not counted."""

from __future__ import annotations

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    SamplingParams,
    TokensGenerated,
)

PROMPT = "<|im_start|>user\nWhat is a token?<|im_end|>\n<|im_start|>assistant\n"
BEGUN = "A token is ünlike"


def request(engine: Engine, *, n_prefilled: bool = True) -> GenerationRequest:
    prompt, begun = (engine.vocab.tokenize(text, parse_special=True) for text in (PROMPT, BEGUN))
    return GenerationRequest(
        prompt_ids=(*prompt, *begun),
        n_prefilled=len(begun) if n_prefilled else 0,
        params=SamplingParams(temperature=0),
        limits=Limits(max_tokens=5, stop=("token",)),
    )


def tokens_of(events: list[EngineEvent]) -> list[GeneratedToken]:
    return [token for event in events if isinstance(event, TokensGenerated) for token in event.tokens]


def text_of(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokensGenerated))


def test_the_answer_begins_with_them(pocket: Engine) -> None:
    events = list(pocket.generate(request(pocket)))
    plain = list(pocket.generate(request(pocket, n_prefilled=False)))
    begun = pocket.vocab.tokenize(BEGUN)
    tokens = tokens_of(events)
    assert [token.id for token in tokens] == begun + [token.id for token in tokens_of(plain)]
    assert [token.trace is None for token in tokens] == [index < len(begun) for index in range(len(tokens))]
    assert text_of(events) == BEGUN + text_of(plain)
    finished, other = events[-1], plain[-1]
    assert isinstance(finished, GenerationFinished) and isinstance(other, GenerationFinished)
    assert finished.usage.generated == other.usage.generated and finished.usage.prompt == other.usage.prompt
    assert finished.reason is other.reason


def test_an_answer_that_is_stopped_while_the_prompt_is_read_has_them_too(pocket: Engine) -> None:
    flag = CancelFlag()
    flag.set()
    events = list(pocket.generate(request(pocket), cancel=flag))
    assert text_of(events) == BEGUN
    assert isinstance(events[-1], GenerationFinished) and events[-1].reason is FinishReason.CANCELLED
