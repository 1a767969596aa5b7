"""Trainings that are known to work, as they are or as a beginning. Nothing here needs PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
from tui_chat.training.config import BUILTIN, Compile, LossOn, OptimizerKind, TrainConfig
from tui_chat.training.tokenizer import PreTokenizer

DEMO_TEXT = Path(__file__).parent / "corpus" / "demo.txt"
"""Ten paragraphs that come with the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A training with a name."""

    name: str
    summary: str
    """What it makes, in a line for people."""
    corpus: str | None
    """Read where the user names none; None where the user must."""
    config: TrainConfig
    """All settings; `out` and, where the user must name it, `corpus` are yet to be filled in."""

    def configure(self, out: Path, corpus: str | None = None, **changes: Any) -> TrainConfig:
        """The preset's settings with the user's own.

        Args:
            out: The run.
            corpus: What to read instead of the preset's own corpus.
            changes: Fields of `TrainConfig` (steps or epochs replace whatever the preset has of the two) and of
                `ModelShape` (the rest of the shape follows: see `reshaped`). `context` is also the length of the rows.
                None for a field stands for the preset's value.

        Raises:
            UsageError: The settings do not hold.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        config = self.config
        if self.corpus is not None and corpus not in (None, self.corpus):
            # The prompts are beginnings of another text.
            changes.setdefault("sample_prompts", ())
        if "context" in changes:
            changes = {"length": changes["context"], "long_length": 0} | changes
            changes.setdefault("stride", min(config.stride, changes["length"]))
        if "steps" in changes:
            changes.setdefault("epochs", None)
        elif "epochs" in changes:
            changes["steps"] = None
        shape_changes = {name: changes.pop(name) for name in ModelShape.__dataclass_fields__ if name in changes}
        shape = reshaped(config.shape, **shape_changes) if shape_changes else config.shape
        return replace(config, out=out, corpus=corpus or self.corpus or config.corpus, shape=shape, **changes)


def reshaped(shape: ModelShape, **changes: Any) -> ModelShape:
    """`shape` with `changes`, and whatever else must follow for the sizes to fit together.

    Another architecture brings its own kind of positions and norms; other heads are as many for keys and values, unless
    those are given; another width keeps the proportion of the feed-forward part.

    Raises:
        UsageError: The sizes do not fit together.
    """
    arch = Architecture(changes.get("arch", shape.arch))
    if arch is not shape.arch:
        llama = arch is Architecture.LLAMA
        changes.setdefault("positions", Positions.ROTARY if llama else Positions.LEARNED)
        changes.setdefault("qk_norm", llama)
        changes.setdefault("norm_eps", 1e-6 if llama else 1e-5)
    heads = changes.get("n_heads", shape.n_heads)
    if arch is Architecture.GPT2 or heads % shape.n_kv_heads or shape.n_kv_heads == shape.n_heads:
        changes.setdefault("n_kv_heads", heads)
    if "width" in changes:
        # Matrices whose sides are multiples of 32 suit the kernels.
        wished = shape.ffn_width * changes["width"] / shape.width
        changes.setdefault("ffn_width", max(32, round(wished / 32) * 32))
    return replace(shape, **changes | {"arch": arch})


