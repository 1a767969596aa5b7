"""How a model is trained: one value that says it all. Nothing here needs PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.shape import ModelShape, Positions
from tui_chat.errors import UsageError
from tui_chat.training.tokenizer import PreTokenizer

BUILTIN = "builtin"
"""Name of the corpus that comes with the program."""


class LossOn(StrEnum):
    """Which tokens of a conversation the loss is made of. Of a text it is always all."""

    ALL = "all"
    """Every token alike: pre-training."""
    ASSISTANT = "assistant"
    """What the assistant says, and with `prompt_weight` what it is told: instruction tuning."""


class Precision(StrEnum):
    """Numbers the forward pass computes with; the weights are always float32."""

    AUTO = "auto"
    """bfloat16 where the device has instructions for it: it is very slow elsewhere."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Device(StrEnum):
    """Where a training computes."""

    AUTO = "auto"
    """CUDA, else MPS, else the processor."""
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class OptimizerKind(StrEnum):
    """What changes the matrices; all else is AdamW's."""

    ADAMW = "adamw"
    MUON = "muon"
    """Learns more from a step of as many tokens; the step takes somewhat longer."""


class Compile(StrEnum):
    """Whether the model is translated into machine code of its own before it is trained."""

    AUTO = "auto"
    """Where that works and the training is long enough to win back the time it takes."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Raises:
        UsageError: A setting is out of range or two do not fit together; the text names the option.
    """

    out: Path
    """The run: folder for checkpoints, the record and the lock."""
    corpus: str = BUILTIN
    """A text file, a folder, a .jsonl file of conversations, or "builtin"."""
    preset: str = ""
    """Where these settings came from, for people."""
    shape: ModelShape = field(default_factory=ModelShape)
    """With the vocabulary that is wished for; a small text may give a smaller one."""
    pre_tokenizer: PreTokenizer = PreTokenizer.QWEN2

    steps: int | None = None
    """Either this or `epochs`."""
    epochs: float | None = None
    """Passes over all rows."""
    batch: int = 12
    """Rows of `length` in one pass, over all processes. Long rows are fewer, so that a step has as many tokens."""
    accumulate: int = 1
    """Passes whose gradients are added up to one step."""
    length: int = 256
    """Tokens of a row."""
    long_length: int = 0
    """Tokens of a row in the last part of the training (conversations only); 0 for none."""
    long_share: float = 0.15
    """Share of the steps, at the end, that read long rows, where there are any."""
    stride: int = 0
    """Tokens from one window of a text to the next; 0 for as many as a row has, so that none overlap."""
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    """At most half of all steps."""
    final_share: float = 0.02
    """Learning rate of the last step as a share of the highest."""
    weight_decay: float = 0.1
    """Of the matrices; tables of embeddings, norms and biases have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    """Longest gradient; a longer one is made as long as this."""
    dropout: float = 0.0
    seed: int = 1
    """Of the corpus's split, the order of rows, the first weights and the dropout."""
    loss_on: LossOn = LossOn.ASSISTANT
    prompt_weight: float = 0.1
    """Loss weight of tokens a model is given. Not 0: it could not continue a user's text at all."""
    opening_weight: float = 1.0
    """Loss weight of the first `OPENING` tokens of an answer that is only begun: they decide about the others."""

    precision: Precision = Precision.AUTO
    compile: Compile = Compile.AUTO
    device: Device = Device.AUTO
    processes: int = 1
    """More than one splits every batch. Under `torchrun` its number of processes counts instead."""
    threads: int = 0
    """Of each process; 0 shares the cores among the processes."""

    report_every: int = 20
    validate_every: int = 250
    checkpoint_every: int = 250
    """A checkpoint is always validated too."""
    sample_every: int = 250
    sample_prompts: tuple[str, ...] = ()
    """What the model continues, or answers, as it learns; empty takes some from the corpus."""
    sample_tokens: int = 40
    """Most tokens of a sample."""
    validation_share: float = 0.1
    """Of a user's corpus, kept out of the training."""
    validation_rows: int = 0
    """Most rows a validation reads; 0 for all."""
    n_dialogues: int = 240_000
    """Training dialogues the grammar of the built-in corpus makes, all different."""
    n_validation: int = 1_500
    """Validation dialogues of the built-in corpus, before those the training has too are taken out."""

    resume: bool = False
    """Go on from the newest checkpoint in `out`."""
    start_from: Path | None = None
    """Begin with the weights and the tokenizer of this checkpoint; `shape` is the checkpoint's. With `resume` the run's
    own checkpoint comes first."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("a training ends after a number of steps or of epochs: give --steps or --epochs, not both")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"{_option(name)} is {value}: it must be {least:g} or more")
            if value is not None and value > (most := _MOST.get(name, _MOST_OF_ANYTHING)):
                raise UsageError(f"{_option(name)} is {value}: it must be {most:,} or less")
        for name in ("epochs", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            most = _MOST.get(name, float("inf"))
            if value is not None and not (0 < value <= most and value < float("inf")):
                limit = f", and {most:,} or less" if most < float("inf") else " and finite"
                raise UsageError(f"{_option(name)} is {value}: it must be more than 0{limit}")
        for name in ("final_share", "long_share", "dropout", "prompt_weight"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "dropout" and value == 1):
                raise UsageError(f"{_option(name)} is {value}: it is a share, from 0 up to 1")
        if not 0 < self.validation_share < 1:
            raise UsageError(f"--validation-share is {self.validation_share}: it is a share between 0 and 1")
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"the betas {self.betas} of AdamW must be from 0 up to 1, without 1")
        if self.stride > self.length:
            raise UsageError(
                f"a stride of {self.stride} would pass over text between rows of {self.length} tokens: "
                f"use --stride {self.length} or less"
            )
        longest = max(self.row_lengths)
        if self.start_from is None and self.shape.positions is Positions.LEARNED and longest > self.shape.context:
            raise UsageError(
                f"rows of {longest} tokens do not fit into the {self.shape.context} positions of the model: "
                f"use --context {longest}"
            )

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """Lengths of the rows in the order in which they are trained on."""
        return (self.length, self.long_length) if self.long_length and self.long_share else (self.length,)

    @property
    def tokens_per_step(self) -> int:
        """Of one step, over all passes and processes, padding counted."""
        return self.batch * self.accumulate * self.length

    def settings(self) -> dict[str, Any]:
        """Everything but where it is and how it began, as plain JSON values for a checkpoint's facts."""
        values = asdict(self)
        for name in ("out", "resume"):
            del values[name]
        values["start_from"] = None if self.start_from is None else str(self.start_from)
        values |= {name: list(values[name]) for name in ("betas", "sample_prompts")}
        return values


