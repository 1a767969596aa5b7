"""What checkpoints and trained model files say of themselves, as JSON documents of the commands that show them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_chat.errors import ModelFileError, ModelNotFoundError

if TYPE_CHECKING:
    from tui_chat.checkpoints.facts import CheckpointFacts
    from tui_chat.engine.gguf.header import GgufHeader

Document = dict[str, Any]

TRAINING_KEYS = "training."
"""What the metadata keys of a GGUF file begin with that say how it was trained."""


def checkpoint_document(facts: CheckpointFacts, *, metadata: bool = False) -> Document:
    """A checkpoint's figures; with `metadata` also how it was trained."""
    from tui_chat.checkpoints.facts import WEIGHTS

    progress = facts.progress
    document: Document = {
        "path": str(facts.path),
        "size_bytes": _size(facts.path / WEIGHTS),
        "quantization": "F32",
        "architecture": facts.shape.arch.value,
        "n_parameters": facts.shape.n_parameters,
        "kind": facts.kind,
        "step": facts.step,
        "n_steps": progress.n_steps,
        "n_tokens": progress.n_tokens,
        "loss": _finite(facts.loss),
        "train_loss": _finite(progress.train_loss),
        "validation_loss": _finite(progress.validation_loss),
        "perplexity": None if _finite(facts.loss) is None else progress.perplexity,
        "created": facts.created,
    }
    if metadata:
        document["metadata"] = metadata_document(facts)
    return document


def metadata_document(facts: CheckpointFacts) -> Document:
    """How a checkpoint was trained: corpus, seed, time, speed and every setting."""
    progress = facts.progress
    told = {
        "corpus": facts.corpus,
        "corpus_sha256": facts.corpus_sha256,
        "seed": facts.seed,
        "seconds": progress.seconds,
        "tokens_per_s": progress.tokens_per_s,
        "learning_rate": progress.learning_rate,
        "gradient_norm": progress.gradient_norm,
        "best_validation_loss": facts.best_validation_loss,
        "row_lengths": list(facts.row_lengths),
    }
    # The settings know the highest learning rate, not the present one.
    return told | {
        "highest_learning_rate" if name == "learning_rate" else name: value for name, value in facts.settings.items()
    }


def trained_document(header: GgufHeader) -> Document:
    """The training facts in a GGUF file's metadata, without the beginning of their keys; empty where it has none."""
    return {
        key.removeprefix(TRAINING_KEYS): value
        for key, value in header.metadata.items()
        if key.startswith(TRAINING_KEYS) and isinstance(value, str | int | float)
    }


def described_checkpoint(facts: CheckpointFacts) -> Document:
    """All that a checkpoint says of itself, in the words of a GGUF file's document.

    Raises:
        ModelFileError: Its weights or its tokenizer cannot be read.
    """
    from tui_chat.checkpoints.runs import run_name
    from tui_chat.checkpoints.template import template_of

    shape, figures = facts.shape, checkpoint_document(facts, metadata=True)
    return {
        "format": "checkpoint",
        "name": f"{run_name(facts.path)}/{facts.path.name}",
        **{key: figures[key] for key in ("path", "size_bytes", "architecture", "quantization", "n_parameters")},
        "sizes": {
            "layers": shape.n_layers,
            "width": shape.width,
            "heads": shape.n_heads,
            "kv_heads": shape.n_kv_heads,
            "ffn": shape.ffn_width,
            "context": shape.context,
            "vocab": shape.vocab_size,
        },
        "positions": shape.positions.value,
        "tied": shape.tied,
        "qk_norm": shape.qk_norm,
        "tensors": _tensor_types(facts.path),
        "tokenizer": _tokenizer(facts),
        "chat_template": template_of(facts.kind),
        "training": {key: figures[key] for key in _TRAINED} | figures["metadata"],
    }


_TRAINED = (
    "kind",
    "step",
    "n_steps",
    "n_tokens",
    "loss",
    "train_loss",
    "validation_loss",
    "perplexity",
    "created",
)


def _tensor_types(checkpoint: Path) -> list[Document]:
    import safetensors

    from tui_chat.checkpoints.facts import WEIGHTS

    path, types = checkpoint / WEIGHTS, dict[str, Document]()
    try:
        with safetensors.safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118 (not a mapping)
                part = weights.get_slice(name)
                kind, n = part.get_dtype(), math.prod(part.get_shape())
                entry = types.setdefault(kind, {"type": kind, "count": 0, "size_bytes": 0, "n_parameters": 0})
                entry["count"] += 1
                entry["n_parameters"] += n
                entry["size_bytes"] += n * (4 if kind == "F32" else 2)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{checkpoint} holds no {WEIGHTS}: use another checkpoint") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelFileError(f"the weights cannot be read ({error}): use another checkpoint", path=path) from error
    return sorted(types.values(), key=lambda entry: -int(entry["size_bytes"]))


def _tokenizer(facts: CheckpointFacts) -> Document:
    from tui_chat.checkpoints.vocabulary import read_vocabulary

    vocabulary = read_vocabulary(facts.path, facts.shape.vocab_size, facts.kind)
    special = {"bos": vocabulary.end_of_text, "eos": vocabulary.end_of_answer, "pad": vocabulary.end_of_text}
    return {
        "model": "gpt2",
        "pre": vocabulary.pre_tokenizer,
        "n_tokens": len(vocabulary.tokens),
        "n_merges": len(vocabulary.merges),
        "special": {name: {"id": token, "text": vocabulary.tokens[token]} for name, token in special.items()},
    }


def _size(path: Path) -> int:
    try:
        return int(path.stat().st_size)
    except OSError:
        return 0


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
