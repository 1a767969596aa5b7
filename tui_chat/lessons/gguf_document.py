"""What a GGUF file says of itself, as the JSON document of `tui-chat info` and `/checkpoint`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tui_chat.engine.gguf import GgufHeader, read_header, read_strings, split_paths
from tui_chat.engine.gguf.header import GgufValue
from tui_chat.lessons.checkpoint_documents import trained_document

Document = dict[str, Any]

_SIZES = {
    "block_count": "layers",
    "embedding_length": "width",
    "attention.head_count": "heads",
    "attention.head_count_kv": "kv_heads",
    "feed_forward_length": "ffn",
    "context_length": "context",
}
"""End of a metadata key to the option of `train` for it."""

_SPECIAL = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id", "unk": "unknown_token_id"}


def gguf_document(path: Path) -> Document:
    """Everything in front of the weights of the file at `path`, and of the model's other files beside it.

    Raises:
        ModelFileError: It is not a whole GGUF file.
    """
    parts = model_parts(path)
    header = parts[0]
    tensors = tensor_types(parts)
    return {
        "format": "gguf",
        "name": header.name,
        "path": str(header.path),
        **({"parts": {"present": len(parts), "of": header.integer("split.count")}} if _is_split(header) else {}),
        "size_bytes": sum(part.size_bytes for part in parts),
        "architecture": header.architecture,
        "quantization": tensors[0]["type"] if tensors else "",
        "n_parameters": sum(part.n_params for part in parts),
        "sizes": dict(_sizes(header)),
        "tensors": tensors,
        "tokenizer": _tokenizer(header),
        "chat_template": header.text("tokenizer.chat_template"),
        "training": trained_document(header) or None,
        "metadata": {key: _plain(value) for key, value in header.metadata.items()},
    }


def model_parts(path: Path) -> list[GgufHeader]:
    """The header of a model's file; of a split model, those of all its files that are there, the given one first.

    Raises:
        ModelFileError: One is not a whole GGUF file.
    """
    header = read_header(path)
    paths = split_paths(path, header.integer("split.count") or 0) if _is_split(header) else None
    return [header, *(read_header(other) for other in paths or [] if other != path and other.is_file())]


def _is_split(header: GgufHeader) -> bool:
    return (header.integer("split.count") or 0) > 1


def _sizes(header: GgufHeader) -> Iterator[tuple[str, int]]:
    for key, name in _SIZES.items():
        value = header.integer(f"{header.architecture}.{key}")
        if value is not None:
            yield name, value
    if tokens := header.array("tokenizer.ggml.tokens"):
        yield "vocab", tokens.length


def tensor_types(parts: Sequence[GgufHeader]) -> list[Document]:
    """Tensors, numbers and bytes by the type they are stored in, the one that takes most bytes first."""
    count, size_bytes, elements = Counter[str](), Counter[str](), Counter[str]()
    for tensor in (tensor for part in parts for tensor in part.tensors):
        name = tensor.type.name
        count[name] += 1
        size_bytes[name] += tensor.size_bytes
        elements[name] += tensor.size_bytes // tensor.type.block_bytes * tensor.type.block_elements
    return [
        {"type": name, "count": count[name], "size_bytes": total, "n_parameters": elements[name]}
        for name, total in size_bytes.most_common()
    ]


def _tokenizer(header: GgufHeader) -> Document:
    tokens, merges = header.array("tokenizer.ggml.tokens"), header.array("tokenizer.ggml.merges")
    return {
        "model": header.text("tokenizer.ggml.model"),
        "pre": header.text("tokenizer.ggml.pre"),
        "n_tokens": tokens.length if tokens else 0,
        "n_merges": merges.length if merges else 0,
        "special": _special(header),
    }


def _special(header: GgufHeader) -> Document:
    ids = {name: header.integer(f"tokenizer.ggml.{key}") for name, key in _SPECIAL.items()}
    tokens = header.array("tokenizer.ggml.tokens")
    if tokens is None:
        return {}
    texts = read_strings(header.path, tokens)
    return {
        name: {"id": token, "text": texts[token].decode("utf-8", "replace") if token < len(texts) else None}
        for name, token in ids.items()
        if token is not None and token >= 0
    }


def _plain(value: GgufValue) -> object:
    if isinstance(value, str | int | float):
        return value
    return list(value.values) if value.values else {"items": value.length, "type": value.item_type}
