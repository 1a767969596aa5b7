"""An answer as a file: every id, the figures behind it, and all that it takes to make it again.

JSON lines: what the answer was made with, then a line for each token, then how it ended. docs/trace-format.md describes
every key. Numbers are written in full, so that what is read equals what was written. Reading needs no model.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tui_chat.engine.types import (
    SAMPLING_FIELDS,
    FinishReason,
    GeneratedToken,
    ModelInfo,
    SamplingParams,
    StageTrace,
    TokenTrace,
)
from tui_chat.errors import SamplingError, TraceError

FORMAT = "tui-chat trace"
VERSION = 1
"""Files of a higher one are refused."""

PERIODS = "periods"
"""Key in an answer's settings: a list of [first token, settings as `params_document` has them]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMark:
    """The model that wrote an answer, and how it was loaded."""

    name: str
    path: str
    """Where the file was."""
    sha256: str
    """See `engine.gguf.fingerprint`."""
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int
    n_gpu_layers: int
    devices: tuple[str, ...]
    flash_attn: str
    type_k: str
    type_v: str

    @classmethod
    def of(cls, info: ModelInfo, sha256: str) -> ModelMark:
        """The mark of the loaded model."""
        shared = {f.name: getattr(info, f.name) for f in fields(cls) if f.name not in ("path", "sha256")}
        return cls(path=str(info.path), sha256=sha256, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTrace:
    """One answer with everything that made it."""

    program: str
    """Version of this program."""
    library: str
    """Version of llama-cpp-python and of the ggml in it."""
    created: str
    """ISO 8601, UTC."""
    model: ModelMark
    prompt_ids: tuple[int, ...]
    """What stood before the answer."""
    chunks: tuple[tuple[int, int], ...] = ()
    """How the prompt and the given tokens came into the cache, see `Context.chunks`; empty where that is not known."""
    periods: tuple[tuple[int, SamplingParams], ...]
    """(first token, settings): which settings held from which token of the answer on, in order."""
    ignore_eos: bool = False
    """Whether the end-of-generation tokens were banned."""
    n_given: int = 0
    """How many of the first tokens were not drawn by this run: a text to begin with, or what a fork kept."""
    tokens: tuple[GeneratedToken, ...]
    text: str
    finish_reason: FinishReason | None = None
    end: GeneratedToken | None = None
    """The end-of-generation token that closed the answer, where it is known."""


def write_trace(path: Path, trace: AnswerTrace) -> None:
    """Write the file; one that was there is replaced once the new one is whole.

    Raises:
        TraceError: It cannot be written.
    """
    lines = [_head(trace), *map(_token_line, trace.tokens), _tail(trace)]
    content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(content, encoding="utf-8", errors="replace")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        reason = error.strerror or error
        raise TraceError(f"{path} cannot be written ({reason}): name another file for the trace") from error


def read_trace(path: Path) -> AnswerTrace:
    """The answer in a file that `write_trace` made.

    Raises:
        TraceError: It is no such file, is of another version, or is damaged; names the line.
    """
    try:
        # Not splitlines: a text may hold characters that it takes for line ends.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError as error:
        raise TraceError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} cannot be read as a trace: {error}") from error
    head = _parsed(path, lines, 0)
    if head.get("format") != FORMAT:
        raise TraceError(f"{path} is no trace: 'tui-chat generate --trace FILE' writes one")
    if head.get("version") != VERSION:
        raise TraceError(
            f"{path} is a trace of version {head.get('version')}, and this tui-chat reads version {VERSION}: "
            f"read it with tui-chat {head.get('program', '?')}, which wrote it"
        )
    number = 0
    try:
        begun = _begun(head)
        if not begun["periods"] or begun["periods"][0][0] != 0:
            raise ValueError("no settings for the first token")
        tokens = []
        for number in range(1, len(lines) - 1):
            tokens.append(_token(_parsed(path, lines, number)))
        number = len(lines) - 1
        tail = _parsed(path, lines, number)
        if not 0 <= begun["n_given"] <= len(tokens):
            raise ValueError(f"{begun['n_given']} of {len(tokens)} tokens were given")
        if "text" not in tail or tail["n_tokens"] != len(tokens):
            raise TraceError(f"{path} is not whole: it was cut off after {len(tokens)} tokens")
        return AnswerTrace(
            **begun,
            tokens=tuple(tokens),
            text=str(tail["text"]),
            finish_reason=None if tail["finish_reason"] is None else FinishReason(tail["finish_reason"]),
            end=None if tail["end"] is None else _token(tail["end"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, SamplingError) as error:
        raise TraceError(f"{path} is damaged in line {number + 1} ({type(error).__name__}: {error})") from error


def params_document(params: SamplingParams) -> dict[str, Any]:
    """The settings as plain values; a ban is a bias of None."""
    values = asdict(params)
    values["logit_bias"] = [[token, bias if math.isfinite(bias) else None] for token, bias in params.logit_bias]
    return values


def params_from(values: Mapping[str, Any]) -> SamplingParams:
    """The settings that plain values say; those not named have their defaults.

    Raises:
        SamplingError: A value is out of range.
        ValueError: There is no such setting.
    """
    unknown = [name for name in values if name not in SAMPLING_FIELDS]
    if unknown:
        raise ValueError(f"there is no sampling setting {unknown[0]!r}: a newer tui-chat wrote it")
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value for name, value in values.items()
    }
    if "logit_bias" in known:
        known["logit_bias"] = tuple(
            (token if isinstance(token, str) else int(token), -math.inf if bias is None else float(bias))
            for token, bias in known["logit_bias"]
        )
    return SamplingParams(**known)


def _head(trace: AnswerTrace) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "program": trace.program,
        "library": trace.library,
        "created": trace.created,
        "model": asdict(trace.model),
        "prompt_ids": trace.prompt_ids,
        "chunks": trace.chunks,
        "periods": [{"first": first, "params": params_document(params)} for first, params in trace.periods],
        "ignore_eos": trace.ignore_eos,
        "n_given": trace.n_given,
    }


