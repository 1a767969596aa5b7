"""What a checkpoint says of itself: a JSON file beside the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
from tui_chat.errors import UsageError

WEIGHTS, TOKENIZER, OPTIMIZER, FACTS = "model.safetensors", "tokenizer.json", "optimizer.pt", "checkpoint.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is and how well it does. Losses are nats a token."""

    step: int
    n_steps: int
    n_tokens: int
    """Predicted tokens so far, padding not counted."""
    train_loss: float
    """Mean since the last report, over the tokens the model is to write itself."""
    validation_loss: float | None = None
    """Mean over such tokens of texts it is not trained on, where it was measured at this step."""
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    """Before clipping."""
    tokens_per_s: float = 0.0
    seconds: float = 0.0
    """Spent in training, over all resumptions."""

    @property
    def perplexity(self) -> float:
        """Of the validation loss where there is one, else of the training loss."""
        loss = self.train_loss if self.validation_loss is None else self.validation_loss
        return math.exp(min(loss, 700.0))

    @property
    def seconds_left(self) -> float:
        """Until the last step, at the mean speed so far."""
        return self.seconds / max(1, self.step) * (self.n_steps - self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """A saved state of a training, as its JSON file tells it."""

    path: Path
    """Folder of the checkpoint; not part of the file."""
    shape: ModelShape
    progress: Progress
    best_validation_loss: float | None = None
    """Lowest so far in its run, this checkpoint included."""
    seed: int = 0
    corpus: str = ""
    """What was read, for people: a path, or "builtin"."""
    corpus_sha256: str = ""
    kind: str = "text"
    """"text" for a model that continues text, "chat" for one that answers."""
    row_lengths: tuple[int, ...] = ()
    """Row lengths the training used, in tokens."""
    created: str = ""
    """When it was saved, ISO 8601 with the time zone."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every other setting of the training, as plain JSON values."""

    @property
    def step(self) -> int:
        """Steps done."""
        return self.progress.step

    @property
    def loss(self) -> float:
        """Validation loss where there is one, else training loss."""
        return self.progress.train_loss if self.progress.validation_loss is None else self.progress.validation_loss

    def to_json(self) -> dict[str, Any]:
        """As plain values, without the path."""
        values = asdict(self)
        del values["path"]
        return {"version": 1, **values}

    def write(self, directory: Path) -> None:
        """Write the file into `directory`."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        (directory / FACTS).write_text(text, encoding="utf-8")


def read_facts(path: Path) -> CheckpointFacts:
    """The facts of the checkpoint in the folder `path`.

    Raises:
        UsageError: There is no checkpoint there, or its facts cannot be read.
    """
    file = path / FACTS
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values.pop("version")
        if version != 1:
            raise UsageError(f"{file}: format {version} is newer than this program; update tui-chat")
        shape, progress = values.pop("shape"), values.pop("progress")
        shape |= {"arch": Architecture(shape["arch"]), "positions": Positions(shape["positions"])}
        row_lengths = tuple(map(whole, values.pop("row_lengths")))
        for kind, given in ((ModelShape, shape), (Progress, progress), (CheckpointFacts, values)):
            _check_types(kind, given)
        return CheckpointFacts(
            path=path, shape=ModelShape(**shape), progress=Progress(**progress), row_lengths=row_lengths, **values
        )
    except UsageError as error:
        if str(file) in str(error):
            raise
        raise UsageError(f"{file}: the checkpoint's facts do not hold ({error})") from error
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no checkpoint here; give a folder a training wrote to") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file}: the checkpoint's facts cannot be read ({error})") from error


_TYPES: Mapping[object, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "bool": bool,
    "str": str,
    "Mapping[str, Any]": dict,
}
"""What JSON has for a field, by the field's annotation."""


def _check_types(kind: type[ModelShape | Progress | CheckpointFacts], values: Mapping[str, Any]) -> None:
    for known in fields(kind):
        if known.name not in values or known.type not in _TYPES:
            continue
        value = values[known.name]
        if not isinstance(value, _TYPES[known.type]) or (isinstance(value, bool) and known.type != "bool"):
            raise TypeError(f"{known.name} is {value!r:.40}")


def whole(value: Any) -> int:
    """`value`, where it is a whole number; otherwise a TypeError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r:.40} is not a whole number")
    return value
