"""Which settings make no difference as the others stand, and why.

A value that does nothing is shown dimmed. What is named here does nothing for sure: whatever else it were set to within
its group, the same token would be chosen. Where that cannot be known beforehand, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tui_chat.config.models import InferenceSettings
from tui_chat.engine.types import TRUNCATING
from tui_chat.language import _

STAGE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "logit_bias": ("logit_bias", "ban"),
    "grammar": ("grammar", "json_schema"),
    "penalties": ("repeat_penalty", "repeat_last_n", "frequency_penalty", "presence_penalty"),
    "dry": ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
    "top_n_sigma": ("top_n_sigma",),
    "top_k": ("top_k",),
    "typical": ("typical_p",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "xtc": ("xtc_probability", "xtc_threshold"),
    "temperature": ("temperature", "dynatemp_range", "dynatemp_exponent"),
    "mirostat": ("mirostat", "mirostat_tau", "mirostat_eta"),
    "adaptive_p": ("adaptive_target", "adaptive_decay"),
}
"""The settings of each stage of the chain."""

_KEEPS_BEST = frozenset({"top_n_sigma", "top_k", "top_p", "min_p"})
"""Stages that never remove the best candidate, nor change a logit."""


def idle(settings: InferenceSettings) -> dict[str, str]:
    """Name to reason of every setting that does nothing; a reason has 20 characters at most, to stand in the row."""
    reasons: dict[str, str] = {}
    for name, reason in _reasons(settings):
        reasons.setdefault(name, reason)
    return reasons


def acts(settings: InferenceSettings, stage: str) -> bool:
    """Whether a stage does something by its own settings, wherever it stands in the order."""
    s = settings
    match stage:
        case "logit_bias":
            return bool(s.logit_bias or s.ban)
        case "grammar":
            return bool(s.grammar or s.json_schema)
        case "penalties":
            neutral = s.repeat_penalty == 1 and s.frequency_penalty == 0 and s.presence_penalty == 0
            return not neutral and s.repeat_last_n != 0
        case "dry":
            return s.dry_multiplier > 0 and s.dry_base >= 1 and s.dry_penalty_last_n != 0
        case "top_n_sigma":
            return s.top_n_sigma > 0
        case "top_k":
            return s.top_k > 0
        case "typical":
            return s.typical_p < 1
        case "top_p":
            return s.top_p < 1
        case "min_p":
            return s.min_p > 0
        case "xtc":
            return s.xtc_probability > 0 and s.xtc_threshold <= 0.5
        case "temperature":
            return s.temperature != 1 or s.dynatemp_range > 0
        case "mirostat":
            return s.mirostat > 0
        case _:
            return s.adaptive_target >= 0


def is_greedy(settings: InferenceSettings) -> bool:
    """Whether the best candidate is taken at the temperature, without a draw."""
    return settings.temperature == 0 and settings.dynatemp_range == 0 and "temperature" in settings.order


def _reasons(s: InferenceSettings) -> Iterator[tuple[str, str]]:
    for stage, names in STAGE_FIELDS.items():
        if stage not in s.order:
            yield from ((name, _("not in the order")) for name in names)
    if s.mirostat:
        for stage in sorted(TRUNCATING):
            yield from ((name, _("mirostat replaces it")) for name in STAGE_FIELDS[stage])
    yield from _within_a_stage(s)
    if is_greedy(s):
        yield from _beside_greedy(s)


def _within_a_stage(s: InferenceSettings) -> Iterator[tuple[str, str]]:
    if s.xtc_probability == 0:
        yield "xtc_threshold", _("XTC never acts")
    elif s.xtc_threshold > 0.5:
        yield "xtc_probability", _("threshold above 0.5")
    if s.repeat_last_n == 0:
        for name in ("repeat_penalty", "frequency_penalty", "presence_penalty"):
            yield name, _("last n tokens is 0")
    elif not acts(s, "penalties"):
        yield "repeat_last_n", _("no penalty is set")
    dry = STAGE_FIELDS["dry"]
    if s.dry_multiplier == 0:
        yield from ((name, _("DRY is off")) for name in dry[1:])
    elif s.dry_penalty_last_n == 0:
        yield from ((name, _("last n tokens is 0")) for name in dry if name != "dry_penalty_last_n")
    elif s.dry_base < 1:
        yield from ((name, _("base below 1")) for name in dry if name != "dry_base")
    if s.dynatemp_range == 0:
        yield "dynatemp_exponent", _("temperature is fixed")
    if s.mirostat == 0:
        yield from ((name, _("mirostat is off")) for name in ("mirostat_tau", "mirostat_eta"))
    if s.adaptive_target < 0:
        yield "adaptive_decay", _("adaptive-p is off")


def _beside_greedy(s: InferenceSettings) -> Iterator[tuple[str, str]]:
    """At temperature 0, what stands behind the temperature meets one token; before it, the best stays the best."""
    at = s.order.index("temperature")
    behind = _("T 0 leaves one token")
    for stage in s.order[at + 1 :]:
        # What is forbidden stays forbidden: behind the temperature it is an error rather than nothing.
        if stage not in ("logit_bias", "grammar"):
            # Mirostat itself is left out: switched on, it ends all truncation, wherever it stands.
            yield from ((name, behind) for name in STAGE_FIELDS[stage] if name != "mirostat")
    for stage in reversed(s.order[:at]):
        if stage in _KEEPS_BEST:
            yield from ((name, _("T 0 takes the best")) for name in STAGE_FIELDS[stage])
        elif acts(s, stage) and not (s.mirostat and stage in TRUNCATING):
            break
    if "xtc" not in s.order[:at] or not acts(s, "xtc") or s.mirostat:
        yield "seed", _("T 0 draws nothing")
