"""What changes the weights, AdamW or Muon with it, and a learning rate that rises, then falls along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tui_chat.training.config import OptimizerKind, TrainConfig

_TABLES = ("embedding", "positions")
"""Rows of these are looked up, most of them seldom: decay would wear them away while nobody reads them."""

_MOMENTUM = 0.95
_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of Jordan's iteration: it brings singular values between 0.7 and 1.2 fast instead of to 1 slowly."""
_RMS = 0.2
"""Root mean square of a usual step of AdamW, in learning rates."""

AddUp = Callable[[Sequence[Tensor]], None]
"""Replaces each tensor by its sum over all processes."""


class Muon(torch.optim.Optimizer):
    """Moves matrices by their averaged gradient with all singular values made alike (Jordan and others, 2024).

    What few examples ask for is so learnt as fast as what many share. The step is scaled to the size of AdamW's (Liu
    and others, 2025), so that one learning rate serves both. PyTorch has it too, computed in bfloat16, which is slow on
    processors without instructions for it, one matrix after the other, and in full by each process; here it is float32,
    all matrices of a shape at once, and each process computes a part.

    Args:
        matrices: (out, in) each.
        learning_rate: Highest.
        weight_decay: Per learning rate.
        rank: Of this process.
        size: Number of processes; all have the same gradients.
        add_up: Sums over them.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        rank: int = 0,
        size: int = 1,
        add_up: AddUp = lambda tensors: None,
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})
        self._rank, self._size, self._add_up = rank, size, add_up

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Change every matrix that has a gradient."""
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None]
            moves = [torch.zeros_like(p) for p in matrices]
            alike: dict[tuple[int, ...], list[int]] = {}
            for i, p in enumerate(matrices):
                average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - _MOMENTUM)
                if i % self._size == self._rank:
                    moves[i] = p.grad.lerp(average, _MOMENTUM)
                    alike.setdefault(tuple(p.shape), []).append(i)
            for shape, places in alike.items():
                scale = _RMS * math.sqrt(max(shape))
                for i, move in zip(places, orthogonal(torch.stack([moves[i] for i in places])), strict=True):
                    moves[i] = move * scale
            if moves:
                self._add_up(moves)
            for p, move in zip(matrices, moves, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(move, alpha=-group["lr"])


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the singular vectors of `matrices` (N, out, in) and singular values near 1 (Newton and Schulz)."""
    a, b, c = _QUINTIC
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x if wide else x.mT


class Optimizer:
    """One or two of PyTorch's optimizers as one.

    Args:
        parts: By name; none changes what another does.
    """

    def __init__(self, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of all parts."""
        return [group for part in self._parts.values() for group in part.param_groups]

    def step(self) -> None:
        """Change the weights by their gradients."""
        for part in self._parts.values():
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts.values():
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """To go on from; with one part it is that part's."""
        states = {name: part.state_dict() for name, part in self._parts.items()}
        return states if len(states) > 1 else next(iter(states.values()))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name] if len(self._parts) > 1 else state)


def build_optimizer(
    model: nn.Module, config: TrainConfig, rank: int = 0, size: int = 1, add_up: AddUp = lambda tensors: None
) -> Optimizer:
    """For matrices with decay, for tables, norms and biases without: AdamW (Loshchilov and Hutter, 2019), or Muon.

    Args:
        model: Whose weights to change.
        config: How.
        rank: Of this process.
        size: Number of processes.
        add_up: Sums over them.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() == 2 and not name.startswith(_TABLES)
        (matrices if is_matrix else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    parts: dict[str, torch.optim.Optimizer] = {}
    if config.optimizer is OptimizerKind.MUON:
        parts["muon"] = Muon(matrices, config.learning_rate, config.weight_decay, rank, size, add_up)
    else:
        groups.insert(0, {"params": matrices, "weight_decay": config.weight_decay})
    parts["adamw"] = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    return Optimizer(parts)


def learning_rate_at(config: TrainConfig, step: int, n_steps: int) -> float:
    """Learning rate of step `step`, from 0: a straight rise, then half a cosine down to `final_share`."""
    warmup = min(config.warmup_steps, n_steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, n_steps - warmup)
    share = config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * share
