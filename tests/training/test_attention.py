"""Attention: the fused kernel computes the written formula, and a cache changes nothing but the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tui_chat.training.attention import (  # noqa: E402 (after the check for PyTorch)
    KVCache,
    attend,
    attend_written_out,
    merge_heads,
    share_heads,
    split_heads,
    visible,
)

if TYPE_CHECKING:
    from torch import Tensor


def random_heads(n_heads: int, n_tokens: int, *, seed: int, rows: int = 2, width: int = 8) -> Tensor:
    return torch.randn(rows, n_heads, n_tokens, width, generator=torch.Generator().manual_seed(seed))


def test_a_token_sees_itself_and_what_came_before() -> None:
    assert visible(3, 3, torch.device("cpu")).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert visible(2, 5, torch.device("cpu")).int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert visible(1, 4, torch.device("cpu")).int().tolist() == [[1, 1, 1, 1]]


def test_two_tokens_by_hand() -> None:
    q = torch.tensor([[[[2.0], [3.0]]]])  # one row, one head, two tokens, width 1
    k = torch.tensor([[[[1.0], [2.0]]]])
    v = torch.tensor([[[[10.0], [20.0]]]])
    second = torch.tensor([3.0, 6.0]).softmax(0) @ torch.tensor([10.0, 20.0])
    expected = torch.tensor([10.0, float(second)])
    for function in (attend_written_out, attend):
        assert torch.allclose(function(q, k, v).flatten(), expected, atol=1e-5)


def test_equal_scores_give_the_mean_of_all_that_is_seen() -> None:
    q, k = torch.zeros(1, 1, 4, 8), random_heads(1, 4, seed=0, rows=1)
    v = torch.arange(4.0).view(1, 1, 4, 1)
    for function in (attend_written_out, attend):
        assert torch.allclose(function(q, k, v).flatten(), torch.tensor([0.0, 0.5, 1.0, 1.5]), atol=1e-6)


@settings(max_examples=40)
@given(
    groups=st.integers(1, 4),
    n_kv_heads=st.integers(1, 3),
    n_new=st.integers(1, 9),
    n_past=st.integers(0, 7),
    seed=st.integers(0, 1_000),
)
def test_fused_equals_written_out(groups: int, n_kv_heads: int, n_new: int, n_past: int, seed: int) -> None:
    q = random_heads(groups * n_kv_heads, n_new, seed=seed)
    k = random_heads(n_kv_heads, n_past + n_new, seed=seed + 1)
    v = random_heads(n_kv_heads, n_past + n_new, seed=seed + 2)
    assert torch.allclose(attend(q, k, v), attend_written_out(q, k, v), atol=1e-5)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_fused_gradients_equal_written_out(n_kv_heads: int) -> None:
    def gradients(written_out: bool) -> list[Tensor]:
        heads = (4, n_kv_heads, n_kv_heads)
        q, k, v = (random_heads(n, 11, seed=i).requires_grad_() for i, n in enumerate(heads))
        mixed = attend_written_out(q, k, v) if written_out else attend(q, k, v)
        (mixed * random_heads(4, 11, seed=9)).sum().backward()
        return [q.grad, k.grad, v.grad]

    for ours, expected in zip(gradients(False), gradients(True), strict=True):
        assert torch.allclose(ours, expected, atol=1e-5)


def test_a_group_of_query_heads_reads_the_same_keys() -> None:
    x = random_heads(2, 5, seed=4)
    shared = share_heads(x, 6)
    assert shared.shape == (2, 6, 5, 8)
    for head in range(6):
        assert torch.equal(shared[:, head], x[:, head // 3])
    assert share_heads(x, 2) is x


def test_heads_are_split_and_merged_without_a_change() -> None:
    x = torch.arange(2 * 3 * 8.0).view(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    assert torch.equal(heads[1, 2, 0], x[1, 0, 4:6])
    assert torch.equal(merge_heads(heads), x)


@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 4], [3, 1, 2, 1], [1, 6]])
def test_a_cache_in_pieces_gives_the_whole(pieces: list[int]) -> None:
    q, k, v = random_heads(4, 7, seed=0), random_heads(2, 7, seed=1), random_heads(2, 7, seed=2)
    layer, other, cache = torch.nn.Identity(), torch.nn.Identity(), KVCache()
    assert cache.n_tokens == 0
    mixed, start = [], 0
    for n in pieces:
        part = slice(start, start + n)
        cache.extend(other, v[:, :, part], k[:, :, part])
        seen_k, seen_v = cache.extend(layer, k[:, :, part], v[:, :, part])
        mixed.append(attend(q[:, :, part], seen_k, seen_v))
        start += n
        assert cache.n_tokens == start
    assert torch.allclose(torch.cat(mixed, dim=2), attend_written_out(q, k, v), atol=1e-5)


def test_dropout_puts_weights_to_zero_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    q = k = torch.zeros(2_000, 1, 1, 8)
    drawn = attend(q, k, torch.ones(2_000, 1, 1, 8), 0.25)[..., 0].flatten()
    kept = drawn[drawn != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / 0.75))
    # The share of 2,000 draws has a standard deviation of 0.0097.
    assert len(kept) / len(drawn) == pytest.approx(0.75, abs=0.04)
