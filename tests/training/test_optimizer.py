"""Muon: what it does to a matrix, alone and shared among processes, and that a training goes on from what it knew."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from hypothesis import given  # noqa: E402 (after the check for PyTorch)
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import Parameter  # noqa: E402

from tests.training.learning import SHAPE, text_config  # noqa: E402
from tui_chat.training.config import OptimizerKind, TrainConfig  # noqa: E402
from tui_chat.training.models import Model, build_model  # noqa: E402
from tui_chat.training.optimizer import Muon, Optimizer, build_optimizer, orthogonal  # noqa: E402

SHAPES = [(8, 8), (12, 8), (8, 12), (8, 8), (12, 8)]

MUON: TrainConfig = text_config(Path(), optimizer=OptimizerKind.MUON, weight_decay=0.2)


def matrices() -> list[Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(parameters: Sequence[Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@given(rows=st.integers(1, 24), columns=st.integers(1, 24), seed=st.integers(0, 1000), scale=st.floats(1e-4, 1e4))
def test_singular_values_become_alike_and_directions_stay(rows: int, columns: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    n = min(rows, columns)
    u, _ = torch.linalg.qr(torch.randn(rows, n, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, n, generator=generator, dtype=torch.float64))
    values = torch.linspace(1.0, 0.3, n, dtype=torch.float64) * scale
    result = orthogonal(((u * values) @ v.T).float()[None])[0].double()
    inner = u.T @ result @ v
    assert (inner.diagonal() > 0.6).all() and (inner.diagonal() < 1.3).all()
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3


def test_processes_that_share_the_work_do_what_one_does_alone() -> None:
    alone, first, second = matrices(), matrices(), matrices()
    met, given_up = threading.Barrier(2), [list[Tensor](), list[Tensor]()]

    def adds_up(rank: int, tensors: Sequence[Tensor]) -> None:
        given_up[rank] = [tensor.clone() for tensor in tensors]
        met.wait(timeout=30)
        for tensor, one, other in zip(tensors, *given_up, strict=True):
            tensor.copy_(one + other)
        met.wait(timeout=30)

    muon = Muon(alone, 0.01, 0.1)
    shared = [Muon(p, 0.01, 0.1, rank, 2, partial(adds_up, rank)) for rank, p in enumerate((first, second))]
    for step in range(4):
        for parameters in (alone, first, second):
            gradients(parameters, seed=step)
        muon.step()
        threads = [threading.Thread(target=one.step) for one in shared]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for one, other, another in zip(alone, first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        torch.testing.assert_close(one, another, rtol=0, atol=1e-6)


def test_a_step_is_as_large_as_one_of_adamw() -> None:
    (matrix,) = parameters = [Parameter(torch.zeros(48, 64))]
    gradients(parameters, seed=2)
    Muon(parameters, 0.01, 0.0).step()
    # Singular values near 1, times 0.2 √64: the root mean square of the elements is near 0.2 learning rates.
    assert float(matrix.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.25)


def test_only_matrices_are_muons() -> None:
    model = build_model(replace(SHAPE, tied=False))
    first, second = build_optimizer(model, MUON).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {p.dim() for p in first["params"]} == {2} and first["weight_decay"] == 0.2
    assert not [names[id(p)] for p in first["params"] if names[id(p)].startswith("embedding")]
    assert second["weight_decay"] == 0.0
    assert len(first["params"]) + len(second["params"]) == len(names)


def test_a_training_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    def steps(model: Model, optimizer: Optimizer, seeds: range) -> None:
        for seed in seeds:
            gradients(list(model.parameters()), seed)
            optimizer.step()
            optimizer.zero_grad()

    whole = build_model(SHAPE)
    steps(whole, build_optimizer(whole, MUON), range(4))
    begun = build_model(SHAPE)
    optimizer = build_optimizer(begun, MUON)
    steps(begun, optimizer, range(2))
    torch.save(optimizer.state_dict(), tmp_path / "state")
    again = build_optimizer(begun, MUON)
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    steps(begun, again, range(2, 4))
    for one, other in zip(whole.parameters(), begun.parameters(), strict=True):
        assert torch.equal(one, other)
