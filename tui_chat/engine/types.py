"""The values that cross the engine's border: settings in, traces and events out.

All of them are frozen: a request that was queued, or a trace that is on the screen, can be read from any thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from tui_chat.engine.model_types import LoadOptions as LoadOptions
from tui_chat.engine.model_types import ModelInfo as ModelInfo
from tui_chat.errors import SamplingError, TuiChatError

DEFAULT_ORDER: tuple[str, ...] = (
    "logit_bias",
    "grammar",
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typical",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "mirostat",
    "adaptive_p",
)
"""llama.cpp's order of the sampler chain (`common_params_sampling::samplers`); the draw always comes last."""

Bias = tuple[int | str, float]
"""(token id, nats added to its logit), or (text, -inf)."""

TRUNCATING: frozenset[str] = frozenset({"top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc"})
"""Stages that mirostat takes the place of: with it on they do not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen. Raises `SamplingError` on a value out of range.

    Names and meanings are llama.cpp's (`common_params_sampling`). A stage whose value makes it do nothing is left out
    of the chain.
    """

    temperature: float = 0.7
    """Divides the logits; 0 is greedy."""
    top_k: int = 40
    """Keeps the k best tokens; 0 is off."""
    top_p: float = 0.95
    """Keeps the smallest set of best tokens whose probabilities reach this sum; 1 is off."""
    min_p: float = 0.05
    """Keeps tokens with at least this share of the best token's probability; 0 is off."""
    typical_p: float = 1.0
    """Keeps tokens whose surprisal is nearest the entropy, up to this sum; 1 is off."""
    top_n_sigma: float = -1.0
    """Keeps logits within n standard deviations of the best; 0 or less is off."""
    xtc_probability: float = 0.0
    """Chance, per token, that XTC acts; 0 is off."""
    xtc_threshold: float = 0.1
    """XTC removes all but the least likely of the tokens above this probability; above 0.5 is off."""
    repeat_penalty: float = 1.0
    """Divides positive and multiplies negative logits of recent tokens; 1 is off."""
    repeat_last_n: int = 64
    """How many recent tokens the penalties look at; 0 is none, -1 the whole context."""
    frequency_penalty: float = 0.0
    """Subtracted from a recent token's logit once per occurrence; 0 is off."""
    presence_penalty: float = 0.0
    """Subtracted once from a recent token's logit; 0 is off."""
    dry_multiplier: float = 0.0
    """Strength of the DRY penalty on continued repetitions; 0 is off."""
    dry_base: float = 1.75
    """Growth of the DRY penalty with the length of the repetition."""
    dry_allowed_length: int = 2
    """Longest repetition DRY lets pass."""
    dry_penalty_last_n: int = -1
    """How many recent tokens DRY looks at; 0 is none, -1 the whole context."""
    dry_sequence_breakers: tuple[str, ...] = ()
    """Texts that a repetition does not reach across; they need the tokens of a model."""
    dynatemp_range: float = 0.0
    """The temperature moves this far to both sides with the entropy of what is left; 0 keeps it fixed."""
    dynatemp_exponent: float = 1.0
    """How the entropy, as a share of the largest possible, bends on its way to the temperature."""
    mirostat: int = 0
    """1 or 2: cuts so that the surprise stays near `mirostat_tau`, in place of all truncation; 0 is off."""
    mirostat_tau: float = 5.0
    """The surprise mirostat aims at, bits."""
    mirostat_eta: float = 0.1
    """How fast mirostat corrects itself, share of the error."""
    adaptive_target: float = -1.0
    """Adaptive-p: prefers tokens whose probability is near this, as a mean over the answer; below 0 is off."""
    adaptive_decay: float = 0.9
    """How long adaptive-p remembers: about 1 / (1 - decay) tokens."""
    grammar: str = ""
    """GBNF text that the answer must obey, from its first token on; empty is none."""
    logit_bias: tuple[Bias, ...] = ()
    """(token id, nats added to its logit); `-inf` bans the token. A text can be banned only: no token completes it."""
    seed: int = 0
    """Seed of the draw: `u = Philox(seed, position)`."""
    order: tuple[str, ...] = DEFAULT_ORDER
    """Names of the stages in the order they run; a stage not named does not run."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise SamplingError(f"{name} must be a number, not {value!r}")
            if not low <= value <= high:
                raise SamplingError(f"{name} must be from {low:,.10g} to {high:,.10g}, not {value:,.10g}")
        if self.temperature < _GREEDY_BELOW:
            object.__setattr__(self, "temperature", 0.0)
        for token, bias in self.logit_bias:
            if math.isnan(bias) or bias == math.inf:
                raise SamplingError(f"the bias of token {token} must be a number or -inf, not {bias}")
        unknown = [name for name in self.order if name not in DEFAULT_ORDER]
        if unknown:
            raise SamplingError(f"unknown sampling stage {unknown[0]!r}: choose from {', '.join(DEFAULT_ORDER)}")
        if len(set(self.order)) != len(self.order):
            raise SamplingError("a sampling stage stands twice in the order")
        for name in ("grammar", "mirostat"):
            if getattr(self, name) and name not in self.order:
                raise SamplingError(f"{name} is set, but the order of the stages leaves it out: add it there")


_GREEDY_BELOW = 1e-6
"""Logits divided by less overflow float32; the outcome would be greedy all the same."""

MAX_SEED = 2**64 - 1
"""Largest seed: the Philox key is 64 bits wide."""

_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0, 100),
    ("top_k", 0, 2**31 - 1),
    ("top_p", 0, 1),
    ("min_p", 0, 1),
    ("typical_p", 0, 1),
    ("top_n_sigma", -1, 100),
    ("xtc_probability", 0, 1),
    ("xtc_threshold", 0, 1),
    ("repeat_penalty", 0.01, 100),
    ("repeat_last_n", -1, 2**31 - 1),
    ("frequency_penalty", -100, 100),
    ("presence_penalty", -100, 100),
    ("dry_multiplier", 0, 100),
    ("dry_base", 0, 100),
    ("dry_allowed_length", 0, 2**31 - 1),
    ("dry_penalty_last_n", -1, 2**31 - 1),
    ("dynatemp_range", 0, 100),
    ("dynatemp_exponent", 0, 100),
    ("mirostat", 0, 2),
    ("mirostat_tau", 0, 100),
    ("mirostat_eta", 0, 10),
    ("adaptive_target", -1, 1),
    ("adaptive_decay", 0, 0.99),
    ("seed", 0, MAX_SEED),
)

SAMPLING_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(SamplingParams))
"""Names of all sampling settings, in the order they are declared."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token still in the running. `p` is the softmax over the survivors it stands among."""

    id: int
    logit: float
    p: float


