"""`tui-chat sample`: the sampler chain on any distribution, no model needed."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui_chat.cli.options import Command, current_flags, json_option, sampling_options
from tui_chat.engine.bias import resolve_biases
from tui_chat.engine.types import DEFAULT_ORDER, SamplingParams
from tui_chat.errors import UsageError
from tui_chat.lessons.documents import dump

if TYPE_CHECKING:
    from tui_chat.lessons.chain import ChainReport

NEUTRAL = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
"""Settings under which no stage does anything: only what is named on the command line acts."""

_BAR = 24
_ROWS = 12


@click.command("sample", cls=Command)
@click.option("--probs", metavar="P,P,…", help="The distribution as probabilities of tokens 0, 1, 2, …")
@click.option(
    "--logits",
    "logits_file",
    metavar="FILE",
    help='The distribution as logits in a file: numbers, or a JSON list; "-" reads standard input.',
)
@click.option("--stages", metavar="STAGE,STAGE,…", help="Run just these stages in this order, and report each.")
@click.option("--last-tokens", metavar="ID,ID,…", help="The tokens before, oldest first: what penalties look at.")
@click.option(
    "--position", type=click.IntRange(min=0), default=0, metavar="N", help="Place in the context; part of the draw."
)
@json_option
@sampling_options
def command(
    probs: str | None,
    logits_file: str | None,
    stages: str | None,
    last_tokens: str | None,
    position: int,
    as_json: bool,
) -> None:
    """Run the sampler chain on a distribution and show what each stage leaves.

    Settings that are not named do nothing here: the settings file is not read. Penalties and DRY look at --last-tokens.
    Tokens are named by their ids; what is about texts, such as a grammar, needs a model and is refused.
    """
    if (probs is None) == (logits_file is None):
        raise UsageError("give the distribution with either --probs or --logits")
    logits = _from_probs(probs) if probs is not None else _from_file(str(logits_file))
    params = _params(stages)
    history = _ids(last_tokens, len(logits))
    from tui_chat.lessons.chain import run_chain

    report = run_chain(logits, params, history=history, position=position, always=params.order if stages else ())
    if as_json:
        click.echo(dump(report.as_dict()))
    else:
        click.echo(_draw(report))


def _params(stages: str | None) -> SamplingParams:
    flags = {key.partition(".")[2]: value for key, value in current_flags().items() if key.startswith("inference.")}
    known = {name: value for name, value in flags.items() if name in SamplingParams.__dataclass_fields__}
    for name in ("grammar", "json_schema", "dry_sequence_breakers"):
        if flags.get(name):
            raise UsageError(
                f"--{name.replace('_', '-')} is about texts, and without a model there are none: leave it out"
            )
    bias, bans = known.get("logit_bias", ()), flags.get("ban", ())
    assert isinstance(bias, tuple) and isinstance(bans, tuple)
    found = resolve_biases(bias, bans, None)
    known["logit_bias"] = tuple(bias for one in found for bias in one.biases)
    if stages is not None and "order" in known:
        raise UsageError("--stages and --order both give the order: use one of them")
    order = stages if stages is not None else known.get("order")
    known["order"] = _order(str(order)) if order is not None else DEFAULT_ORDER
    values = {name: getattr(NEUTRAL, name) for name in SamplingParams.__dataclass_fields__}
    return SamplingParams(**{**values, **known})


_ALIASES = {
    "temp": "temperature",
    "typ_p": "typical",
    "typical_p": "typical",
    "penalty": "penalties",
    "bias": "logit_bias",
    "dynatemp": "temperature",
}


def _order(text: str) -> tuple[str, ...]:
    names = [name.strip().lower().replace("-", "_") for name in text.split(",") if name.strip()]
    return tuple(_ALIASES.get(name, name) for name in names)


def _ids(text: str | None, n: int) -> list[int]:
    if not text:
        return []
    try:
        ids = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--last-tokens takes token ids separated by commas, not {text!r}") from None
    outside = [token for token in ids if not 0 <= token < n]
    if outside:
        raise UsageError(f"--last-tokens names token {outside[0]}, but the distribution has tokens 0 to {n - 1}")
    return ids


def _from_probs(text: str) -> list[float]:
    values = _numbers(text, "--probs")
    for index, value in enumerate(values):
        if not 0 <= value < math.inf:
            raise UsageError(f"--probs: the probability of token {index} is {value:g}, which is not 0 or more")
    total = math.fsum(values)
    if total <= 0:
        raise UsageError("--probs: all probabilities are 0, so there is nothing to draw")
    return [math.log(value / total) if value > 0 else -math.inf for value in values]


def _from_file(name: str) -> list[float]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--logits: {name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--logits: {name} is not text (byte {error.start}): give numbers or a JSON list") from error
    if text.lstrip().startswith(("[", "{")):
        try:
            document = json.loads(text)
        except ValueError as error:
            raise UsageError(f"--logits: {name} is not valid JSON: {error}") from error
        values = document.get("logits") if isinstance(document, dict) else document
        if not isinstance(values, list) or not values:
            raise UsageError(f"--logits: {name} must hold a list of numbers")
        return [_logit(value, index, name) for index, value in enumerate(values)]
    return [_logit(value, index, name) for index, value in enumerate(_numbers(text, f"--logits: {name}"))]


def _logit(value: object, index: int, name: str) -> float:
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
        raise UsageError(
            f"--logits: {name}: the logit of token {index} is {value!r}; it must be a number, or null for -inf"
        )
    return float(value)


def _numbers(text: str, what: str) -> list[float]:
    values = []
    for part in re.split(r"[\s,;]+", text.strip()):
        try:
            values.append(float(part))
        except ValueError:
            raise UsageError(f"{what}: {part!r} is not a number") from None
    return values


def _draw(report: ChainReport) -> str:
    lines = []
    for stage in report.blocks():
        name, candidates = stage.name, stage.candidates
        head = f"{name}: {stage.survivors} left" if name != "start" else f"start: {stage.survivors} tokens"
        lines.append(f"{head} · {stage.note}" if stage.note else head)
        for candidate in candidates[:_ROWS]:
            filled = round(candidate.p * _BAR)
            bar = "█" * filled + "·" * (_BAR - filled)
            mark = " ◀" if name == report.last_name and candidate.id == report.picked else ""
            lines.append(f"  {candidate.id:>6}  {candidate.logit:>9.4f}  {candidate.p:>7.2%}  {bar}{mark}")
        if len(candidates) > _ROWS:
            lines.append(f"  … and {len(candidates) - _ROWS} more")
        lines.append("")
    how = "greedy: the best one" if report.u is None else f"u = {report.u:.6f}"
    lines.append(f"picked {report.picked} ({how})")
    return "\n".join(lines)
