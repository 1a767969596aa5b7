"""The llama architecture: causal, rotary, normed, with shared keys and values, and of the size it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tui_chat.checkpoints.shape import ModelShape  # noqa: E402 (after the check for PyTorch)
from tui_chat.training.attention import KVCache, attend_written_out, merge_heads, split_heads  # noqa: E402
from tui_chat.training.llama import Attention, Llama, RMSNorm, rotary_angles, rotate  # noqa: E402
from tui_chat.training.models import build_model  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

TINY = ModelShape(vocab_size=97, width=32, n_layers=2, n_heads=4, n_kv_heads=4, ffn_width=64, context=128)
GROUPED = ModelShape(
    vocab_size=97, width=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_width=64, context=128, tied=False, qk_norm=False
)


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, TINY.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def test_logits_have_one_score_for_every_token() -> None:
    assert Llama(TINY)(random_ids(3, 7)).shape == (3, 7, TINY.vocab_size)


@pytest.mark.parametrize("shape", [TINY, GROUPED], ids=["normed", "grouped"])
def test_a_later_token_does_not_change_earlier_logits(shape: ModelShape) -> None:
    model = Llama(shape).eval()
    ids = random_ids(1, 20)
    with torch.no_grad():
        before = model(ids)
        for changed in range(1, 20):
            other = ids.clone()
            other[0, changed] = (other[0, changed] + 1) % shape.vocab_size
            after = model(other)
            assert torch.equal(after[0, :changed], before[0, :changed])
            assert not torch.allclose(after[0, changed], before[0, changed])


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    model = Llama(GROUPED).eval()
    ids = random_ids(4, 9)
    with torch.no_grad():
        together = model(ids)
        alone = torch.cat([model(row[None]) for row in ids])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("shape", [TINY, GROUPED], ids=["normed", "grouped"])
@pytest.mark.parametrize("pieces", [[5, 1, 1, 1, 1, 1, 1, 1], [12], [3, 4, 5]])
def test_reading_with_a_cache_gives_the_same_logits(shape: ModelShape, pieces: list[int]) -> None:
    model, ids, cache = Llama(shape).eval(), random_ids(2, 12), KVCache()
    with torch.no_grad():
        read = torch.cat([model(part, cache) for part in ids.split(pieces, dim=1)], dim=1)
        assert torch.allclose(read, model(ids), atol=1e-5)
    assert cache.n_tokens == 12


@pytest.mark.parametrize("shape", [TINY, GROUPED], ids=["normed", "grouped"])
def test_attention_is_the_formula_written_out(shape: ModelShape) -> None:
    torch.manual_seed(0)
    attention = Attention(shape, dropout=0.0)
    x = torch.randn(2, 11, shape.width)
    cos, sin = rotary_angles(torch.arange(11), shape.head_width, shape.rope_base)
    q = rotate(attention.q_norm(split_heads(attention.q(x), shape.n_heads)), cos, sin)
    k = rotate(attention.k_norm(split_heads(attention.k(x), shape.n_kv_heads)), cos, sin)
    mixed = attend_written_out(q, k, split_heads(attention.v(x), shape.n_kv_heads))
    assert torch.allclose(attention(x, cos, sin), attention.out(merge_heads(mixed)), atol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 32, generator=generator).expand(1, 1, 64, 32) for _ in range(2))
    cos, sin = rotary_angles(torch.arange(64), 32, 10_000.0)
    scores = rotate(q, cos, sin)[0, 0] @ rotate(k, cos, sin)[0, 0].T
    for distance in (0, 1, 7, 30):
        diagonal = scores.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-3)


def test_a_pair_is_turned_by_its_angle() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).view(1, 1, 1, 4)  # pairs (1, 0) and (0, 2)
    turned = rotate(x, *rotary_angles(torch.tensor([3]), 4, 100.0)).flatten()
    slow = 3 * 100.0 ** (-2 / 4)
    expected = [math.cos(3), -2 * math.sin(slow), math.sin(3), 2 * math.cos(slow)]
    assert turned.tolist() == pytest.approx(expected, abs=1e-6)


def test_rotation_keeps_lengths() -> None:
    x = torch.randn(1, 2, 5, 16, generator=torch.Generator().manual_seed(2))
    turned = rotate(x, *rotary_angles(torch.arange(5), 16, 10_000.0))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, :, 0], x[:, :, 0]), "position 0 is not turned"


def test_rms_norm_gives_unit_mean_square() -> None:
    x = 7 * torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(RMSNorm(64, 1e-6)(x).square().mean(-1), torch.ones(3), atol=1e-4)


def test_norms_are_computed_in_float32_and_give_back_their_type() -> None:
    # In half precision the mean of these squares would overflow.
    x = torch.full((1, 64), 1_000.0, dtype=torch.float16)
    normed = RMSNorm(64, 1e-6)(x)
    assert normed.dtype == torch.float16
    assert torch.equal(normed, torch.ones(1, 64, dtype=torch.float16))


def test_autocast_changes_the_precision_and_little_else() -> None:
    model, ids = Llama(GROUPED).eval(), random_ids(2, 16)
    with torch.no_grad():
        exact = model(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(ids)
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), exact, atol=0.05)
    assert not torch.equal(rounded.float(), exact)


@settings(max_examples=25)
@given(
    vocab_size=st.integers(1, 60),
    pairs=st.integers(1, 4),
    n_layers=st.integers(1, 3),
    n_kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    ffn_width=st.integers(1, 40),
    tied=st.booleans(),
    qk_norm=st.booleans(),
)
def test_the_shape_knows_the_number_of_parameters(
    vocab_size: int,
    pairs: int,
    n_layers: int,
    n_kv_heads: int,
    groups: int,
    ffn_width: int,
    tied: bool,
    qk_norm: bool,
) -> None:
    n_heads = n_kv_heads * groups
    shape = ModelShape(
        vocab_size=vocab_size,
        width=2 * pairs * n_heads,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        ffn_width=ffn_width,
        tied=tied,
        qk_norm=qk_norm,
    )
    model = build_model(shape)
    assert isinstance(model, Llama)
    assert model.n_parameters == shape.n_parameters
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == shape.n_parameters
    assert model(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, vocab_size)


def test_names_and_sizes_of_the_weights() -> None:
    sizes = {name: tuple(tensor.shape) for name, tensor in Llama(GROUPED).state_dict().items()}
    assert sizes["embedding.weight"] == sizes["head.weight"] == (97, 32)
    assert sizes["blocks.1.attention.q.weight"] == sizes["blocks.1.attention.out.weight"] == (32, 32)
    assert sizes["blocks.1.attention.k.weight"] == sizes["blocks.1.attention.v.weight"] == (16, 32)
    assert sizes["blocks.0.ffn.gate.weight"] == sizes["blocks.0.ffn.up.weight"] == (64, 32)
    assert sizes["blocks.0.ffn.down.weight"] == (32, 64)
    assert "blocks.0.attention.q_norm.weight" not in sizes
    tied = {name: tuple(tensor.shape) for name, tensor in Llama(TINY).state_dict().items()}
    assert "head.weight" not in tied
    assert tied["blocks.0.attention.q_norm.weight"] == tied["blocks.0.attention.k_norm.weight"] == (8,)


def test_first_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = Llama(TINY, seed=4)
    torch.manual_seed(2)
    same = zip(first.parameters(), Llama(TINY, seed=4).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(first.embedding.weight, Llama(TINY, seed=5).embedding.weight)


def test_what_writes_to_the_residual_stream_starts_smaller() -> None:
    block = Llama(ModelShape(vocab_size=50, width=128, n_layers=8, n_heads=4, n_kv_heads=4, ffn_width=128)).blocks[3]
    for wide, narrow in ((block.attention.q, block.attention.out), (block.ffn.up, block.ffn.down)):
        assert wide.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert narrow.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)


def test_dropout_of_zero_changes_nothing_and_draws_nothing() -> None:
    ids, model = random_ids(2, 12), Llama(TINY, dropout=0.0)
    before = torch.get_rng_state()
    assert torch.equal(model.train()(ids), model.eval()(ids))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_works_in_training_and_nowhere_else() -> None:
    ids, model = random_ids(2, 12), Llama(TINY, dropout=0.3)
    assert torch.equal(model.eval()(ids), Llama(TINY).eval()(ids))
    torch.manual_seed(0)
    first, second = model.train()(ids), model(ids)
    assert not torch.allclose(first, second)
    torch.manual_seed(0)
    assert torch.equal(model(ids), first)


def test_every_weight_learns() -> None:
    for shape in (TINY, GROUPED):
        model = Llama(shape)
        model(random_ids(2, 12)).logsumexp(-1).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