@dataclass(frozen=True, slots=True)
class StageTrace:
    """What one stage of the chain left.

    `candidates` holds them only where they were asked for (`sample`, the waterfall), best first.
    """

    name: str
    survivors: int
    candidates: tuple[Candidate, ...] = ()
    at_least: bool = False
    """There may be more survivors: a grammar looked no further than the stages behind it need."""
    lost: tuple[float, float] | None = None
    """Share of the raw probability that a grammar took away: at least, at most; equal where it looked at every token.
    None at other stages, and where nobody measured the distribution."""
    note: str = ""
    """What the stage did besides, for people: the temperature that was chosen, mirostat's mu, a rule not kept."""


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """The figures behind one token: the very numbers that chose it.

    Probabilities before the chain follow from `exp(logit - logsumexp)`.
    """

    position: int
    """Index of the token in the context, from 0."""
    id: int
    piece: bytes
    """The token's own bytes; may be part of a character."""
    logit: float
    """Raw logit of the chosen token, nats."""
    logsumexp: float
    """Log of the sum of exp(raw logits) over the vocabulary, nats."""
    rank: int
    """1 for the token with the highest raw logit."""
    entropy: float
    """Of the raw distribution, nats."""
    top: tuple[tuple[int, float], ...]
    """(id, raw logit) of the best tokens before the chain, best first."""
    stages: tuple[StageTrace, ...]
    """What each stage of the chain left, in order."""
    final: tuple[tuple[int, float], ...]
    """(id, probability) of the best tokens after the chain, best first."""
    u: float | None
    """The uniform draw in [0, 1) that picked the token; None when greedy or forced."""
    seconds: float
    """From the request to this token."""

    @property
    def p(self) -> float:
        """Probability of the chosen token before the chain."""
        return math.exp(self.logit - self.logsumexp)

    @property
    def surprisal(self) -> float:
        """-ln p of the chosen token before the chain, nats."""
        return self.logsumexp - self.logit


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """A token as it leaves the engine."""

    id: int
    piece: bytes
    trace: TokenTrace | None
    """None when inspection is off, and where a text was put in: nothing was computed for it."""
    forced: bool = False
    """Whether a person had a hand in it: put it there, so that nothing drew it, or banned others at its place."""


