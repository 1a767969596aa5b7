"""The gpt2 architecture: LayerNorm, a table of positions, GELU, biases (Radford et al., 2019).

llama.cpp runs it under the same name. Letters in the comments: B rows of a batch, T tokens of a row, C width, H heads,
D width of a head, F width inside the feed-forward, V size of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)

from tui_chat.checkpoints.positions import sinusoidal_table
from tui_chat.checkpoints.shape import ModelShape, Positions
from tui_chat.errors import UsageError
from tui_chat.training.attention import KVCache, attend, merge_heads, split_heads
from tui_chat.training.first_weights import set_first_weights


class Gpt2(nn.Module):
    """Reads token ids and scores every possible next token.

    Args:
        shape: The sizes, of the architecture gpt2.
        seed: Of the first weights.
        dropout: Share of the embeddings, attention weights and layer outputs put to zero while training.
    """

    def __init__(self, shape: ModelShape, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        if shape.positions is Positions.LEARNED:
            self.positions = nn.Embedding(shape.context, shape.width)
        else:
            self.positions = FixedPositions(shape.context, shape.width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.n_layers))
        self.norm = LayerNorm(shape.width, shape.norm_eps)
        self.head = None if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=False)
        set_first_weights(self, shape.n_layers, seed)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of every next token.

        Args:
            ids: (B, T) int64.
            cache: What was read before `ids`; it grows by them.

        Returns:
            (B, T, V), nats; row t scores the token after `ids[:, t]`.

        Raises:
            UsageError: The tokens go beyond the table of positions.
        """
        start = cache.n_tokens if cache is not None else 0
        end = start + ids.shape[1]
        if end > self.shape.context:
            raise UsageError(
                f"{end} tokens do not fit into the model's {self.shape.context} positions: "
                "shorten the text, or train with a larger --context"
            )
        places = torch.arange(start, end, device=ids.device)  # (T,)
        x = self.dropout(self.embedding(ids) + self.positions(places))  # (B, T) -> (B, T, C)
        for block in self.blocks:
            x = block(x, cache)
        scores = self.embedding.weight if self.head is None else self.head.weight  # (V, C)
        return F.linear(self.norm(x), scores)  # (B, T, C) -> (B, T, V)

    @property
    def n_parameters(self) -> int:
        """Learnt numbers; the table shared by input and output counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


class FixedPositions(nn.Module):
    """Sines and cosines for every place: nothing to learn, and nothing to save."""

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        table = torch.tensor(sinusoidal_table(context, width))
        self.register_buffer("table", table, persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        """(T,) int64 to (T, C)."""
        return self.table[places]


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to what came in."""

    def __init__(self, shape: ModelShape, dropout: float) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(shape.width, shape.norm_eps)
        self.attention = Attention(shape, dropout)
        self.ffn_norm = LayerNorm(shape.width, shape.norm_eps)
        self.ffn = FeedForward(shape)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cache))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class Attention(nn.Module):
    """Each token looks back at the tokens before it, in several heads."""

    def __init__(self, shape: ModelShape, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = shape.n_heads, dropout
        self.q = nn.Linear(shape.width, shape.width)
        self.k = nn.Linear(shape.width, shape.width)
        self.v = nn.Linear(shape.width, shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        q = split_heads(self.q(x), self.n_heads)  # (B, T, C) -> (B, H, T, D)
        k = split_heads(self.k(x), self.n_heads)  # (B, T, C) -> (B, H, T, D)
        v = split_heads(self.v(x), self.n_heads)  # (B, T, C) -> (B, H, T, D)
        if cache is not None:
            k, v = cache.extend(self, k, v)  # (B, H, T, D) -> (B, H, tokens so far, D)
        mixed = attend(q, k, v, self.dropout if self.training else 0.0)  # (B, H, T, D)
        return self.out(merge_heads(mixed))  # (B, H, T, D) -> (B, T, C)


class FeedForward(nn.Module):
    """Two matrices with a soft threshold between them (Hendrycks and Gimpel, 2016: GELU)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.width, shape.ffn_width)
        self.down = nn.Linear(shape.ffn_width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        # The approximation by tanh, because llama.cpp (ggml_gelu) computes that one.
        features = F.gelu(self.up(x), approximate="tanh")  # (B, T, C) -> (B, T, F)
        return self.down(features)  # (B, T, F) -> (B, T, C)


class LayerNorm(nn.LayerNorm):
    """Brings a vector to mean 0 and variance 1, then scales and shifts each element (Ba et al., 2016)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Norm over the last dimension, computed in float32."""
        return super().forward(x.float()).to(x.dtype)
