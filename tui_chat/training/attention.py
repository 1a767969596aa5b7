"""Causal attention: every token looks back at itself and at the tokens before it.

Written out once in plain steps, to be read, and once through PyTorch's fused kernel, to be run. Letters in the
comments: B rows of a batch, T new tokens of a row, S tokens seen so far (T and what a cache holds), H heads of queries,
K heads of keys and values, D width of a head, C width of the model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)


def attend_written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores, mask, softmax, mix (Vaswani et al., 2017: equation 1), each on its own line.

    Args:
        q: Queries of the new tokens, (B, H, T, D).
        k: Keys of all tokens so far, (B, K, S, D); the last T belong to the new ones. H is a multiple of K.
        v: Their values, (B, K, S, D).

    Returns:
        (B, H, T, D): for each new token the mean of the values it sees, weighted by how well query and key agree.
    """
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])  # (B, H, S, D) each
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    scores = scores.masked_fill(~visible(q.shape[2], k.shape[2], q.device), -math.inf)
    weights = scores.softmax(dim=-1)  # (B, H, T, S), a row sums to 1
    return weights @ v  # (B, H, T, D)


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """What `attend_written_out` computes, in one kernel that never keeps all scores (Dao et al., 2022: FlashAttention).

    Args:
        q: (B, H, T, D).
        k: (B, K, S, D).
        v: (B, K, S, D).
        dropout: Share of the weights that become zero, the others growing to make up for it.

    Returns:
        (B, H, T, D).
    """
    n_new, n_seen = q.shape[2], k.shape[2]
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])  # (B, H, S, D) each
    # The kernel's own causal mask is the fastest, but it takes the first new token for the first of all. A single
    # new token sees everything and needs no mask.
    mask = visible(n_new, n_seen, q.device) if 1 < n_new < n_seen else None
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=n_new == n_seen)


def visible(n_new: int, n_seen: int, device: torch.device) -> Tensor:
    """(T, S) of truth values: whether the new token t, which is token S - T + t of all, may look at token s."""
    return torch.ones(n_new, n_seen, dtype=torch.bool, device=device).tril(n_seen - n_new)


def share_heads(x: Tensor, n_heads: int) -> Tensor:
    """Let each head of keys or values serve its group of query heads (Ainslie et al., 2023): (B, K, S, D) to
    (B, H, S, D), each head repeated H / K times in a row."""
    return x if x.shape[1] == n_heads else x.repeat_interleave(n_heads // x.shape[1], dim=1)


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, H * D) to (B, H, T, D)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) to (B, T, H * D)."""
    return x.transpose(1, 2).flatten(2)


class KVCache:
    """Keys and values of the tokens read so far, so that a next token needs only its own work."""

    def __init__(self) -> None:
        self._layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @property
    def n_tokens(self) -> int:
        """Tokens whose keys and values are kept."""
        return next((keys.shape[2] for keys, _ in self._layers.values()), 0)

    def extend(self, layer: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values (B, K, T, D) of `layer`; returns all of them (B, K, S, D), old ones first."""
        if layer in self._layers:
            old_k, old_v = self._layers[layer]
            k, v = torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2)
        self._layers[layer] = (k, v)
        return k, v
