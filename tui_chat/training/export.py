"""Checkpoint to GGUF: a file llama.cpp runs as it is.

The decoder is the architecture "qwen3" without a single permuted weight: its rotary layout and its norms on queries and
keys are the same. Matrices get the wished type; norms stay float32, as llama.cpp wants them.
"""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tui_chat.training.checkpoint import Checkpoint
from tui_chat.training.dialogue import CHAT_TEMPLATE, END_OF_TEXT, IM_END
from tui_chat.training.model import ModelConfig
from tui_chat.training.tokenizer import CONTROL_TOKENS, USER_DEFINED_TOKENS, token_id

ARCHITECTURE = "qwen3"


class FileType(StrEnum):
    """How the matrices of the file are stored."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"
    """8-bit whole numbers in groups of 32 with one 16-bit scale each."""


_GGML_TYPES = {
    FileType.F32: (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    FileType.F16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    FileType.Q8_0: (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}

_BLOCK_NAMES = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.q.weight": "attn_q.weight",
    "attention.k.weight": "attn_k.weight",
    "attention.v.weight": "attn_v.weight",
    "attention.out.weight": "attn_output.weight",
    "attention.q_norm.weight": "attn_q_norm.weight",
    "attention.k_norm.weight": "attn_k_norm.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "ffn.gate.weight": "ffn_gate.weight",
    "ffn.up.weight": "ffn_up.weight",
    "ffn.down.weight": "ffn_down.weight",
}


def export(checkpoint: Checkpoint, path: Path, file_type: FileType, *, name: str = "pocket") -> Path:
    """Write `checkpoint` as a GGUF file; `path` is replaced only when the new file is whole.

    Args:
        checkpoint: What to write.
        path: Where.
        file_type: How matrices are stored.
        name: Of the model, for people.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    writer = gguf.GGUFWriter(partial, ARCHITECTURE)
    _write_facts(writer, checkpoint, file_type, name)
    _write_shape(writer, checkpoint.config)
    _write_tokenizer(writer, checkpoint.tokenizer())
    for tensor_name, tensor in checkpoint.model().state_dict().items():
        data = tensor.numpy().astype(np.float32)
        stored, ggml_type = _stored(data, file_type)
        writer.add_tensor(gguf_name(tensor_name), stored, raw_dtype=ggml_type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(path)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
    return path


def gguf_name(name: str) -> str:
    """The name llama.cpp gives to the decoder's parameter `name`."""
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, index, rest = name.split(".", 2)
    return f"blk.{index}.{_BLOCK_NAMES[rest]}"


def _stored(data: npt.NDArray[np.float32], file_type: FileType) -> tuple[npt.NDArray[Any], gguf.GGMLQuantizationType]:
    if data.ndim == 1 or file_type is FileType.F32:
        return data, gguf.GGMLQuantizationType.F32
    ggml_type = _GGML_TYPES[file_type][0]
    return gguf.quants.quantize(data, ggml_type), ggml_type


def _write_facts(writer: gguf.GGUFWriter, checkpoint: Checkpoint, file_type: FileType, name: str) -> None:
    progress = checkpoint.progress
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_size_label(f"{round(checkpoint.model().n_parameters / 1e6)}M")
    writer.add_description("A small teaching model, trained from scratch on written dialogues")
    writer.add_license("mit")
    writer.add_languages(["en"])
    writer.add_file_type(_GGML_TYPES[file_type][1])
    if file_type is FileType.Q8_0:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    prefix = "tui_chat.training"
    writer.add_uint32(f"{prefix}.steps", progress.step)
    writer.add_uint64(f"{prefix}.tokens", progress.n_tokens)
    writer.add_float32(f"{prefix}.train_loss", progress.train_loss)
    if progress.validation_loss is not None:
        writer.add_float32(f"{prefix}.validation_loss", progress.validation_loss)
        writer.add_float32(f"{prefix}.validation_perplexity", math.exp(progress.validation_loss))
    writer.add_uint32(f"{prefix}.seed", checkpoint.seed)
    writer.add_string(f"{prefix}.corpus_sha256", checkpoint.corpus_sha256)
    # The context length is what the model runs at; this is what it has seen.
    writer.add_uint32(f"{prefix}.longest_row", max(checkpoint.trained_lengths))


def _write_shape(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    texts = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
    types = dict.fromkeys(CONTROL_TOKENS, gguf.TokenType.CONTROL)
    types |= dict.fromkeys(USER_DEFINED_TOKENS, gguf.TokenType.USER_DEFINED)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types([types.get(text, gguf.TokenType.NORMAL) for text in texts])
    writer.add_token_merges(merges)
    # llama.cpp takes id 11 where these are missing.
    writer.add_bos_token_id(token_id(tokenizer, END_OF_TEXT))
    writer.add_eos_token_id(token_id(tokenizer, IM_END))
    writer.add_pad_token_id(token_id(tokenizer, END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
