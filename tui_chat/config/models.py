"""The settings models: four sections, their keys, defaults and limits.

Values are strict (a quoted number is text, not a number) and frozen. Ranges of the sampling settings are those of
`SamplingParams`: each value is checked by making one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo, field_validator

from tui_chat import language
from tui_chat.engine.bias import Resolve, Resolved, resolve_biases
from tui_chat.engine.gbnf import load_grammar
from tui_chat.engine.types import SAMPLING_FIELDS, Limits, LoadOptions, SamplingParams
from tui_chat.errors import SamplingError, UsageError

_SAMPLING = SamplingParams()
_LIMITS = Limits()
_LOAD = LoadOptions()

KvType = Literal["f32", "f16", "q8_0"]

THINKING_STATES: Mapping[str, bool | None] = {"on": True, "off": False, "auto": None}
"""What `enable_thinking` may be, by the word for it."""


def _expand_path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def _to_pairs(value: object) -> object:
    return tuple(value.items()) if isinstance(value, Mapping) else value


def _check_token(value: object) -> object:
    if isinstance(value, str) and value == "":
        raise ValueError("must not be an empty text")
    return value


def _to_bias(value: object) -> object:
    if value is False or value == "-inf":
        return -math.inf
    return value


def _from_bias(bias: float) -> float | str:
    return bias if math.isfinite(bias) else str(bias)


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _split_names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


def _check_bans(value: object) -> object:
    if isinstance(value, list | tuple):
        for item in value:
            is_id = isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31
            is_text = isinstance(item, str) and item != ""
            if not (is_id or is_text):
                raise ValueError(f"holds {item!r}, which is neither a token id nor the text of a token")
    return value


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Token = Annotated[TokenId | str, BeforeValidator(_check_token)]
Texts = Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_one_or_many)]
Names = Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_split_names)]
# JSON knows no infinity: there a ban is the text that the settings file may have, too.
Bias = Annotated[float, BeforeValidator(_to_bias), PlainSerializer(_from_bias, when_used="json")]
Biases = Annotated[
    tuple[Annotated[tuple[Token, Bias], Field(strict=False)], ...],
    Field(strict=False),
    BeforeValidator(_to_pairs),
]
Bans = Annotated[
    tuple[int | str, ...], Field(strict=False), BeforeValidator(_check_bans), BeforeValidator(_one_or_many)
]


_ONE_FORM = "grammar and json_schema both say what an answer must look like: use one of them"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class TokenizerSettings(_Section):
    """What is said of the tokenizer besides what the model file says itself."""

    repo: str | None = None
    """Hub repository whose tokenizer the model's vocabulary is compared with."""
    file: str | None = None
    """File of that tokenizer in the repository."""
    eos_token: str | None = None
    """One more token that ends an answer, by its text."""
    chat_template: str | None = None
    """Jinja template used instead of the model's own."""


class LlmSettings(_Section):
    """Which model is loaded, and how."""

    repo: str | None = None
    """Hub repository of the model."""
    file: str | None = None
    """GGUF file in that repository."""
    branch: str = "main"
    """Branch, tag or commit of the repository."""
    path: Annotated[Path | None, BeforeValidator(_expand_path)] = None
    """A GGUF file on this machine; wins over `repo`."""
    n_ctx: int = Field(default=_LOAD.n_ctx, ge=0, lt=2**31)
    """Tokens the context holds; 0 takes the model's own, at most 4096."""
    n_batch: int = Field(default=_LOAD.n_batch, ge=1, lt=2**31)
    """Tokens evaluated in one prefill chunk."""
    n_ubatch: int = Field(default=_LOAD.n_ubatch, ge=0, lt=2**31)
    """Tokens computed at a time within a chunk; 0 lets the program choose."""
    n_threads: int = Field(default=_LOAD.n_threads, ge=0, le=1024)
    """CPU threads; 0 lets the program choose."""
    n_gpu_layers: int = Field(default=_LOAD.n_gpu_layers, ge=-1, lt=2**31)
    """Layers put on the GPU; -1 is all of them, where the build can."""
    flash_attn: Literal["auto", "on", "off"] = _LOAD.flash_attn
    """Flash attention."""
    type_k: KvType = _LOAD.type_k
    """Storage type of the keys in the KV cache."""
    type_v: KvType = _LOAD.type_v
    """Storage type of the values in the KV cache."""
    use_mmap: bool = _LOAD.use_mmap
    """Map the model file into memory instead of reading it."""
    use_mlock: bool = _LOAD.use_mlock
    """Keep the model from being swapped out."""

    def load_options(self, eos_token: str | None) -> LoadOptions:
        """How the engine is to load the model, with `tokenizer.eos_token` as one more end token."""
        return LoadOptions(
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            n_ubatch=self.n_ubatch,
            n_threads=self.n_threads,
            n_gpu_layers=self.n_gpu_layers,
            flash_attn=self.flash_attn,
            type_k=self.type_k,
            type_v=self.type_v,
            use_mmap=self.use_mmap,
            use_mlock=self.use_mlock,
            eos_token=eos_token,
        )


