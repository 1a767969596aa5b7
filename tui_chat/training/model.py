"""The decoder: rotary positions, RMSNorm, SwiGLU, normed queries and keys, one table for tokens in and scores out.

It is the architecture llama.cpp calls "qwen3", so an exported model runs there as it is. Letters in the comments:
B rows of a batch, T tokens of a row, C width, H heads, D width of a head, F width inside the feed-forward, V size of
the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a model. Width must be divisible by heads, and the width of a head by two."""

    vocab_size: int = 2560
    width: int = 192
    n_layers: int = 6
    n_heads: int = 6
    ffn_width: int = 512
    context: int = 2048
    """Longest context the model promises to run at; rotary positions need no table of it."""
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.width % self.n_heads or (self.width // self.n_heads) % 2:
            raise ValueError(f"width {self.width} must be an even multiple of n_heads {self.n_heads}")

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.n_heads


class KVCache:
    """Keys and values of the tokens read so far, so that a next token needs only its own work."""

    def __init__(self) -> None:
        self._layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @property
    def n_tokens(self) -> int:
        """Tokens whose keys and values are kept."""
        return next((keys.shape[2] for keys, _ in self._layers.values()), 0)

    def extend(self, layer: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values (B, H, T, D) of `layer`; returns all of them, old ones first."""
        if layer in self._layers:
            old_k, old_v = self._layers[layer]
            k, v = torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2)
        self._layers[layer] = (k, v)
        return k, v


class RMSNorm(nn.Module):
    """Scales a vector to unit mean square, then each element by a learnt factor (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Norm over the last dimension, computed in float32."""
        x32 = x.float()
        scaled = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight).to(x.dtype)


def rotary_angles(positions: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles at `positions` (T,): (T, D/2) each (Su et al., 2021: RoFormer)."""
    pairs = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[:, None] * base ** (-pairs / head_width)  # (T, D/2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) of `x` (B, H, T, D) by its position's angle: llama.cpp's "neox" layout."""
    first, second = x.float().chunk(2, dim=-1)  # (B, H, T, D/2) each
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


class Attention(nn.Module):
    """Each token looks back at the tokens before it, in several heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self.n_heads, self.head_width = config.width, config.n_heads, config.head_width
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_norm = RMSNorm(self.head_width, config.norm_eps)
        self.k_norm = RMSNorm(self.head_width, config.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        q = rotate(self.q_norm(self._heads(self.q(x))), cos, sin)  # (B, H, T, D)
        k = rotate(self.k_norm(self._heads(self.k(x))), cos, sin)  # (B, H, T, D)
        v = self._heads(self.v(x))  # (B, H, T, D)
        if cache is not None:
            k, v = cache.extend(self, k, v)  # (B, H, tokens so far, D)
        # A single new token may see everything there is.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] == k.shape[2])  # (B, H, T, D)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.head_width)).transpose(1, 2)  # (B, T, C) -> (B, H, T, D)


class FeedForward(nn.Module):
    """SwiGLU: a gate decides how much of each feature passes (Shazeer, 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.ffn_width, bias=False)
        self.up = nn.Linear(config.width, config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C), through (B, T, F)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to what came in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.width, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        return x + self.ffn(self.ffn_norm(x))


class Decoder(nn.Module):
    """Reads token ids and scores every possible next token.

    Args:
        config: The shape.
        seed: Of the first weights.
    """

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self._first_weights(seed)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of every next token.

        Args:
            ids: (B, T) int64; a single token a row where `cache` holds something already.
            cache: What was read before `ids`; it grows by them.

        Returns:
            (B, T, V), nats; row t scores the token after `ids[:, t]`.
        """
        x = self.embedding(ids)  # (B, T, C)
        start = cache.n_tokens if cache is not None else 0
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)  # (T,)
        cos, sin = rotary_angles(positions, self.config.head_width, self.config.rope_base)
        for block in self.blocks:
            x = block(x, cos, sin, cache)
        return F.linear(self.norm(x), self.embedding.weight)  # (B, T, V)

    @property
    def n_parameters(self) -> int:
        """Learnt numbers; the table shared by input and output counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _first_weights(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        # What is added to the residual stream 2 L times is made smaller, so that the sum keeps its size (GPT-2).
        shrink = 1.0 / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                std = 0.02 * (shrink if name.endswith(("out.weight", "down.weight")) else 1.0)
                with torch.no_grad():
                    parameter.normal_(0.0, std, generator=generator)