def _begun(head: Mapping[str, Any]) -> dict[str, Any]:
    model = dict(head["model"])
    model["devices"] = tuple(model["devices"])
    return {
        "program": str(head["program"]),
        "library": str(head["library"]),
        "created": str(head["created"]),
        "model": ModelMark(**model),
        "prompt_ids": tuple(int(token) for token in head["prompt_ids"]),
        "chunks": tuple((_positive(size), _positive(count)) for size, count in head["chunks"]),
        "periods": tuple((int(period["first"]), params_from(period["params"])) for period in head["periods"]),
        "ignore_eos": bool(head["ignore_eos"]),
        "n_given": int(head["n_given"]),
    }


def _tail(trace: AnswerTrace) -> dict[str, Any]:
    return {
        "text": trace.text,
        "n_tokens": len(trace.tokens),
        "finish_reason": trace.finish_reason,
        "end": None if trace.end is None else _token_line(trace.end),
    }


_STAGE_EXTRAS = {f.name: f.default for f in fields(StageTrace) if f.name not in ("name", "survivors", "candidates")}


def _token_line(token: GeneratedToken) -> dict[str, Any]:
    line: dict[str, Any] = {"id": token.id, "bytes": token.piece.hex()}
    if token.forced:
        line["forced"] = True
    if (trace := token.trace) is not None:
        line |= {
            "position": trace.position,
            "logit": _number(trace.logit),
            "logsumexp": trace.logsumexp,
            "rank": trace.rank,
            "entropy": trace.entropy,
            "top": [[other, _number(logit)] for other, logit in trace.top],
            "stages": [_stage_document(stage) for stage in trace.stages],
            "final": trace.final,
            "u": trace.u,
            "seconds": trace.seconds,
        }
    return line


def _stage_document(stage: StageTrace) -> dict[str, Any]:
    extras = {name: getattr(stage, name) for name, usual in _STAGE_EXTRAS.items() if getattr(stage, name) != usual}
    return {"name": stage.name, "survivors": stage.survivors, **extras}


def _stage(document: Mapping[str, Any]) -> StageTrace:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in document.items()}
    return StageTrace(**values)


def _token(line: Mapping[str, Any]) -> GeneratedToken:
    piece = bytes.fromhex(line["bytes"])
    if "top" not in line:
        return GeneratedToken(int(line["id"]), piece, None, bool(line.get("forced")))
    trace = TokenTrace(
        position=int(line["position"]),
        id=int(line["id"]),
        piece=piece,
        logit=_logit(line["logit"]),
        logsumexp=_finite(line["logsumexp"]),
        rank=int(line["rank"]),
        entropy=_finite(line["entropy"]),
        top=_pairs([[token, _logit(logit)] for token, logit in line["top"]]),
        stages=tuple(_stage(stage) for stage in line["stages"]),
        final=_pairs(line["final"]),
        u=None if line["u"] is None else _finite(line["u"]),
        seconds=_finite(line["seconds"]),
    )
    return GeneratedToken(trace.id, piece, trace, bool(line.get("forced")))


def _pairs(pairs: Sequence[Sequence[Any]]) -> tuple[tuple[int, float], ...]:
    return tuple((int(token), number if number == -math.inf else _finite(number)) for token, number in pairs)


def _number(value: float) -> float | None:
    """A logit; None stands for -inf, which JSON does not know."""
    return value if math.isfinite(value) else None


def _logit(value: float | None) -> float:
    return -math.inf if value is None else _finite(value)


def _finite(value: Any) -> float:
    """A figure. JSON has no other, but numbers beyond float64 (1e999) and texts ("nan") would pass for some."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no number of tokens")
    return value


def _refuse(constant: str) -> None:
    """Python reads NaN and Infinity, which are no JSON and would equal anything."""
    raise ValueError(f"{constant} is no JSON")


def _parsed(path: Path, lines: Sequence[str], number: int) -> dict[str, Any]:
    try:
        found = json.loads(lines[number], parse_constant=_refuse)
    except (IndexError, ValueError) as error:
        if number == 0:
            raise TraceError(f"{path} is no trace: 'tui-chat generate --trace FILE' writes one") from error
        raise TraceError(f"{path} is not whole, or damaged: line {number + 1} is no JSON") from error
    if not isinstance(found, dict):
        raise TraceError(f"{path} is no trace: line {number + 1} holds no object")
    return found
