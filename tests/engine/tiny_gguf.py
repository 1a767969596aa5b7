"""Writes GGUF files of a few kilobytes that llama.cpp loads, for tests that then break them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, HEAD, FFN = 64, 2, 32, 96

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_tokens() -> list[str]:
    """The 256 single-byte tokens in the spelling of byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {byte: chr(byte) for byte in printable}
    rest = [byte for byte in range(256) if byte not in spelled]
    spelled |= {byte: chr(256 + index) for index, byte in enumerate(rest)}
    return [spelled[byte] for byte in range(256)]


def vocabulary() -> list[str]:
    return [*byte_tokens(), "he", "ll", *SPECIAL]


def write_tiny(
    path: Path,
    *,
    architecture: str = "qwen3",
    layers: int = 1,
    tokens: list[str] | None = None,
    tensors: bool = True,
    tokenizer: bool = True,
    extra: Mapping[str, object] | None = None,
    template: str | None = "{{ messages[0].content }}",
) -> Path:
    """Write a random-weight model, some 200 KB, to `path`; of another architecture only the header is right."""
    rng = np.random.default_rng(7)
    words = tokens or vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(words)
        writer.add_token_types([3 if word in SPECIAL else 1 for word in words])
        writer.add_token_merges(["h e", "l l"])
        writer.add_bos_token_id(len(words) - 3)
        writer.add_eos_token_id(len(words) - 1)
        writer.add_add_bos_token(False)
        if template is not None:
            writer.add_chat_template(template)
    for key, value in (extra or {}).items():
        _add(writer, key, value)

    if tensors:
        shapes = {
            "token_embd.weight": (len(words), WIDTH),
            "output_norm.weight": (WIDTH,),
        }
        for layer in range(layers):
            shapes |= {
                f"blk.{layer}.attn_norm.weight": (WIDTH,),
                f"blk.{layer}.attn_q.weight": (HEADS * HEAD, WIDTH),
                f"blk.{layer}.attn_k.weight": (HEADS * HEAD, WIDTH),
                f"blk.{layer}.attn_v.weight": (HEADS * HEAD, WIDTH),
                f"blk.{layer}.attn_output.weight": (WIDTH, HEADS * HEAD),
                f"blk.{layer}.attn_q_norm.weight": (HEAD,),
                f"blk.{layer}.attn_k_norm.weight": (HEAD,),
                f"blk.{layer}.ffn_norm.weight": (WIDTH,),
                f"blk.{layer}.ffn_gate.weight": (FFN, WIDTH),
                f"blk.{layer}.ffn_up.weight": (FFN, WIDTH),
                f"blk.{layer}.ffn_down.weight": (WIDTH, FFN),
            }
        for name, shape in shapes.items():
            writer.add_tensor(name, rng.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    """Add one key, with the width its name asks for; replaces what is there."""
    for shard in writer.kv_data:
        shard.pop(key, None)
    match value:
        case bool():
            writer.add_bool(key, value)
        case str():
            writer.add_string(key, value)
        case float():
            writer.add_float32(key, value)
        case int() if key.startswith("split.") and key != "split.tensors.count":
            writer.add_uint16(key, value)
        case int() if key == "split.tensors.count":
            writer.add_int32(key, value)
        case int():
            writer.add_uint32(key, value)
        case list():
            writer.add_array(key, value)
        case _:
            raise TypeError(key)
