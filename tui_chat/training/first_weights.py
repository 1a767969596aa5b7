"""The weights a training begins with."""

from __future__ import annotations

import math

import torch
from torch import nn

STANDARD_DEVIATION = 0.02
"""Of every matrix and table (Radford et al., 2019: GPT-2)."""


def set_first_weights(model: nn.Module, n_layers: int, seed: int) -> None:
    """Draw the matrices of `model`, in the order of their names, from a generator of their own; biases become zero.

    Norms keep their ones. What is added to the residual stream 2 `n_layers` times is made smaller, so that the sum
    keeps its size (GPT-2).

    Args:
        model: Changed in place; matrices named `out` and `down` write to the residual stream.
        n_layers: Layers of it.
        seed: The same weights for the same seed, whatever else has drawn random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    shrink = 1.0 / math.sqrt(2 * n_layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                std = STANDARD_DEVIATION * (shrink if name.endswith(("out.weight", "down.weight")) else 1.0)
                parameter.normal_(0.0, std, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
