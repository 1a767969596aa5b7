"""A token's trace as bytes, at most 1 KiB, and back.

Numbers keep their full precision, so that a stored trace equals the one that was shown. What does not fit is left off
at the end of the two lists of tokens, before and after the chain. Candidates that a stage was asked to keep are not
stored, and what stages note is cut where it is longer than a line or two.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from tui_chat.engine.types import StageTrace, TokenTrace

MAX_BYTES = 1024
"""No packed trace is longer."""

_VERSION = 2
"""Version 1 had only the names and the survivors of stages."""
_MAX_PIECE_BYTES = 400
_MAX_STAGES = 16
_MAX_SAID = 160
"""Bytes for what all stages say besides their survivors."""
_HEAD = struct.Struct("<BiiddidddHBBB")
_PAIR = struct.Struct("<id")
_COUNT = struct.Struct("<BI")
_SAID = struct.Struct("<BB")
_LOST = struct.Struct("<dd")
_AT_LEAST, _HAS_LOST = 1, 2


def pack_trace(trace: TokenTrace) -> bytes:
    """The trace as bytes, at most `MAX_BYTES`."""
    piece = trace.piece[:_MAX_PIECE_BYTES]
    stages = _pack_stages(trace.stages[:_MAX_STAGES])
    room = (MAX_BYTES - _HEAD.size - len(piece) - len(stages)) // _PAIR.size  # never below 0, see the limits above
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
        if version not in (1, _VERSION):
            raise ValueError(f"traces of version {version} cannot be read")
        at = _HEAD.size
        piece = data[at : at + n_piece]
        at += n_piece
        stages: list[StageTrace] = []
        for _ in range(n_stages):
            stage, at = _unpack_stage(data, at, version)
            stages.append(stage)
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


def _pack_stages(stages: Sequence[StageTrace]) -> bytes:
    parts, room = list[bytes](), _MAX_SAID
    for stage in stages:
        name = stage.name.encode()[:16]
        lost = b"" if stage.lost is None or room < _LOST.size else _LOST.pack(*stage.lost)
        room -= len(lost)
        note = _cut(stage.note, room)
        room -= len(note)
        flags = _AT_LEAST * stage.at_least | _HAS_LOST * bool(lost)
        parts += [_COUNT.pack(len(name), stage.survivors), name, _SAID.pack(flags, len(note)), lost, note]
    return b"".join(parts)


def _unpack_stage(data: bytes, at: int, version: int) -> tuple[StageTrace, int]:
    """The stage at a place, and the place behind it."""
    length, survivors = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    name = data[at : at + length].decode()
    at += length
    if version == 1:
        return StageTrace(name, survivors), at
    flags, length = _SAID.unpack_from(data, at)
    at += _SAID.size
    lost = _LOST.unpack_from(data, at) if flags & _HAS_LOST else None
    at += 0 if lost is None else _LOST.size
    note = data[at : at + length].decode()
    return StageTrace(name, survivors, at_least=bool(flags & _AT_LEAST), lost=lost, note=note), at + length


def _cut(text: str, room: int) -> bytes:
    """The text in UTF-8, or as much of it as there is room for, and an ellipsis."""
    whole = text.encode("utf-8", "replace")
    if len(whole) <= room:
        return whole
    kept = whole[: max(0, room - 3)].decode("utf-8", "ignore")
    return f"{kept}…".encode() if kept else b""
