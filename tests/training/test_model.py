"""The decoder: causal, rotary, normed, and of the size it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tui_chat.training.model import (  # noqa: E402 (after the check for PyTorch)
    Attention,
    Decoder,
    KVCache,
    ModelConfig,
    RMSNorm,
    rotary_angles,
    rotate,
)

if TYPE_CHECKING:
    from torch import Tensor

TINY = ModelConfig(vocab_size=97, width=32, n_layers=2, n_heads=2, ffn_width=64, context=128)


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, TINY.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def test_logits_have_one_score_for_every_token() -> None:
    assert Decoder(TINY)(random_ids(3, 7)).shape == (3, 7, TINY.vocab_size)


def test_a_later_token_does_not_change_earlier_logits() -> None:
    model = Decoder(TINY).eval()
    ids = random_ids(1, 20)
    with torch.no_grad():
        before = model(ids)
        for changed in range(1, 20):
            other = ids.clone()
            other[0, changed] = (other[0, changed] + 1) % TINY.vocab_size
            after = model(other)
            assert torch.equal(after[0, :changed], before[0, :changed])
            assert not torch.allclose(after[0, changed], before[0, changed])


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    model = Decoder(TINY).eval()
    ids = random_ids(4, 9)
    with torch.no_grad():
        together = model(ids)
        alone = torch.cat([model(row[None]) for row in ids])
    assert torch.allclose(together, alone, atol=1e-5)


def test_reading_with_a_cache_gives_the_same_logits() -> None:
    model, ids, cache = Decoder(TINY).eval(), random_ids(2, 12), KVCache()
    with torch.no_grad():
        pieces = [model(ids[:, :5], cache)] + [model(ids[:, t : t + 1], cache) for t in range(5, 12)]
        assert torch.allclose(torch.cat(pieces, dim=1), model(ids), atol=1e-5)
    assert cache.n_tokens == 12


def test_attention_is_the_formula_written_out() -> None:
    torch.manual_seed(0)
    attention = Attention(TINY)
    x = torch.randn(2, 11, TINY.width)
    cos, sin = rotary_angles(torch.arange(11), TINY.head_width, TINY.rope_base)

    def heads(y: Tensor) -> Tensor:
        return y.view(2, 11, TINY.n_heads, TINY.head_width).transpose(1, 2)

    q = rotate(attention.q_norm(heads(attention.q(x))), cos, sin)
    k = rotate(attention.k_norm(heads(attention.k(x))), cos, sin)
    scores = q @ k.transpose(-1, -2) / math.sqrt(TINY.head_width)
    scores = scores.masked_fill(torch.ones(11, 11).triu(1).bool(), -torch.inf)
    mixed = scores.softmax(-1) @ heads(attention.v(x))
    expected = attention.out(mixed.transpose(1, 2).reshape(2, 11, TINY.width))
    assert torch.allclose(attention(x, cos, sin), expected, atol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 32, generator=generator).expand(1, 1, 64, 32) for _ in range(2))
    cos, sin = rotary_angles(torch.arange(64), 32, 10_000.0)
    scores = rotate(q, cos, sin)[0, 0] @ rotate(k, cos, sin)[0, 0].T
    for distance in (0, 1, 7, 30):
        diagonal = scores.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-3)


def test_rotation_keeps_lengths() -> None:
    x = torch.randn(1, 2, 5, 16, generator=torch.Generator().manual_seed(2))
    turned = rotate(x, *rotary_angles(torch.arange(5), 16, 10_000.0))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, :, 0], x[:, :, 0]), "position 0 is not turned"


def test_rms_norm_gives_unit_mean_square() -> None:
    x = 7 * torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(RMSNorm(64, 1e-6)(x).square().mean(-1), torch.ones(3), atol=1e-4)


def test_size_of_the_built_in_model() -> None:
    config = ModelConfig()
    layer = 4 * config.width**2 + 3 * config.width * config.ffn_width + 2 * config.width + 2 * config.head_width
    expected = config.vocab_size * config.width + config.n_layers * layer + config.width
    assert Decoder(config).n_parameters == expected == 3_148_608


def test_first_weights_follow_from_the_seed() -> None:
    same = zip(Decoder(TINY, seed=4).parameters(), Decoder(TINY, seed=4).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(Decoder(TINY, seed=4).embedding.weight, Decoder(TINY, seed=5).embedding.weight)


@pytest.mark.parametrize("width, heads", [(33, 2), (30, 2), (32, 5)])
def test_a_width_that_heads_cannot_share_is_refused(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="even multiple"):
        ModelConfig(width=width, n_heads=heads)
