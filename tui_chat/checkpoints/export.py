"""Checkpoint to GGUF: a file that llama.cpp runs as it is."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gguf
import numpy.typing as npt
from gguf.quants import QuantError

from tui_chat.checkpoints.facts import WEIGHTS, CheckpointFacts
from tui_chat.checkpoints.file_type import FileType as FileType
from tui_chat.checkpoints.shape import Architecture, ModelShape
from tui_chat.checkpoints.template import template_of
from tui_chat.checkpoints.tensors import Tensor, gguf_tensors, parameter_shapes
from tui_chat.checkpoints.unwritten import why_unwritten
from tui_chat.checkpoints.vocabulary import Vocabulary, read_vocabulary
from tui_chat.checkpoints.weights import Weights, read_weights
from tui_chat.errors import ModelFileError, StorageError, UsageError

_GGML_TYPES = {
    FileType.F32: (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    FileType.F16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    FileType.Q8_0: (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


def export(facts: CheckpointFacts, path: Path, file_type: FileType, *, name: str) -> Path:
    """Write a checkpoint as a GGUF file; `path` is replaced only when the new file is whole.

    What the checkpoint says of its training goes into the file's metadata, under `training.*`.

    Args:
        facts: The checkpoint.
        path: Where to.
        file_type: How matrices are stored; those whose rows do not fit its groups are stored as F16.
        name: Of the model, for people.

    Returns:
        `path`.

    Raises:
        UsageError: This type is not written here: Q4_K_M is made by llama.cpp from an F32 file; or `path` is no file.
        ModelError: The checkpoint is gone, damaged, or does not hold what its facts say.
        StorageError: The file cannot be written.
    """
    if file_type not in _GGML_TYPES:
        raise UsageError(f"{file_type} is made from an F32 file: export that first, then quantize it")
    target = replaceable(path)
    weights = read_weights(facts.path)
    _check(facts, weights)
    vocabulary = read_vocabulary(facts.path, facts.shape.vocab_size, facts.kind)
    with _replacing(target) as partial:
        writer = gguf.GGUFWriter(partial, facts.shape.gguf_architecture)
        try:
            _write_facts(writer, facts, file_type, name)
            _write_shape(writer, facts.shape)
            _write_vocabulary(writer, vocabulary)
            writer.add_chat_template(template_of(facts.kind))
            for tensor in gguf_tensors(facts.shape, weights):
                stored, ggml_type = _stored(tensor, file_type)
                writer.add_tensor(tensor.name, stored, raw_dtype=ggml_type)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return path


def replaceable(path: Path) -> Path:
    """The file that `path` means, links followed; it need not exist.

    Raises:
        UsageError: Something is there that is no regular file: a device, a pipe, a folder.
        StorageError: The place cannot be looked at.
    """
    try:
        target = path.resolve()
        taken = target.exists() and not target.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"{path} cannot be written ({reason}): choose another place") from error
    if taken:
        raise UsageError(f"{path} is there and no regular file, so it is not replaced: choose another place")
    return target


def _check(facts: CheckpointFacts, weights: Weights) -> None:
    """Refuse weights that are not those of the shape."""
    expected = dict(parameter_shapes(facts.shape))
    path = facts.path / WEIGHTS
    for name, shape in expected.items():
        if name not in weights:
            raise ModelFileError(f"it lacks {name}, which the checkpoint's facts ask for", path=path)
        if weights[name].shape != shape:
            raise ModelFileError(f"{name} has the shape {weights[name].shape}, not {shape}", path=path)
    surplus = sorted(weights.keys() - expected.keys())
    if surplus:
        raise ModelFileError(f"it holds {surplus[0]}, which the checkpoint's facts do not name", path=path)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` if all goes well and is gone if not."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        reason, remedy = why_unwritten(path.parent, error)
        raise StorageError(
            f"{path} cannot be written, because {reason}: {f'{remedy}, or ' if remedy else ''}choose another place"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _stored(tensor: Tensor, file_type: FileType) -> tuple[npt.NDArray[Any], gguf.GGMLQuantizationType]:
    ggml_type = gguf.GGMLQuantizationType.F32 if tensor.exact else _GGML_TYPES[file_type][0]
    try:
        return gguf.quants.quantize(tensor.values, ggml_type), ggml_type
    except QuantError:  # a row is no whole number of groups
        half = gguf.GGMLQuantizationType.F16
        return gguf.quants.quantize(tensor.values, half), half


def _write_facts(writer: gguf.GGUFWriter, facts: CheckpointFacts, file_type: FileType, name: str) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_size_label(_size_label(facts.shape.n_parameters))
    writer.add_description("A small language model, trained from scratch with tui-chat")
    if facts.corpus == "builtin":
        writer.add_license("mit")
        writer.add_languages(["en", "es", "pt"])
    writer.add_file_type(_GGML_TYPES[file_type][1])
    if file_type is FileType.Q8_0:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in training_facts(facts).items():
        _add(writer, f"training.{key}", value)


def training_facts(facts: CheckpointFacts) -> dict[str, str | int | float]:
    """What an exported file says of its training, by the names behind `training.`; losses are nats a token."""
    progress = facts.progress
    known: dict[str, str | int | float | None] = {
        "step": progress.step,
        "steps": progress.n_steps,
        "tokens": progress.n_tokens,
        "loss": facts.loss,
        "perplexity": progress.perplexity,
        "train_loss": progress.train_loss,
        "validation_loss": progress.validation_loss,
        "best_validation_loss": facts.best_validation_loss,
        "tokens_per_second": progress.tokens_per_s,
        "seconds": progress.seconds,
        "seed": facts.seed,
        "corpus": facts.corpus,
        "corpus_sha256": facts.corpus_sha256,
        "kind": facts.kind,
        # The context length is what the model runs at; this is what it has seen.
        "longest_row": max(facts.row_lengths, default=None),
        "created": facts.created,
        "settings": json.dumps(dict(facts.settings), ensure_ascii=False, sort_keys=True) if facts.settings else None,
    }
    return {key: value for key, value in known.items() if value is not None and value != ""}


_FLOATS = {"loss", "perplexity", "tokens_per_second", "seconds"}


def _add(writer: gguf.GGUFWriter, key: str, value: str | int | float) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif key.rpartition(".")[2] in _FLOATS or key.endswith("_loss"):
        writer.add_float64(key, float(value))
    else:
        writer.add_int64(key, int(value))


def _size_label(n_parameters: int) -> str:
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if n_parameters >= limit:
            short = n_parameters / limit
            return f"{short:.1f}{letter}" if short < 10 else f"{math.floor(short + 0.5)}{letter}"
    return str(n_parameters)


def _write_shape(writer: gguf.GGUFWriter, shape: ModelShape) -> None:
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.ffn_width)
    writer.add_head_count(shape.n_heads)
    if shape.arch is Architecture.GPT2:
        writer.add_layer_norm_eps(shape.norm_eps)
        return
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)


def _write_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types([kind.value for kind in vocabulary.kinds])
    writer.add_token_merges(list(vocabulary.merges))
    # llama.cpp takes id 11 where these are missing.
    writer.add_bos_token_id(vocabulary.end_of_text)
    writer.add_eos_token_id(vocabulary.end_of_answer)
    writer.add_pad_token_id(vocabulary.end_of_text)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
