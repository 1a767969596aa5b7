"""What a training tells: events as the loop sends them, and the JSON lines they become."""

from __future__ import annotations

from typing import Any

from tests.cli.trained import SHAPE
from tui_chat.checkpoints.facts import CheckpointFacts, Progress
from tui_chat.training.config import TrainConfig
from tui_chat.training.events import (
    GENERATION,
    MODEL,
    TOKENIZER,
    TRAINING,
    Event,
    Finished,
    Progressed,
    Sampled,
    Saved,
    StageBegan,
)

NUMBER = {"type": ["number", "null"]}


def _line(event: str, **properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["event", *properties],
        "properties": {"event": {"const": event}, **properties},
    }


LINE = {
    "oneOf": [
        _line("stage", stage={"type": "string"}, text={"type": "string"}),
        _line(
            "progress",
            step={"type": "integer"},
            n_steps={"type": "integer"},
            train_loss=NUMBER,
            validation_loss=NUMBER,
            perplexity=NUMBER,
            learning_rate=NUMBER,
            gradient_norm=NUMBER,
            tokens_per_s=NUMBER,
            seconds=NUMBER,
            seconds_left=NUMBER,
        ),
        _line("sample", step={"type": "integer"}, prompt={"type": "string"}, text={"type": "string"}),
        _line("checkpoint", step={"type": "integer"}, path={"type": "string"}, best={"type": "boolean"}),
        _line("finished", step={"type": "integer"}, path={"type": "string"}),
        _line("failed", step={"type": "integer"}, text={"type": "string"}),
        _line(
            "summary",
            state={"enum": ["finished", "stopped", "failed"]},
            name={"type": ["string", "null"]},
            path={"type": ["string", "null"]},
            checkpoint={"type": ["string", "null"]},
            go_on={"type": ["string", "null"]},
        ),
    ]
}


def progress(step: int, **changes: Any) -> Progress:
    values: dict[str, Any] = {
        "step": step,
        "n_steps": 200,
        "n_tokens": step * 64,
        "train_loss": 5.0 - step / 50,
        "learning_rate": 1e-3,
        "gradient_norm": 0.75,
        "tokens_per_s": 1234.0,
        "seconds": step / 10,
    }
    return Progress(**values | changes)


def facts_of(config: TrainConfig, step: int = 200) -> CheckpointFacts:
    return CheckpointFacts(
        path=config.out / f"step-{step:06d}",
        shape=SHAPE,
        progress=progress(step, validation_loss=1.5),
        best_validation_loss=1.5,
        corpus=config.corpus,
    )


def events_of(config: TrainConfig) -> list[Event]:
    """A whole training, as the loop would tell it."""
    facts = facts_of(config)
    return [
        StageBegan(TOKENIZER, "learning 512 tokens"),
        StageBegan(TOKENIZER, "512 tokens", {"vocab_size": 512, "merges": [["t", "h"], [" ", "the"]]}),
        StageBegan(MODEL, "29,344 parameters"),
        StageBegan(TRAINING, "200 steps"),
        Progressed(progress(100, validation_loss=3.2)),
        Sampled(100, "In the morning", " the sea\nthe\x1b[2J sea"),
        Saved(facts_of(config, 100), best=True),
        Progressed(progress(200)),
        Saved(facts, best=False),
        StageBegan(GENERATION, "after step 200"),
        Sampled(200, "In the morning", " Mara lights the oven."),
        Finished(facts),
    ]
