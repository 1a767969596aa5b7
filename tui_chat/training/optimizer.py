"""AdamW with decay for the matrices alone, and a learning rate that rises, then falls along a cosine."""

from __future__ import annotations

import math

import torch
from torch import nn

from tui_chat.training.config import TrainConfig

_TABLES = ("embedding", "positions")
"""Rows of these are looked up, most of them seldom: decay would wear them away while nobody reads them."""


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) in two groups: matrices with decay; tables, norms and biases without."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() == 2 and not name.startswith(_TABLES)
        (matrices if is_matrix else others).append(parameter)
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def learning_rate_at(config: TrainConfig, step: int, n_steps: int) -> float:
    """Learning rate of step `step`, from 0: a straight rise, then half a cosine down to `final_share`."""
    warmup = min(config.warmup_steps, n_steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, n_steps - warmup)
    share = config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * share
