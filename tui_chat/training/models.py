"""A model for every shape."""

from __future__ import annotations

from typing import TypeAlias

from tui_chat.checkpoints.shape import Architecture, ModelShape
from tui_chat.training.gpt2 import Gpt2
from tui_chat.training.llama import Llama

Model: TypeAlias = Llama | Gpt2


def build_model(shape: ModelShape, seed: int = 0, dropout: float = 0.0) -> Model:
    """A model with first weights.

    Args:
        shape: Architecture and sizes.
        seed: Of the first weights.
        dropout: Share of the embeddings, attention weights and layer outputs put to zero while training, 0 to 1.

    Returns:
        The model, in training mode: call its `eval()` before reading logits.
    """
    if shape.arch is Architecture.LLAMA:
        return Llama(shape, seed, dropout)
    return Gpt2(shape, seed, dropout)