_LEAST: Mapping[str, float] = {
    "steps": 1,
    "batch": 1,
    "accumulate": 1,
    "length": 2,
    "long_length": 0,
    "stride": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "opening_weight": 1,
    "seed": 0,
    "processes": 1,
    "threads": 0,
    "report_every": 1,
    "validate_every": 1,
    "checkpoint_every": 1,
    "sample_every": 1,
    "sample_tokens": 1,
    "validation_rows": 0,
    "n_dialogues": 1,
    "n_validation": 1,
}

_MOST_OF_ANYTHING = 10**9

_MOST: Mapping[str, float] = {
    "steps": 10**12,
    "epochs": 10**6,
    "weight_decay": 1000,
    "opening_weight": 1000,
    # The seeds of the dropout are made of it and must be numbers PyTorch takes.
    "seed": 2**32 - 1,
    "processes": 1024,
    "threads": 1024,
}

_OPTIONS = {"length": "--context", "learning_rate": "--lr", "warmup_steps": "--warmup", "clip_norm": "--clip"}


def _option(name: str) -> str:
    return _OPTIONS.get(name, "--" + name.replace("_", "-"))


def is_main_process() -> bool:
    """Whether this process reports and saves; of those that `torchrun` starts only one does."""
    return os.environ.get("RANK", "0") == "0"


def config_of(facts: CheckpointFacts, out: Path | None = None) -> TrainConfig:
    """The settings a checkpoint was trained with, to go on with them.

    Args:
        facts: Of the checkpoint.
        out: The run; the folder the checkpoint lies in where none is given.

    Raises:
        UsageError: They were not written by a training of this program.
    """
    known = {f.name for f in fields(TrainConfig)}
    values = {name: value for name, value in facts.settings.items() if name in known}
    try:
        shape = dict(values.pop("shape"))
        values["shape"] = ModelShape(**shape | {"arch": facts.shape.arch, "positions": facts.shape.positions})
        for name, kind in (
            ("pre_tokenizer", PreTokenizer),
            ("loss_on", LossOn),
            ("optimizer", OptimizerKind),
            ("precision", Precision),
            ("compile", Compile),
            ("device", Device),
            ("betas", tuple),
            ("sample_prompts", tuple),
        ):
            if name in values or name != "optimizer":  # older checkpoints do not know of it
                values[name] = kind(values[name])
        if values.get("start_from") is not None:
            values["start_from"] = Path(os.fspath(values["start_from"]))
        return TrainConfig(out=out or facts.path.parent, **values)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{facts.path}: the settings of the training cannot be read ({error})") from error
