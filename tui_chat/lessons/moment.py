"""The next token of a conversation, about to be chosen: its distribution, and what each stage of the chain leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_chat.display.text import literal, piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import Choice, Sampler, softmax
from tui_chat.engine.types import Candidate, SamplingParams
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch


@dataclass(frozen=True, slots=True)
class View:
    """A distribution, best token first."""

    ids: NDArray[np.int64]
    """(n,) token ids."""
    logits: NDArray[np.float64]
    """(n,) nats, finite."""
    p: NDArray[np.float64]
    """(n,) probabilities; they sum to 1."""

    @property
    def entropy(self) -> float:
        """-sum p ln p, nats."""
        return entropy(self.p)


@dataclass(frozen=True, slots=True)
class Moment:
    """The next token of a conversation, about to be chosen."""

    engine: Engine
    params: SamplingParams
    ids: tuple[int, ...]
    """The prompt."""
    logits: NDArray[np.float32]
    """(n_vocab,) after the last of `ids`."""
    dropped: int = 0
    """Messages that have no room in the prompt."""

    def chain(self, always: Sequence[str] = ()) -> tuple[list[tuple[str, View]], Choice]:
        """What each stage leaves, beginning with the whole vocabulary (""), and the token that is chosen.

        Args:
            always: Stages to report even where they do nothing.

        Raises:
            SamplingError: Nothing is left to draw from.
        """
        n_vocab, n_ctx = len(self.logits), self.engine.context.n_ctx
        sampler = Sampler(self.params, n_vocab, n_ctx, self.ids, always, vocab=self.engine.vocab)
        try:
            choice = sampler.choose(self.logits, len(self.ids), show=-1, prefilter=False)
        finally:
            sampler.close()
        views = [("", raw_view(self.logits))]
        views += [(stage.name, _view(stage.candidates)) for stage in choice.stages]
        return views, choice

    def label(self, token: int) -> str:
        """A token as people read it."""
        return piece_label(self.engine.vocab.piece(int(token)))

    def quoted(self, token: int) -> str:
        """The same, to stand between backticks."""
        return literal(self.label(token))

    def document(self, token: int) -> dict[str, object]:
        """A token for machines."""
        return {"id": int(token), "text": self.label(token)}


def next_token(engine: Engine, watch: Watch, scene: Scene) -> Moment:
    """The first token of the answer to the last message of the user.

    Args:
        engine: Its cache stays as it is.
        watch: Stops it.
        scene: The conversation and the settings.

    Raises:
        PromptTooLongError: The last message alone does not fit into the context.
        SamplingError: The settings do not hold for this model.
        TemplateError: The template refuses the messages.
    """
    prompt, params = scene.unanswered().fitted(engine), scene.sampling(engine)
    with engine.aside(len(prompt.ids) + 1) as aside:
        return Moment(engine, params, prompt.ids, aside.logits(prompt.ids, watch.cancel), prompt.dropped)


def entropy(p: NDArray[np.float64]) -> float:
    """-sum p ln p of (n,) probabilities, nats (Shannon, A Mathematical Theory of Communication, 1948)."""
    some = p[p > 0]
    return max(0.0, float(-(some * np.log(some)).sum()))


def cooled(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(n,) probabilities at a temperature, of (n,) logits in nats; at 0 the best token has all."""
    if temperature == 0:
        p = np.zeros(len(logits))
        p[int(np.argmax(logits))] = 1.0
        return p
    return softmax(logits.astype(np.float64) / temperature)


def raw_view(logits: NDArray[np.float32]) -> View:
    """The whole of a raw distribution, of (n_vocab,) logits in nats."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    order = order[: np.count_nonzero(logits > -np.inf)]
    kept = logits[order].astype(np.float64)
    return View(order, kept, softmax(kept))


def _view(candidates: Sequence[Candidate]) -> View:
    return View(
        np.array([candidate.id for candidate in candidates], np.int64),
        np.array([candidate.logit for candidate in candidates], np.float64),
        np.array([candidate.p for candidate in candidates], np.float64),
    )
