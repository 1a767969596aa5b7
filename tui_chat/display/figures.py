"""Figures as people read them: percentages, rates, sizes, spans of time, and why an answer ended.

A figure is written alike in every language, here, in the catalogues and wherever else one is shown: a decimal point,
and a comma between thousands. It stands beside what is typed and what other programs write (settings, flags, formulas,
JSON, llama.cpp's log), where `0.7` cannot be `0,7` and a comma parts the values of a list; two ways to write one number
on a screen would be worse than a foreign one. What may be typed back (the value of a setting, a seed, an id, a place in
an answer) and shapes in formulas are not grouped.
"""

from __future__ import annotations

import math
import re

from tui_chat.engine.types import FinishReason, ModelInfo
from tui_chat.language import N_, _

FINISH_WORDS: dict[FinishReason, str] = {
    FinishReason.EOS: N_("ended by the model"),
    FinishReason.LENGTH: N_("token limit reached"),
    FinishReason.STOP: N_("stop string"),
    FinishReason.CANCELLED: N_("stopped by you"),
    FinishReason.TIME: N_("time limit reached"),
    FinishReason.CONFIDENCE: N_("too unsure to go on"),
}
"""Why an answer ended, in words that are translated where they are shown."""

_STAGE_NAMES = {
    "logit_bias": "bias",
    "penalties": "penalties",
    "dry": "DRY",
    "top_n_sigma": "top-nσ",
    "top_k": "top-k",
    "typical": "typical",
    "top_p": "top-p",
    "min_p": "min-p",
    "xtc": "XTC",
    "temperature": "temperature",
}

_GROUPED = re.compile(r"[+-]?\d{1,3}([.,])\d{3}(\1\d{3})*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


def stage_name(name: str) -> str:
    """Gives a sampler stage's name as it is written for people."""
    return _STAGE_NAMES.get(name, name)


def percent(p: float) -> str:
    """Gives a probability in at most six characters: `41.2%`, `0.03%`, `<0.01%`."""
    value = p * 100
    if value >= 99.95:
        return "100%" if value >= 99.995 else f"{value:.2f}%"
    if value >= 1:
        return f"{value:.1f}%"
    if value >= 0.01:
        return f"{value:.2f}%"
    return "0%" if p == 0 else "<.01%"


def rate(tokens_per_s: float) -> str:
    """Gives `212 tok/s`; below ten with a decimal."""
    digits = 1 if tokens_per_s < 10 else 0
    return f"{tokens_per_s:,.{digits}f} tok/s"


def count(number: int) -> str:
    """Gives 152k for 151,936; exact below ten thousand."""
    if number < 10_000:
        return f"{number:,}"
    if number < 1_000_000:
        return f"{number / 1000:.0f}k"
    return f"{number / 1e6:.1f}M"


def parameters(n_params: int) -> str:
    """Gives a model's size in parameters: `3.1M`, `8.0B`."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n_params >= unit:
            return f"{n_params / unit:.1f}{name}"
    return str(n_params)


def size(size_bytes: float) -> str:
    """Gives bytes as `3.4 MB` (decimal, as the Hub counts)."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes:.0f} B"


def span(seconds: float) -> str:
    """Gives a span of time: `0.31 s`, `12 s`, `2 min 05 s`, `1 h 04 min`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def retyped(text: str, *, whole: bool) -> str | None:
    """Gives a number that was typed with commas as it is to be typed: `0.7` for `0,7`, `1024` for `1,024` and `1.024`.

    Args:
        text: What was typed.
        whole: Whether a whole number is wanted, in which such a sign can only group.

    Returns:
        None where the text is no such number.
    """
    if whole:
        return text.replace(",", "").replace(".", "") if _GROUPED.fullmatch(text) else None
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else None


def devices(info: ModelInfo) -> str:
    """Gives where a model runs: `CPU ×1` (threads), or the GPU's name and the layers on it."""
    names = [name for name in info.devices if name.upper() != "CPU"]
    if not names:
        return f"CPU ×{info.n_threads}"
    return _("{names} {n}/{total} layers").format(names=" + ".join(names), n=info.n_gpu_layers, total=info.n_layer + 1)


def nats(value: float) -> str:
    """Gives a surprisal or an entropy with its unit: `1.83 nats`."""
    return _("{n:.2f} nats").format(n=value)


def perplexity(nats: float) -> float:
    """e to a mean surprisal; infinite where a float cannot hold it."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def perplexity_text(perplexity: float) -> str:
    """Gives a perplexity in few characters: `1.08`, `12.3`, `1,234`, `8e+12`."""
    if perplexity >= 1e7:
        return f"{perplexity:.0e}"
    return f"{perplexity:,.{2 if perplexity < 10 else 1 if perplexity < 100 else 0}f}"