class InferenceSettings(_Section):
    """How tokens are chosen, and when an answer ends. The sampling settings mean what `SamplingParams` says."""

    temperature: float = _SAMPLING.temperature
    top_k: int = _SAMPLING.top_k
    top_p: float = _SAMPLING.top_p
    min_p: float = _SAMPLING.min_p
    typical_p: float = _SAMPLING.typical_p
    top_n_sigma: float = _SAMPLING.top_n_sigma
    xtc_probability: float = _SAMPLING.xtc_probability
    xtc_threshold: float = _SAMPLING.xtc_threshold
    repeat_penalty: float = _SAMPLING.repeat_penalty
    repeat_last_n: int = _SAMPLING.repeat_last_n
    frequency_penalty: float = _SAMPLING.frequency_penalty
    presence_penalty: float = _SAMPLING.presence_penalty
    dry_multiplier: float = _SAMPLING.dry_multiplier
    dry_base: float = _SAMPLING.dry_base
    dry_allowed_length: int = _SAMPLING.dry_allowed_length
    dry_penalty_last_n: int = _SAMPLING.dry_penalty_last_n
    dry_sequence_breakers: Texts = _SAMPLING.dry_sequence_breakers
    dynatemp_range: float = _SAMPLING.dynatemp_range
    dynatemp_exponent: float = _SAMPLING.dynatemp_exponent
    mirostat: int = _SAMPLING.mirostat
    mirostat_tau: float = _SAMPLING.mirostat_tau
    mirostat_eta: float = _SAMPLING.mirostat_eta
    adaptive_target: float = _SAMPLING.adaptive_target
    adaptive_decay: float = _SAMPLING.adaptive_decay
    grammar: str = _SAMPLING.grammar
    """GBNF, a file that holds it, or the name of one that comes along; empty is none."""
    json_schema: str = ""
    """A JSON schema, or a file that holds it: the answer is a document it describes; empty is none."""
    logit_bias: Biases = _SAMPLING.logit_bias
    """Token to the nats added to its logit; `-inf` or `false` bans it. A token is named as in `ban`."""
    ban: Bans = ()
    """What never comes: tokens by id or by a /pattern/, and texts, however they would be cut into tokens."""
    seed: int | None = None
    """Seed of the draw; none means a fresh one for each answer."""
    order: Names = _SAMPLING.order
    max_length: int = Field(default=_LIMITS.max_tokens, ge=1, lt=2**31)
    """Most tokens in an answer."""
    stop: Texts = _LIMITS.stop
    """Texts that end an answer; they are not part of it."""
    time_limit_s: float | None = Field(default=_LIMITS.time_limit_s, gt=0, allow_inf_nan=False)
    """Seconds after which an answer ends."""
    min_confidence: float | None = Field(default=_LIMITS.min_confidence, ge=0, le=1)
    """An answer ends when the best token's probability falls below this."""
    system: str | None = None
    """System message of new conversations."""
    enable_thinking: bool | None = None
    """For chat templates that can switch reasoning; none leaves it to the template."""

    @field_validator(*SAMPLING_FIELDS, mode="after")
    @classmethod
    def _within_limits(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            assert info.field_name is not None
            try:
                SamplingParams(**{info.field_name: value})
            except SamplingError as error:
                raise ValueError(str(error).removeprefix(f"{info.field_name} ")) from error
        return value

    @field_validator("stop", mode="after")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("holds an empty text, which would end every answer at once: remove it")
        return value

    def sampling_params(self, seed: int, resolve: Resolve | None = None) -> SamplingParams:
        """The sampling settings of one answer.

        Args:
            seed: Seed of this answer; the caller draws one where `self.seed` is None.
            resolve: Gives the ids of the tokens that a text or a pattern stands for (`Vocabulary.resolve`).

        Raises:
            SamplingError: A text to bias is no token of the vocabulary, or a token is both banned and biased.
            GrammarError: The grammar or the JSON schema does not hold.
        """
        values = {name: getattr(self, name) for name in SAMPLING_FIELDS}
        pairs = tuple(bias for one in self.resolved_biases(resolve) for bias in one.biases)
        return SamplingParams(**{**values, "seed": seed, "logit_bias": pairs, "grammar": self.grammar_text()})

    def contradictions(self) -> Mapping[str, str]:
        """What is wrong with settings that hold by themselves but not beside the others, by their names."""
        found: dict[str, str] = {}
        for name, values in (
            ("grammar", {"grammar": self.grammar}),
            ("json_schema", {"grammar": self.json_schema}),
            ("mirostat", {"mirostat": self.mirostat}),
        ):
            try:
                SamplingParams(order=self.order, **values)
            except SamplingError as error:
                found[name] = str(error)
        if self.grammar and self.json_schema:
            found["json_schema"] = _ONE_FORM
        return found

    def resolved_biases(self, resolve: Resolve | None = None, n_vocab: int | None = None) -> tuple[Resolved, ...]:
        """Which tokens the biases and bans meet, for people to see; raises what `sampling_params` does."""
        return resolve_biases(self.logit_bias, self.ban, resolve, n_vocab)

    def grammar_text(self) -> str:
        """The grammar in force as GBNF, that of the JSON schema included; empty is none.

        Raises:
            GrammarError: It does not hold.
            SamplingError: Both are given.
        """
        if self.grammar and self.json_schema:
            raise SamplingError(_ONE_FORM)
        if self.json_schema:
            from tui_chat.engine.json_schema import load_schema

            return load_schema(self.json_schema)
        return load_grammar(self.grammar) if self.grammar else ""

    def limits(self) -> Limits:
        """When an answer ends besides the model's own end token."""
        return Limits(
            max_tokens=self.max_length,
            stop=self.stop,
            time_limit_s=self.time_limit_s,
            min_confidence=self.min_confidence,
        )


class UiSettings(_Section):
    """How the app looks and which keys it obeys."""

    theme: str = "tui-chat-dark"
    """Name of a theme."""
    educational: bool = False
    """Log after each answer how it came about."""
    language: str | None = None
    """Language of what the program explains: en, es or pt; None follows the locale."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Binding id to the keys that trigger it, separated by commas."""

    @field_validator("language", mode="after")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                language.known(value)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return value


class Settings(_Section):
    """All settings, by section."""

    tokenizer: TokenizerSettings = TokenizerSettings()
    llm: LlmSettings = LlmSettings()
    inference: InferenceSettings = InferenceSettings()
    ui: UiSettings = UiSettings()


SECTIONS: Mapping[str, type[_Section]] = {
    "tokenizer": TokenizerSettings,
    "llm": LlmSettings,
    "inference": InferenceSettings,
    "ui": UiSettings,
}
"""The sections by name, in the order of `Settings`."""


def setting_keys() -> tuple[str, ...]:
    """Dotted names of all settings, in the order they are declared."""
    return tuple(f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields)
