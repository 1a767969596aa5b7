"""The shape of a model: its architecture and sizes, and what they cost, known before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tui_chat.errors import UsageError


class Architecture(StrEnum):
    """The two architectures that can be trained."""

    LLAMA = "llama"
    """RMSNorm, rotary positions, SwiGLU, grouped-query attention, no biases."""
    GPT2 = "gpt2"
    """LayerNorm, a table of positions, GELU, biases."""


class Positions(StrEnum):
    """How a model knows where a token stands."""

    ROTARY = "rotary"
    """Queries and keys are turned by angles (Su et al., 2021)."""
    LEARNED = "learned"
    """A learnt vector for every place (GPT-2)."""
    SINUSOIDAL = "sinusoidal"
    """A fixed vector of sines and cosines for every place (Vaswani et al., 2017)."""


_MOST = 10**9
"""Of any size: more has no meaning anywhere."""

_OPTIONS = {
    "vocab_size": "--vocab",
    "width": "--width",
    "n_layers": "--layers",
    "n_heads": "--heads",
    "n_kv_heads": "--kv-heads",
    "ffn_width": "--ffn",
    "context": "--context",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a model. The defaults are those of the built-in one.

    Raises:
        UsageError: The sizes do not fit together; the text names the option to change.
    """

    arch: Architecture = Architecture.LLAMA
    vocab_size: int = 4096
    width: int = 192
    n_layers: int = 6
    n_heads: int = 6
    n_kv_heads: int = 6
    """Heads of keys and values; each serves n_heads / n_kv_heads heads of queries (Ainslie et al., 2023: GQA)."""
    ffn_width: int = 512
    """Width inside the feed-forward part."""
    context: int = 2048
    """Longest context the model promises to run at. A table of positions has as many rows."""
    positions: Positions = Positions.ROTARY
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    tied: bool = True
    """Whether one table serves for the tokens read and for the scores of the next."""
    qk_norm: bool = True
    """Whether queries and keys are normed (llama only); llama.cpp calls that architecture "qwen3"."""

    def __post_init__(self) -> None:
        for name, option in _OPTIONS.items():
            if not 1 <= getattr(self, name) <= _MOST:
                raise UsageError(f"{option} is {getattr(self, name)}: it must be from 1 to {_MOST:,}")
        # Angles turn the numbers of a head by pairs.
        unit = 2 * self.n_heads if self.arch is Architecture.LLAMA else self.n_heads
        try_this = f"try --width {_nearest_multiple(self.width, unit)}"
        if self.width % self.n_heads:
            raise UsageError(f"width {self.width} is not divisible by {self.n_heads} heads: {try_this}")
        if self.n_heads % self.n_kv_heads:
            raise UsageError(f"{self.n_heads} heads cannot share {self.n_kv_heads} key/value heads: use a divisor")
        if self.arch is Architecture.LLAMA:
            if self.positions is not Positions.ROTARY:
                raise UsageError(f"the architecture llama has rotary positions, not {self.positions}")
            if self.head_width % 2:
                raise UsageError(f"heads of width {self.head_width} cannot be turned by pairs: {try_this}")
        elif self.positions is Positions.ROTARY:
            raise UsageError("the architecture gpt2 has learned or sinusoidal positions, not rotary ones")
        elif self.n_kv_heads != self.n_heads or self.qk_norm:
            raise UsageError("the architecture gpt2 has as many key/value heads as heads, and does not norm them")

    def reaching(self, length: int) -> ModelShape:
        """The same with a context of `length` or more, where positions are angles; a table of them cannot grow."""
        if self.positions is Positions.ROTARY and length > self.context:
            return replace(self, context=length)
        return self

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.n_heads

    @property
    def kv_width(self) -> int:
        """Width of all keys, and of all values, of a token."""
        return self.head_width * self.n_kv_heads

    @property
    def gguf_architecture(self) -> str:
        """What llama.cpp calls the architecture."""
        return "qwen3" if self.arch is Architecture.LLAMA and self.qk_norm else self.arch.value

    @property
    def n_parameters(self) -> int:
        """Learnt numbers; a shared table counts once, fixed sines and cosines not at all."""
        c, f = self.width, self.ffn_width
        tables = self.vocab_size * c * (1 if self.tied else 2)
        if self.arch is Architecture.LLAMA:
            layer = 2 * c * c + 2 * c * self.kv_width + 3 * c * f + 2 * c
            layer += 2 * self.head_width if self.qk_norm else 0
            return tables + self.n_layers * layer + c
        # Biases of q, k, v, out, up and down; weight and bias of two norms.
        layer = 4 * c * c + 4 * c + 2 * c * f + f + c + 4 * c
        places = self.context * c if self.positions is Positions.LEARNED else 0
        return tables + places + self.n_layers * layer + 2 * c

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of one trained token in a row of `length` tokens, forward and backward.

        Six for each parameter that is multiplied, and twelve for each layer, place and element of the width in the
        attention (Chowdhery et al., 2022: PaLM, appendix B).
        """
        multiplied = self.n_parameters
        if not self.tied:
            multiplied -= self.vocab_size * self.width
        return 6.0 * multiplied + 12.0 * self.n_layers * self.width * length

    def training_bytes(self, rows: int, length: int) -> int:
        """Memory of a training at float32, in bytes: an estimate to compare sizes by, about a third off at worst.

        Weights, gradients and two moments of AdamW; the activations that wait for the backward pass; logits, their
        softmax and its gradient.
        """
        state = 16 * self.n_parameters
        tokens = rows * length
        kept_per_layer = 10 * self.width + 4 * self.kv_width + 4 * self.ffn_width
        activations = 4 * tokens * (self.n_layers * kept_per_layer + 4 * self.width)
        return state + activations + 3 * 4 * tokens * self.vocab_size


def _nearest_multiple(value: int, step: int) -> int:
    return max(step, round(value / step) * step)