class FinishReason(StrEnum):
    """Why an answer ended."""

    EOS = "eos"
    """The model gave an end-of-generation token."""
    LENGTH = "length"
    """`max_tokens` or the context was reached."""
    STOP = "stop"
    """A stop string came."""
    CANCELLED = "cancelled"
    """The user stopped it."""
    TIME = "time"
    """The time limit was reached."""
    CONFIDENCE = "confidence"
    """The best token's probability fell below the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When an answer ends, besides the model's own end-of-generation token."""

    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""
    time_limit_s: float | None = None
    """Seconds of decoding, counted from the first token."""
    min_confidence: float | None = None
    """Stop when the best raw probability falls below this."""
    ignore_eos: bool = False
    """Ban the end-of-generation tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Continue `prompt_ids`."""

    prompt_ids: tuple[int, ...]
    n_prefilled: int = 0
    """How many of the last of `prompt_ids` belong to the answer already."""
    kept: tuple[GeneratedToken, ...] = ()
    """The first of those, where an earlier answer has them; they are handed back as they are, the others as forced."""
    params: SamplingParams = field(default_factory=SamplingParams)
    limits: Limits = field(default_factory=Limits)
    inspect: bool = True
    """Compute a `TokenTrace` for every token."""
    top_n: int = 20
    """How many of the best tokens a trace keeps."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request. `prompt` includes `reused`."""

    prompt: int
    reused: int
    """Prompt tokens that were in the cache already."""
    generated: int
    chunks: tuple[tuple[int, int], ...] = ()
    """How the prompt came into the cache, see `Context.chunks`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds spent in one request."""

    prefill_s: float
    ttft_s: float
    """From the request to the first token."""
    decode_s: float
    """From the first token to the last."""
    tokens_per_s: float
    """Decoded tokens a second, without the first (which belongs to the prefill)."""


@dataclass(frozen=True, slots=True)
class ModelLoading:
    """The weights are being read; `fraction` runs from 0 to 1."""

    request_id: int
    path: Path
    fraction: float


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """The model is ready; the one before it is gone."""

    request_id: int
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The model could not be loaded; the one before it is still there if `kept`."""

    request_id: int
    error: TuiChatError
    kept: bool


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """The prompt is known and its prefill begins."""

    request_id: int
    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class PrefillProgressed:
    """`done` of `total` prompt tokens are in the cache, `reused` of them from before."""

    request_id: int
    done: int
    total: int
    reused: int


@dataclass(frozen=True, slots=True)
class TokensGenerated:
    """A batch of tokens and the text they completed.

    `text` may lag behind the tokens: bytes of a split character and what may become a stop string are held back.
    """

    request_id: int
    tokens: tuple[GeneratedToken, ...]
    text: str


@dataclass(frozen=True, slots=True)
class TokenPending:
    """The generation waits before a token (see `StepControl`); where a ban or a setting changes it, another follows."""

    request_id: int
    token: GeneratedToken
    """What would be drawn; the stages of its trace hold their candidates."""
    banned: tuple[int, ...] = ()
    """Tokens that were refused at this place."""
    refused: str = ""
    """Why what was decided last cannot be done, for people; empty where nothing was refused."""
    p_final: float | None = None
    """Its probability after the chain, which `TokenTrace.final` lacks where others are likelier; None if unknown."""


@dataclass(frozen=True, slots=True)
class TokensWithdrawn:
    """A step back: the answer has `n_tokens` tokens now, those it began with included, and this text."""

    request_id: int
    n_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """From the token on that will be number `index` of the answer, counted from 0, these settings hold.

    What was reported of later tokens before holds no more: they were withdrawn. A ban at one place is such a change,
    and after its token the settings change back.
    """

    request_id: int
    index: int
    params: SamplingParams


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """The answer is complete; nothing more comes for this request."""

    request_id: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    end: GeneratedToken | None = None
    """The end-of-generation token that closed the answer; it is not part of it, nor of `usage.generated`."""


@dataclass(frozen=True, slots=True)
class GenerationFailed:
    """The answer could not be made or went wrong; nothing more comes for this request."""

    request_id: int
    error: TuiChatError


EngineEvent = (
    ModelLoading
    | ModelLoaded
    | ModelFailed
    | GenerationStarted
    | PrefillProgressed
    | TokensGenerated
    | TokenPending
    | TokensWithdrawn
    | SettingsChanged
    | GenerationFinished
    | GenerationFailed
)
"""Everything the worker reports."""
