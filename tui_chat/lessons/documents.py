"""Values as JSON documents: plain types only, and no number that JSON does not know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from tui_chat.engine.types import Candidate, StageTrace, TokenTrace


def dump(document: object) -> str:
    """One line of JSON; infinities and NaN become null."""
    return json.dumps(finite(document), ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """The value with every number that is not finite replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def token_text(piece: bytes) -> str:
    """The text of a token; bytes that are no whole character are replaced."""
    return piece.decode("utf-8", "replace")


def trace_document(trace: TokenTrace, piece: Callable[[int], bytes]) -> dict[str, object]:
    """A token's trace with the texts of the tokens in it.

    Args:
        trace: The trace.
        piece: Gives the bytes of a token (`Vocabulary.piece`).
    """
    return {
        "position": trace.position,
        "id": trace.id,
        "text": token_text(trace.piece),
        "bytes": trace.piece.hex(),
        "logit": trace.logit,
        "logsumexp": trace.logsumexp,
        "p": trace.p,
        "rank": trace.rank,
        "entropy": trace.entropy,
        "surprisal": trace.surprisal,
        "top": [
            {"id": token, "text": token_text(piece(token)), "logit": logit, "p": math.exp(logit - trace.logsumexp)}
            for token, logit in trace.top
        ],
        "stages": [{"name": stage.name, "survivors": stage.survivors, **_besides(stage)} for stage in trace.stages],
        "candidates": [{"id": token, "text": token_text(piece(token)), "p": p} for token, p in trace.final],
        "u": trace.u,
        "seconds": trace.seconds,
    }


def stage_document(stage: StageTrace) -> dict[str, object]:
    """A stage and the candidates it left."""
    return {
        "name": stage.name,
        "survivors": stage.survivors,
        **_besides(stage),
        "candidates": [candidate_document(candidate) for candidate in stage.candidates],
    }


def _besides(stage: StageTrace) -> dict[str, object]:
    """What only some stages have to say."""
    said = {"at_least": stage.at_least, "lost": stage.lost, "note": stage.note}
    return {key: value for key, value in said.items() if value}


def candidate_document(candidate: Candidate) -> dict[str, object]:
    """A candidate's id, logit and probability."""
    return {"id": candidate.id, "logit": candidate.logit, "p": candidate.p}
