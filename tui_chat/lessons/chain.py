"""The sampler chain on a distribution of one's own: what each stage leaves, the draw, the pick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tui_chat.engine.sampling import Sampler
from tui_chat.engine.types import Candidate, SamplingParams, StageTrace
from tui_chat.errors import UsageError
from tui_chat.lessons.documents import candidate_document, stage_document


@dataclass(frozen=True, slots=True)
class ChainReport:
    """One run of the chain."""

    start: tuple[Candidate, ...]
    """The distribution as given, best first."""
    stages: tuple[StageTrace, ...]
    u: float | None
    picked: int

    @property
    def last_name(self) -> str:
        """Name of the block the pick was made from."""
        return self.stages[-1].name if self.stages else "start"

    def blocks(self) -> Iterator[StageTrace]:
        """The start and every stage."""
        yield StageTrace("start", len(self.start), self.start)
        yield from self.stages

    def as_dict(self) -> dict[str, object]:
        """The JSON document of `tui-chat sample --json`."""
        return {
            "stages": [stage_document(stage) for stage in self.stages],
            "u": self.u,
            "picked": self.picked,
            "start": [candidate_document(candidate) for candidate in self.start],
        }


def run_chain(
    logits: Sequence[float],
    params: SamplingParams,
    *,
    history: Sequence[int] = (),
    position: int = 0,
    always: Sequence[str] = (),
) -> ChainReport:
    """Sample once from any distribution.

    Args:
        logits: Of tokens 0, 1, 2, …, nats; -inf for tokens that cannot come.
        params: The chain.
        history: Tokens before, oldest first.
        position: Place in the context; part of the draw.
        always: Stages to report even where they do nothing.

    Raises:
        UsageError: There is no logit.
        SamplingError: Nothing is left to draw from.
    """
    if not logits:
        raise UsageError("the distribution is empty: give at least one token")
    array = np.array(logits, np.float32)
    window = max(len(logits), len(history), 1)
    neutral = Sampler(SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0), len(array), window, always=("top_k",))
    sampler = Sampler(params, len(array), window, history, always)
    try:
        start = neutral.choose(array, position, show=-1).stages[0].candidates
        choice = sampler.choose(array, position, show=-1)
    finally:
        neutral.close()
        sampler.close()
    return ChainReport(start, choice.stages, choice.u, choice.id)
