"""What a training tells while it runs. Nothing here needs PyTorch.

`as_json` gives the lines of `progress.jsonl` and of `tui-chat train --json`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tui_chat.checkpoints.facts import CheckpointFacts, Progress

CORPUS, TOKENIZER, DATA, MODEL, TRAINING, GENERATION = (
    "corpus",
    "tokenizer",
    "data",
    "model",
    "training",
    "generation",
)
"""Stages in the order in which they come."""


@dataclass(frozen=True, slots=True)
class StageBegan:
    """A stage began, or has something more to tell: what comes later replaces what was said of the same stage."""

    stage: str
    text: str
    """A line for people."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines, as plain JSON values. Keys by stage, where the figures are known:

    corpus: `kind`, `name`, `sha256`; tokenizer: `vocab_size`, `merges` (the first ones, pairs of texts); data:
    `n_rows`, `n_tokens`, `n_validation_rows`, `row_lengths`; model: `arch`, `n_parameters`, `flops_per_token`,
    `memory_bytes`; training: `n_steps`, `device`, `precision`, `compiled`, `rows_per_pass`, `passes_per_step`,
    `processes`.
    """

    def as_json(self) -> dict[str, Any]:
        """One line of the record."""
        return {"event": "stage", "stage": self.stage, "text": self.text, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class Progressed:
    """Some steps were done."""

    progress: Progress

    def as_json(self) -> dict[str, Any]:
        """One line of the record."""
        more = {"perplexity": self.progress.perplexity, "seconds_left": self.progress.seconds_left}
        return {"event": "progress", **_finite({**asdict(self.progress), **more})}


@dataclass(frozen=True, slots=True)
class Sampled:
    """The model wrote something after one of the fixed prompts."""

    step: int
    prompt: str
    text: str
    """Only what the model wrote. Data: nothing in it is markup."""

    def as_json(self) -> dict[str, Any]:
        """One line of the record."""
        return {"event": "sample", "step": self.step, "prompt": self.prompt, "text": self.text}


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint was written."""

    facts: CheckpointFacts
    best: bool
    """Whether it has the lowest validation loss of its run so far."""

    def as_json(self) -> dict[str, Any]:
        """One line of the record."""
        return {"event": "checkpoint", "step": self.facts.step, "path": str(self.facts.path), "best": self.best}


@dataclass(frozen=True, slots=True)
class Finished:
    """The last step is done and saved."""

    facts: CheckpointFacts

    def as_json(self) -> dict[str, Any]:
        """One line of the record; the figures are those of the last checkpoint."""
        facts = self.facts
        figures = {
            "loss": facts.loss,
            "perplexity": facts.progress.perplexity,
            "train_loss": facts.progress.train_loss,
            "validation_loss": facts.progress.validation_loss,
            "best_validation_loss": facts.best_validation_loss,
            "n_tokens": facts.progress.n_tokens,
            "seconds": facts.progress.seconds,
            "n_parameters": facts.shape.n_parameters,
        }
        return {"event": "finished", "step": facts.step, "path": str(facts.path), **_finite(figures)}


@dataclass(frozen=True, slots=True)
class Failed:
    """The training cannot go on; the same text is in the error that is raised after this."""

    step: int
    text: str

    def as_json(self) -> dict[str, Any]:
        """One line of the record."""
        return {"event": "failed", "step": self.step, "text": self.text}


Event = StageBegan | Progressed | Sampled | Saved | Finished | Failed
"""Anything a training tells."""


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no word for infinity and for what is not a number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