def tuning(start: CheckpointFacts, out: Path, corpus: str, **changes: Any) -> TrainConfig:
    """Settings of an instruction tuning: from the weights of a checkpoint, with a lower learning rate.

    Args:
        start: The checkpoint.
        out: The run.
        corpus: A .jsonl file of conversations or "builtin".
        changes: As for `Preset.configure`, without those of the shape.

    Raises:
        UsageError: The settings do not hold.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if "context" in changes:
        changes["length"] = changes.pop("context")
    if "steps" in changes:
        changes.setdefault("epochs", None)
    length = max(start.row_lengths, default=min(256, start.shape.context))
    values: dict[str, Any] = {
        "preset": "tune",
        "shape": start.shape,
        "epochs": 3.0,
        "length": length,
        "batch": max(1, 4096 // length),
        "learning_rate": 3e-4,
        "warmup_steps": 20,
        "final_share": 0.1,
        "loss_on": LossOn.ASSISTANT,
        "prompt_weight": 0.0,
        "validate_every": 100,
        "checkpoint_every": 100,
        "sample_every": 100,
        "validation_rows": 128,
        "start_from": start.path,
    }
    if start.settings.get("pre_tokenizer") in list(PreTokenizer):
        values["pre_tokenizer"] = PreTokenizer(start.settings["pre_tokenizer"])
    config = TrainConfig(out=out, corpus=corpus, **values | changes)
    return replace(config, shape=start.shape.reaching(max(config.row_lengths)))


def preset_for(corpus: str | None) -> str:
    """Name of the preset that suits a corpus when the user names none."""
    if corpus is None:
        return "demo"
    if corpus == BUILTIN:
        return "pocket"
    return "chat" if Path(corpus).suffix.lower() in (".jsonl", ".ndjson") else "story"


_NOWHERE = Path()

_DEMO = TrainConfig(
    out=_NOWHERE,
    preset="demo",
    corpus=str(DEMO_TEXT),
    shape=ModelShape(vocab_size=512, width=128, n_layers=4, n_heads=4, n_kv_heads=4, ffn_width=352, context=128),
    steps=300,
    batch=16,
    length=64,
    stride=16,
    loss_on=LossOn.ALL,
    learning_rate=2e-3,
    warmup_steps=20,
    final_share=0.1,
    compile=Compile.OFF,
    # Some 40 seconds on one core. Two threads would need half of that, but many minutes where something else computes.
    threads=1,
    report_every=10,
    validate_every=50,
    checkpoint_every=100,
    sample_every=50,
    sample_prompts=("When the bell rings,", "In the morning Mara", "Old Piet", "At night Tom"),
    sample_tokens=24,
)

_TINY = replace(
    _DEMO,
    preset="tiny",
    shape=ModelShape(vocab_size=300, width=32, n_layers=2, n_heads=2, n_kv_heads=2, ffn_width=64, context=64),
    steps=60,
    batch=8,
    length=32,
    stride=16,
    learning_rate=5e-3,
    warmup_steps=5,
    validate_every=20,
    checkpoint_every=20,
    sample_every=20,
    sample_prompts=("When the bell rings,", "Old Piet"),
    sample_tokens=16,
)

_STORY = TrainConfig(
    out=_NOWHERE,
    preset="story",
    shape=ModelShape(width=256, n_layers=6, n_heads=8, n_kv_heads=4, ffn_width=704, context=256),
    epochs=10.0,
    batch=16,
    length=256,
    loss_on=LossOn.ALL,
    learning_rate=1.5e-3,
    warmup_steps=100,
    final_share=0.1,
    dropout=0.1,
    validation_rows=128,
    sample_tokens=60,
)

_GPT2 = replace(
    _STORY,
    preset="gpt2",
    shape=ModelShape(
        arch=Architecture.GPT2,
        width=256,
        n_layers=6,
        n_heads=8,
        n_kv_heads=8,
        ffn_width=1024,
        context=256,
        positions=Positions.LEARNED,
        norm_eps=1e-5,
        qk_norm=False,
    ),
    pre_tokenizer=PreTokenizer.GPT2,
    learning_rate=1e-3,
)

_POCKET = TrainConfig(
    out=_NOWHERE,
    preset="pocket",
    steps=6_500,
    batch=12,
    length=256,
    long_length=512,
    optimizer=OptimizerKind.MUON,
    opening_weight=4.0,
    learning_rate=4e-3,
    warmup_steps=200,
    n_dialogues=340_000,
    processes=2,
    compile=Compile.ON,
    report_every=25,
    validate_every=500,
    checkpoint_every=500,
    sample_every=500,
    sample_prompts=("What is a token?", "Write a haiku about rain.", "What is 7 + 5?"),
    sample_tokens=60,
)

_CHAT = replace(
    _POCKET,
    preset="chat",
    steps=None,
    epochs=5.0,
    long_length=0,
    processes=1,
    compile=Compile.AUTO,
    optimizer=OptimizerKind.ADAMW,
    opening_weight=1.0,
    dropout=0.1,
    learning_rate=2e-3,
    warmup_steps=100,
    final_share=0.1,
    validate_every=250,
    checkpoint_every=250,
    sample_every=250,
    sample_prompts=(),
    validation_rows=128,
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="demo",
            summary="a model of a million parameters learns ten paragraphs by heart, in about a minute",
            corpus=str(DEMO_TEXT),
            config=_DEMO,
        ),
        Preset(
            name="tiny",
            summary="a model of some thousand parameters, in seconds: to try things out",
            corpus=str(DEMO_TEXT),
            config=_TINY,
        ),
        Preset(
            name="story",
            summary="a model of five million parameters that continues texts like yours",
            corpus=None,
            config=_STORY,
        ),
        Preset(
            name="gpt2",
            summary="the same with the architecture of GPT-2",
            corpus=None,
            config=_GPT2,
        ),
        Preset(
            name="chat",
            summary="a model of three million parameters that answers as in your conversations",
            corpus=None,
            config=_CHAT,
        ),
        Preset(
            name="pocket",
            summary="the built-in model, from the written corpus: well over an hour on two cores",
            corpus=BUILTIN,
            config=_POCKET,
        ),
    )
}
"""Every preset by its name."""
