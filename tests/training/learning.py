"""Trainings so small that some steps take less than a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from tui_chat.checkpoints.facts import CheckpointFacts, Progress
from tui_chat.checkpoints.shape import ModelShape
from tui_chat.training.config import Compile, Device, LossOn, Precision, TrainConfig
from tui_chat.training.dialogue import Dialogue, Exchange
from tui_chat.training.events import Event, Progressed
from tui_chat.training.presets import DEMO_TEXT

SHAPE = ModelShape(vocab_size=300, width=32, n_layers=1, n_heads=2, n_kv_heads=2, ffn_width=64, context=64)


def text_config(out: Path, **changes: Any) -> TrainConfig:
    """Twelve steps on ten paragraphs."""
    config = TrainConfig(
        out=out,
        corpus=str(DEMO_TEXT),
        shape=SHAPE,
        steps=12,
        batch=8,
        length=32,
        stride=16,
        loss_on=LossOn.ALL,
        learning_rate=5e-3,
        warmup_steps=3,
        final_share=0.1,
        precision=Precision.FLOAT32,
        compile=Compile.OFF,
        device=Device.CPU,
        threads=1,
        report_every=1,
        validate_every=6,
        checkpoint_every=6,
        sample_every=6,
        sample_prompts=("When the bell",),
        sample_tokens=4,
    )
    if "epochs" in changes:
        changes.setdefault("steps", None)
    return replace(config, **changes)


Kind = TypeVar("Kind")


class Recorder(list[Event]):
    """Everything a training tells."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def progress(self) -> list[Progress]:
        """The reports."""
        return [event.progress for event in self if isinstance(event, Progressed)]

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind."""
        return [event for event in self if isinstance(event, kind)]


def facts_at(step: int, validation_loss: float | None = None, **changes: Any) -> CheckpointFacts:
    """Facts of a checkpoint that is yet to be saved."""
    progress = Progress(step=step, n_steps=100, n_tokens=step, train_loss=3.0, validation_loss=validation_loss)
    return CheckpointFacts(path=Path(), shape=changes.pop("shape", SHAPE), progress=progress, **changes)


class MadeUpGrammar:
    """Speaks as the grammar of the built-in corpus does, of things that never change."""

    def __init__(self, sources: object = None) -> None:
        pass

    def dialogue(self, rng: Random) -> Dialogue:
        """Up to three questions about numbers and things."""

        def exchange() -> Exchange:
            a, b = rng.randint(0, 50), rng.randint(0, 50)
            thing = rng.choice(("cat", "boat", "lamp", "river", "stone", "bread"))
            upto = a % 9 + 1
            told = f"The {thing} number {a} stands near the {thing} number {b}."
            counted = ", ".join(map(str, range(1, upto + 1))) + "."
            return rng.choice(
                (
                    Exchange("sum", f"What is {a} plus {b}?", f"It is {a + b}."),
                    Exchange("thing", f"Tell me about the {thing}.", told),
                    Exchange("count", f"Count to {upto}.", counted, think=f"Up to {upto}."),
                )
            )

        system = "Be brief." if rng.random() < 0.2 else None
        return Dialogue(tuple(exchange() for _ in range(rng.randint(1, 3))), system)

    def dialogues(self, seed: int, count: int) -> Any:
        """`count` of them."""
        rng = Random(seed)
        for _ in range(count):
            yield self.dialogue(rng)
