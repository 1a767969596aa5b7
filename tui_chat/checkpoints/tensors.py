"""The parameters of a trained model under llama.cpp's names, in the layout its graphs expect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_chat.checkpoints.positions import sinusoidal_table
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
from tui_chat.checkpoints.weights import Weights

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a GGUF file."""

    name: str
    values: Array
    exact: bool
    """Whether it stays float32 in every file: norms, biases and tables of positions, small and sensitive."""


def parameter_shapes(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every learnt parameter, as the training names them; matrices are (rows out, columns in)."""
    c, kv, f = shape.width, shape.kv_width, shape.ffn_width
    llama = shape.arch is Architecture.LLAMA

    def matrix(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (rows, columns)
        if not llama:
            yield f"{name}.bias", (rows,)

    def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (width,)
        if not llama:
            yield f"{name}.bias", (width,)

    yield "embedding.weight", (shape.vocab_size, c)
    if shape.positions is Positions.LEARNED:
        yield "positions.weight", (shape.context, c)
    for block in (f"blocks.{index}" for index in range(shape.n_layers)):
        yield from norm(f"{block}.attention_norm", c)
        yield from matrix(f"{block}.attention.q", c, c)
        yield from matrix(f"{block}.attention.k", kv, c)
        yield from matrix(f"{block}.attention.v", kv, c)
        yield from matrix(f"{block}.attention.out", c, c)
        if shape.qk_norm:
            yield from norm(f"{block}.attention.q_norm", shape.head_width)
            yield from norm(f"{block}.attention.k_norm", shape.head_width)
        yield from norm(f"{block}.ffn_norm", c)
        if llama:
            yield from matrix(f"{block}.ffn.gate", f, c)
        yield from matrix(f"{block}.ffn.up", f, c)
        yield from matrix(f"{block}.ffn.down", c, f)
    yield from norm("norm", c)
    if not shape.tied:
        yield "head.weight", (shape.vocab_size, c)


def gguf_tensors(shape: ModelShape, weights: Weights) -> Iterator[Tensor]:
    """The tensors llama.cpp loads for the architecture `shape.gguf_architecture`.

    Args:
        shape: The sizes.
        weights: Every parameter of `parameter_shapes`.
    """
    yield Tensor("token_embd.weight", weights["embedding.weight"], exact=False)
    if shape.positions is Positions.LEARNED:
        yield Tensor("position_embd.weight", weights["positions.weight"], exact=True)
    elif shape.positions is Positions.SINUSOIDAL:
        yield Tensor("position_embd.weight", sinusoidal_table(shape.context, shape.width), exact=True)
    block = _llama_block if shape.arch is Architecture.LLAMA else _gpt2_block
    for index in range(shape.n_layers):
        prefix = f"blocks.{index}."
        own = {name.removeprefix(prefix): values for name, values in weights.items() if name.startswith(prefix)}
        for tensor in block(shape, own):
            yield Tensor(f"blk.{index}.{tensor.name}", tensor.values, tensor.exact)
    yield from _with_bias("output_norm", "norm", weights, exact=True)
    if not shape.tied:
        # Without it llama.cpp takes the table of tokens, for both architectures.
        yield Tensor("output.weight", weights["head.weight"], exact=False)


def _llama_block(shape: ModelShape, own: Weights) -> Iterator[Tensor]:
    yield Tensor("attn_norm.weight", own["attention_norm.weight"], exact=True)
    for letter, n_heads in (("q", shape.n_heads), ("k", shape.n_kv_heads)):
        rows = own[f"attention.{letter}.weight"]
        # The architecture "llama" turns neighbours, "qwen3" the halves of a head, as the training does.
        values = pair_neighbours(rows, n_heads) if shape.gguf_architecture == "llama" else rows
        yield Tensor(f"attn_{letter}.weight", values, exact=False)
    yield Tensor("attn_v.weight", own["attention.v.weight"], exact=False)
    yield Tensor("attn_output.weight", own["attention.out.weight"], exact=False)
    if shape.qk_norm:
        yield Tensor("attn_q_norm.weight", own["attention.q_norm.weight"], exact=True)
        yield Tensor("attn_k_norm.weight", own["attention.k_norm.weight"], exact=True)
    yield Tensor("ffn_norm.weight", own["ffn_norm.weight"], exact=True)
    for name in ("gate", "up", "down"):
        yield Tensor(f"ffn_{name}.weight", own[f"ffn.{name}.weight"], exact=False)


def _gpt2_block(_: ModelShape, own: Weights) -> Iterator[Tensor]:
    yield from _with_bias("attn_norm", "attention_norm", own, exact=True)
    for part in ("weight", "bias"):
        fused = np.concatenate([own[f"attention.{letter}.{part}"] for letter in "qkv"])
        yield Tensor(f"attn_qkv.{part}", fused, exact=part == "bias")
    yield from _with_bias("attn_output", "attention.out", own)
    yield from _with_bias("ffn_norm", "ffn_norm", own, exact=True)
    yield from _with_bias("ffn_up", "ffn.up", own)
    yield from _with_bias("ffn_down", "ffn.down", own)


def _with_bias(name: str, ours: str, weights: Weights, *, exact: bool = False) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", weights[f"{ours}.weight"], exact)
    if f"{ours}.bias" in weights:
        yield Tensor(f"{name}.bias", weights[f"{ours}.bias"], exact=True)


def pair_neighbours(rows: Array, n_heads: int) -> Array:
    """Reorder the rows of q or k so that what was turned as (i, i + D/2) of a head is turned as (2i, 2i + 1).

    The products of queries and keys stay the same, since both are reordered alike
    (`LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py).
    """
    half = rows.shape[0] // n_heads // 2
    return rows.reshape(n_heads, 2, half, -1).swapaxes(1, 2).reshape(rows.shape)
