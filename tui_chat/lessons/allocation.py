"""What llama.cpp put where, and how it reckoned: read from the lines it logs while it loads a model.

llama.cpp gives no other account of its buffers. It logs MiB with two decimals, so a size may be 5 KiB off; where a
product of its own figures comes to what was logged, that product is taken, which is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tui_chat.engine.model_types import BYTES_PER_NUMBER
from tui_chat.language import _

MIB = 1 << 20

_ROUNDING_MIB = 0.0051


class Purpose(StrEnum):
    """What a buffer is for."""

    WEIGHTS = "weights"
    CACHE = "kv_cache"
    STATE = "state"
    """Of recurrent layers."""
    COMPUTE = "compute"
    OUTPUT = "output"


_PURPOSES = {
    "model": Purpose.WEIGHTS,
    "KV": Purpose.CACHE,
    "RS": Purpose.STATE,
    "compute": Purpose.COMPUTE,
    "output": Purpose.OUTPUT,
}


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory that llama.cpp set aside."""

    purpose: Purpose
    device: str
    """As llama.cpp names it: `CPU`, `CPU_Mapped`, `CUDA0`, `CUDA_Host`, ..."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class KvCache:
    """Keys and values of some layers of a model (`llama_kv_cache`); sliding windows have a cache of their own."""

    cells: int
    """Places for a token each."""
    n_layers: int
    type_k: str
    type_v: str
    mib: float
    """Size as it was logged: of all, of the keys, of the values."""
    k_mib: float
    v_mib: float
    window: bool
    """Holds the layers that look back only a part of the way."""
    n_k: int | None
    """Numbers that all its layers keep of a token's keys; None where that is not known."""
    n_v: int | None
    uniform: bool
    """All its layers are of one width."""

    @property
    def bytes_per_token(self) -> int | None:
        """Keys and values of one token in all its layers; None where that times `cells` is not what was logged."""
        if self.n_k is None or self.n_v is None:
            return None
        k, v = self.n_k * BYTES_PER_NUMBER.get(self.type_k, 0), self.n_v * BYTES_PER_NUMBER.get(self.type_v, 0)
        told = _agree(self.cells * k, self.k_mib) and _agree(self.cells * v, self.v_mib)
        return round(k + v) if told else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, and the numbers of a key and of a value of each; where they differ 1, and those of all together."""
        times = self.n_layers if self.uniform else 1
        return times, (self.n_k or 0) // times, (self.n_v or 0) // times

    @property
    def term(self) -> str:
        """How `bytes_per_token` comes about: layers × (key × bytes + value × bytes)."""
        times, k, v = self.shape
        sum_ = f"({k} × {BYTES_PER_NUMBER[self.type_k]:g} + {v} × {BYTES_PER_NUMBER[self.type_v]:g})"
        return f"{times} × {sum_}" if self.uniform else sum_

    @property
    def size_bytes(self) -> int:
        """All of it."""
        per_token = self.bytes_per_token
        return round(self.mib * MIB) if per_token is None else self.cells * per_token


@dataclass(frozen=True, slots=True)
class Allocation:
    """Everything the log says about memory."""

    buffers: tuple[Buffer, ...]
    caches: tuple[KvCache, ...]
    model: Mapping[str, str]
    """llama.cpp's own figures of the model (`print_info`), such as `n_embd_k_gqa`."""

    def size_of(self, *purposes: Purpose) -> int:
        """Bytes of the buffers for these purposes, or of all."""
        return sum(buffer.size_bytes for buffer in self.buffers if not purposes or buffer.purpose in purposes)

    @property
    def recurrent(self) -> bool:
        """Whether some layers keep a state instead of keys and values."""
        return any(buffer.purpose is Purpose.STATE for buffer in self.buffers)

    @property
    def formula(self) -> str:
        """How `bytes_per_token` comes about, one term for each cache."""
        return " + ".join(cache.term for cache in self.caches)

    @property
    def bytes_per_token(self) -> int | None:
        """What the KV cache keeps of one token; None without a cache, or where the formula does not hold for a part."""
        parts = [cache.bytes_per_token for cache in self.caches]
        return sum(part for part in parts if part is not None) if parts and None not in parts else None

    def cache_bytes(self, n_tokens: int, n_ctx: int) -> int | None:
        """What so many tokens take; a cache that is smaller than the context stays as it is.

        Args:
            n_tokens: In the context.
            n_ctx: Tokens the context was made for.
        """
        if self.bytes_per_token is None:
            return None
        return sum(
            (cache.bytes_per_token or 0) * (n_tokens if cache.cells >= n_ctx else min(n_tokens, cache.cells))
            for cache in self.caches
        )


