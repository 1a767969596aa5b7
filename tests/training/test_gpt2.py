"""The gpt2 architecture: causal, with a table of positions, normed around zero, and of the size it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tui_chat.checkpoints.positions import AMPLITUDE, sinusoidal_table  # noqa: E402 (after the check for PyTorch)
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions  # noqa: E402
from tui_chat.errors import UsageError  # noqa: E402
from tui_chat.training.attention import KVCache, attend_written_out, merge_heads, split_heads  # noqa: E402
from tui_chat.training.gpt2 import Attention, FeedForward, Gpt2, LayerNorm  # noqa: E402
from tui_chat.training.models import build_model  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor


def gpt2_shape(positions: Positions = Positions.LEARNED, *, tied: bool = True) -> ModelShape:
    return ModelShape(
        arch=Architecture.GPT2,
        vocab_size=97,
        width=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4,
        ffn_width=64,
        context=24,
        positions=positions,
        qk_norm=False,
        tied=tied,
    )


LEARNED, SINUSOIDAL = gpt2_shape(), gpt2_shape(Positions.SINUSOIDAL, tied=False)
both_positions = pytest.mark.parametrize("shape", [LEARNED, SINUSOIDAL], ids=["learned", "sinusoidal"])


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, LEARNED.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@both_positions
def test_a_later_token_does_not_change_earlier_logits(shape: ModelShape) -> None:
    model = Gpt2(shape).eval()
    ids = random_ids(1, 20)
    with torch.no_grad():
        before = model(ids)
        assert before.shape == (1, 20, shape.vocab_size)
        for changed in range(1, 20):
            other = ids.clone()
            other[0, changed] = (other[0, changed] + 1) % shape.vocab_size
            after = model(other)
            assert torch.equal(after[0, :changed], before[0, :changed])
            assert not torch.allclose(after[0, changed], before[0, changed])


@both_positions
@pytest.mark.parametrize("pieces", [[5, 1, 1, 1, 1, 1, 1, 1], [12], [3, 4, 5]])
def test_reading_with_a_cache_gives_the_same_logits(shape: ModelShape, pieces: list[int]) -> None:
    model, ids, cache = Gpt2(shape).eval(), random_ids(2, 12), KVCache()
    with torch.no_grad():
        read = torch.cat([model(part, cache) for part in ids.split(pieces, dim=1)], dim=1)
        assert torch.allclose(read, model(ids), atol=1e-5)
    assert cache.n_tokens == 12


def test_attention_is_the_formula_written_out() -> None:
    torch.manual_seed(0)
    attention = Attention(LEARNED, dropout=0.0)
    x = torch.randn(2, 11, LEARNED.width)
    q, k, v = (split_heads(matrix(x), LEARNED.n_heads) for matrix in (attention.q, attention.k, attention.v))
    expected = attention.out(merge_heads(attend_written_out(q, k, v)))
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_gelu_is_the_approximation_llama_cpp_computes() -> None:
    feed_forward = FeedForward(LEARNED)
    torch.nn.init.constant_(feed_forward.up.weight, 0.0)
    torch.nn.init.zeros_(feed_forward.down.bias)
    feed_forward.up.bias.data = torch.linspace(-6, 6, LEARNED.ffn_width)
    x = feed_forward.up.bias.double()
    soft = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    expected = feed_forward.down.weight.double() @ soft
    assert torch.allclose(feed_forward(torch.zeros(1, LEARNED.width))[0].double(), expected, atol=1e-6)


def test_layer_norm_gives_mean_zero_and_variance_one() -> None:
    x = 5 + 7 * torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    normed = LayerNorm(64, 1e-6)(x)
    assert torch.allclose(normed.mean(-1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(normed.var(-1, unbiased=False), torch.ones(3), atol=1e-4)


def test_norms_are_computed_in_float32_and_give_back_their_type() -> None:
    # In half precision the variance would overflow.
    x = torch.tensor([[1_000.0, -1_000.0]], dtype=torch.float16)
    assert torch.equal(LayerNorm(2, 1e-6)(x), torch.tensor([[1.0, -1.0]], dtype=torch.float16))


def test_autocast_changes_the_precision_and_little_else() -> None:
    model, ids = Gpt2(LEARNED).eval(), random_ids(2, 16)
    with torch.no_grad():
        exact = model(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(ids)
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), exact, atol=0.05)
    assert not torch.equal(rounded.float(), exact)


@both_positions
def test_the_same_token_is_another_at_another_place(shape: ModelShape) -> None:
    logits = Gpt2(shape).eval()(torch.full((1, 5), 3))[0]
    assert not torch.allclose(logits[0], logits[4], atol=1e-3)


@both_positions
def test_more_tokens_than_places_are_refused(shape: ModelShape) -> None:
    model, cache = Gpt2(shape).eval(), KVCache()
    with torch.no_grad():
        assert model(random_ids(1, 24), cache).shape == (1, 24, 97)
        for ids, seen in ((random_ids(1, 1), cache), (random_ids(1, 25), None)):
            with pytest.raises(UsageError, match="25 tokens do not fit into the model's 24 positions"):
                model(ids, seen)
    assert cache.n_tokens == 24


def test_sinusoidal_table_by_hand() -> None:
    table = sinusoidal_table(3, 5) / AMPLITUDE
    assert table.shape == (3, 5) and table.dtype == np.float32
    assert table[0].tolist() == [0, 1, 0, 1, 0]
    slow, slowest = 10_000 ** (-2 / 5), 10_000 ** (-4 / 5)
    expected = [math.sin(2), math.cos(2), math.sin(2 * slow), math.cos(2 * slow), math.sin(2 * slowest)]
    assert table[2].tolist() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30)
@given(context=st.integers(1, 200), width=st.integers(1, 40))
def test_sinusoidal_places_differ_and_are_equally_long(context: int, width: int) -> None:
    table = sinusoidal_table(context, width)
    assert len(np.unique(table, axis=0)) == context
    if width % 2 == 0:
        assert np.allclose(np.square(table).sum(-1), width / 2 * AMPLITUDE**2, rtol=1e-4)


def test_fixed_positions_are_neither_learnt_nor_saved() -> None:
    model = Gpt2(SINUSOIDAL)
    assert not any(name.startswith("positions") for name in model.state_dict())
    assert not any(name.startswith("positions") for name, _ in model.named_parameters())
    other = Gpt2(SINUSOIDAL, seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(random_ids(1, 9)), model(random_ids(1, 9)))
    assert torch.equal(model.positions(torch.tensor([5]))[0], torch.tensor(sinusoidal_table(24, 32)[5]))


@settings(max_examples=25)
@given(
    vocab_size=st.integers(1, 60),
    head_width=st.integers(1, 9),
    n_layers=st.integers(1, 3),
    n_heads=st.integers(1, 4),
    ffn_width=st.integers(1, 40),
    context=st.integers(2, 30),
    positions=st.sampled_from([Positions.LEARNED, Positions.SINUSOIDAL]),
    tied=st.booleans(),
)
def test_the_shape_knows_the_number_of_parameters(
    vocab_size: int,
    head_width: int,
    n_layers: int,
    n_heads: int,
    ffn_width: int,
    context: int,
    positions: Positions,
    tied: bool,
) -> None:
    shape = ModelShape(
        arch=Architecture.GPT2,
        vocab_size=vocab_size,
        width=head_width * n_heads,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        ffn_width=ffn_width,
        context=context,
        positions=positions,
        tied=tied,
        qk_norm=False,
    )
    model = build_model(shape)
    assert isinstance(model, Gpt2)
    assert model.n_parameters == shape.n_parameters
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == shape.n_parameters
    assert model(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, vocab_size)


def test_names_and_sizes_of_the_weights() -> None:
    sizes = {name: tuple(tensor.shape) for name, tensor in Gpt2(LEARNED).state_dict().items()}
    assert "head.weight" not in sizes and Gpt2(SINUSOIDAL).state_dict()["head.weight"].shape == (97, 32)
    assert sizes["embedding.weight"] == (97, 32) and sizes["positions.weight"] == (24, 32)
    assert sizes["norm.weight"] == sizes["norm.bias"] == (32,)
    block = {name.removeprefix("blocks.1."): size for name, size in sizes.items() if name.startswith("blocks.1.")}
    vectors = [f"{norm}.{part}" for norm in ("attention_norm", "ffn_norm") for part in ("weight", "bias")]
    expected: dict[str, tuple[int, ...]] = dict.fromkeys([*vectors, "ffn.down.bias"], (32,))
    expected |= {"ffn.up.bias": (64,), "ffn.up.weight": (64, 32), "ffn.down.weight": (32, 64)}
    for matrix in ("q", "k", "v", "out"):
        expected |= {f"attention.{matrix}.weight": (32, 32), f"attention.{matrix}.bias": (32,)}
    assert block == expected


@both_positions
def test_first_weights_follow_from_the_seed_alone(shape: ModelShape) -> None:
    torch.manual_seed(1)
    first = Gpt2(shape, seed=4)
    torch.manual_seed(2)
    same = zip(first.parameters(), Gpt2(shape, seed=4).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(first.embedding.weight, Gpt2(shape, seed=5).embedding.weight)
    for name, parameter in first.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.full_like(parameter, float(not name.endswith("bias")))), name


def test_dropout_of_zero_changes_nothing_and_draws_nothing() -> None:
    ids, model = random_ids(2, 12), Gpt2(LEARNED, dropout=0.0)
    before = torch.get_rng_state()
    assert torch.equal(model.train()(ids), model.eval()(ids))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_works_in_training_and_nowhere_else() -> None:
    ids, model = random_ids(2, 12), Gpt2(LEARNED, dropout=0.3)
    assert torch.equal(model.eval()(ids), Gpt2(LEARNED).eval()(ids))
    torch.manual_seed(0)
    first, second = model.train()(ids), model(ids)
    assert not torch.allclose(first, second)
    torch.manual_seed(0)
    assert torch.equal(model(ids), first)


@both_positions
def test_every_weight_learns(shape: ModelShape) -> None:
    model = Gpt2(shape)
    model(random_ids(2, 24)).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
