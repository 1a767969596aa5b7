"""A token's trace as bytes, at most 1 KiB, and back.

Numbers keep their full precision, so that a stored trace equals the one that was shown. What does not fit is left off
at the end of the two lists of tokens, before and after the chain. Candidates that a stage was asked to keep are not
stored.
"""

from __future__ import annotations

import math
import struct

from tui_chat.engine.types import StageTrace, TokenTrace

MAX_BYTES = 1024
"""No packed trace is longer."""

_VERSION = 1
_MAX_PIECE_BYTES = 400
_MAX_STAGES = 16
_HEAD = struct.Struct("<BiiddidddHBBB")
_PAIR = struct.Struct("<id")
_COUNT = struct.Struct("<BI")


def pack_trace(trace: TokenTrace) -> bytes:
    """The trace as bytes, at most `MAX_BYTES`."""
    piece = trace.piece[:_MAX_PIECE_BYTES]
    stages = b"".join(_pack_stage(stage) for stage in trace.stages[:_MAX_STAGES])
    room = (MAX_BYTES - _HEAD.size - len(piece) - len(stages)) // _PAIR.size
    final = trace.final[: max(room // 2, room - len(trace.top))]
    top = trace.top[: room - len(final)]
    head = _HEAD.pack(
        _VERSION,
        trace.position,
        trace.id,
        trace.logit,
        trace.logsumexp,
        trace.rank,
        trace.entropy,
        math.nan if trace.u is None else trace.u,
        trace.seconds,
        len(piece),
        min(len(trace.stages), _MAX_STAGES),
        len(top),
        len(final),
    )
    pairs = b"".join(_PAIR.pack(token, number) for token, number in (*top, *final))
    return head + piece + stages + pairs


def unpack_trace(data: bytes) -> TokenTrace:
    """The trace that `pack_trace` made the bytes of.

    Raises:
        ValueError: They are not such bytes.
    """
    try:
        version, position, token, logit, logsumexp, rank, entropy, u, seconds, n_piece, n_stages, n_top, n_final = (
            _HEAD.unpack_from(data)
        )
        if version != _VERSION:
            raise ValueError(f"traces of version {version} cannot be read")
        at = _HEAD.size
        piece = data[at : at + n_piece]
        at += n_piece
        stages: list[StageTrace] = []
        for _ in range(n_stages):
            length, survivors = _COUNT.unpack_from(data, at)
            at += _COUNT.size
            stages.append(StageTrace(data[at : at + length].decode(), survivors))
            at += length
        pairs = [_PAIR.unpack_from(data, at + index * _PAIR.size) for index in range(n_top + n_final)]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("not a stored trace") from error
    return TokenTrace(
        position=position,
        id=token,
        piece=piece,
        logit=logit,
        logsumexp=logsumexp,
        rank=rank,
        entropy=entropy,
        top=tuple(pairs[:n_top]),
        stages=tuple(stages),
        final=tuple(pairs[n_top:]),
        u=None if math.isnan(u) else u,
        seconds=seconds,
    )


def _pack_stage(stage: StageTrace) -> bytes:
    name = stage.name.encode()[:16]
    return _COUNT.pack(len(name), stage.survivors) + name