def read_log(lines: Sequence[str]) -> Allocation:
    """Read the log of one load: model and context.

    Args:
        lines: `Engine.load_log`.
    """
    model = {match[1]: match[2].strip() for line in lines if (match := re.match(r"print_info: (\S+)\s+= (.*)", line))}
    caches = tuple(_caches(lines, model))
    n_outputs = logged(lines, r"n_outputs_max +=\s*(\d+)")
    exact = {
        Purpose.CACHE: sum(cache.size_bytes for cache in caches),
        Purpose.OUTPUT: 4 * int(n_outputs or 0) * int(model.get("n_vocab", 0)),
    }
    return Allocation(tuple(_buffers(lines, exact)), caches, model)


def place(device: str) -> str:
    """Where a buffer is, for people."""
    if device.endswith("_Mapped"):
        return _("{device}, mapped").format(device=device.removesuffix("_Mapped"))
    if device.endswith("_Host"):
        return _("main memory for {device}").format(device=device.removesuffix("_Host"))
    return device


def logged(lines: Sequence[str], pattern: str) -> str | None:
    """The first group of a regular expression in the first line it is found in."""
    return next((match[1] for line in lines if (match := re.search(pattern, line))), None)


def _agree(size_bytes: float, logged_mib: float) -> bool:
    return abs(size_bytes / MIB - logged_mib) <= _ROUNDING_MIB


def _buffers(lines: Sequence[str], exact: Mapping[Purpose, int]) -> Iterator[Buffer]:
    """The buffers by purpose; `exact` has the sizes that are known better than the log says."""
    sizes: dict[Purpose, dict[str, float]] = {purpose: {} for purpose in Purpose}
    for line in lines:
        match = re.search(r": +(\S+) +(.*\S) +buffer size += +([\d.]+) MiB", line)
        if match is None:
            continue
        purpose = Purpose.STATE if match[2].endswith("state") else _PURPOSES.get(match[2])
        if purpose is None:
            continue
        # Compute buffers may be laid out twice, the second time for good; everything else adds up.
        before = 0.0 if purpose is Purpose.COMPUTE else sizes[purpose].get(match[1], 0.0)
        sizes[purpose][match[1]] = before + float(match[3])
    for purpose, devices in sizes.items():
        for device, mib in devices.items():
            known = exact.get(purpose, 0) if len(devices) == 1 else 0
            yield Buffer(purpose, device, known if known and _agree(known, mib) else round(mib * MIB))


def _caches(lines: Sequence[str], model: Mapping[str, str]) -> Iterator[KvCache]:
    window = False
    for line in lines:
        if "creating" in line and "KV cache" in line:
            window = "creating SWA" in " ".join(line.split())
        match = re.search(
            r"llama_kv_cache: size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers.* "
            r"K \((\w+)\): +([\d.]+) MiB, V \((\w+)\): +([\d.]+) MiB",
            line,
        )
        if match is None:
            continue
        mib, cells, layers, type_k, k_mib, type_v, v_mib = match.groups()
        widths_k, widths_v = (_widths(model.get(f"n_embd_{kind}_gqa", ""), int(layers)) for kind in "kv")
        yield KvCache(
            cells=int(cells),
            n_layers=int(layers),
            type_k=type_k,
            type_v=type_v,
            mib=float(mib),
            k_mib=float(k_mib),
            v_mib=float(v_mib),
            window=window,
            n_k=sum(widths_k) if widths_k else None,
            n_v=sum(widths_v) if widths_v else None,
            uniform=len({*widths_k}) == len({*widths_v}) == 1,
        )


def _widths(text: str, n_layers: int) -> list[int]:
    """Numbers a token in each of `n_layers` layers, from one figure or a list of all layers; [] where unclear."""
    figures = [int(figure) for figure in re.findall(r"\d+", text)]
    if len(figures) == 1:
        return figures * n_layers
    kept = [figure for figure in figures if figure]  # a recurrent layer keeps none
    if len(set(kept)) == 1:
        return kept[:1] * n_layers
    return kept if len(kept) == n_layers else []
