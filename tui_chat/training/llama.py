"""The llama architecture: RMSNorm, rotary positions, SwiGLU, heads that share keys and values, no biases.

With normed queries and keys it is what llama.cpp calls "qwen3", without them "llama". Letters in the comments: B rows
of a batch, T tokens of a row, C width, H heads of queries, K heads of keys and values, D width of a head, F width
inside the feed-forward, V size of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)

from tui_chat.checkpoints.shape import ModelShape
from tui_chat.training.attention import KVCache, attend, merge_heads, split_heads
from tui_chat.training.first_weights import set_first_weights


class Llama(nn.Module):
    """Reads token ids and scores every possible next token.

    Args:
        shape: The sizes, of the architecture llama.
        seed: Of the first weights.
        dropout: Share of the embeddings, attention weights and layer outputs put to zero while training.
    """

    def __init__(self, shape: ModelShape, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.head = None if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=False)
        set_first_weights(self, shape.n_layers, seed)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of every next token.

        Args:
            ids: (B, T) int64.
            cache: What was read before `ids`; it grows by them.

        Returns:
            (B, T, V), nats; row t scores the token after `ids[:, t]`.
        """
        x = self.dropout(self.embedding(ids))  # (B, T) -> (B, T, C)
        start = cache.n_tokens if cache is not None else 0
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)  # (T,)
        cos, sin = rotary_angles(positions, self.shape.head_width, self.shape.rope_base)  # (T, D/2) each
        for block in self.blocks:
            x = block(x, cos, sin, cache)
        scores = self.embedding.weight if self.head is None else self.head.weight  # (V, C)
        return F.linear(self.norm(x), scores)  # (B, T, C) -> (B, T, V)

    @property
    def n_parameters(self) -> int:
        """Learnt numbers; the table shared by input and output counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to what came in."""

    def __init__(self, shape: ModelShape, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(shape.width, shape.norm_eps)
        self.attention = Attention(shape, dropout)
        self.ffn_norm = RMSNorm(shape.width, shape.norm_eps)
        self.ffn = FeedForward(shape)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin, cache))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class Attention(nn.Module):
    """Each token looks back at the tokens before it, in several heads; a group of them shares keys and values."""

    def __init__(self, shape: ModelShape, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.dropout = shape.n_heads, shape.n_kv_heads, dropout
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, shape.kv_width, bias=False)
        self.v = nn.Linear(shape.width, shape.kv_width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.q_norm = RMSNorm(shape.head_width, shape.norm_eps) if shape.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(shape.head_width, shape.norm_eps) if shape.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        q = self.q_norm(split_heads(self.q(x), self.n_heads))  # (B, T, C) -> (B, H, T, D)
        k = self.k_norm(split_heads(self.k(x), self.n_kv_heads))  # (B, T, C) -> (B, K, T, D)
        v = split_heads(self.v(x), self.n_kv_heads)  # (B, T, C) -> (B, K, T, D)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.extend(self, k, v)  # (B, K, T, D) -> (B, K, tokens so far, D)
        mixed = attend(q, k, v, self.dropout if self.training else 0.0)  # (B, H, T, D)
        return self.out(merge_heads(mixed))  # (B, H, T, D) -> (B, T, C)


class FeedForward(nn.Module):
    """SwiGLU: a gate decides how much of each feature passes (Shazeer, 2020)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.ffn_width, bias=False)
        self.up = nn.Linear(shape.width, shape.ffn_width, bias=False)
        self.down = nn.Linear(shape.ffn_width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        features = F.silu(self.gate(x)) * self.up(x)  # (B, T, C) -> (B, T, F)
        return self.down(features)  # (B, T, F) -> (B, T, C)


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
