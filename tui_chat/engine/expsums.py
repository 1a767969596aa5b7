"""Sums over the vocabulary in one walk: the two behind logsumexp and entropy, and the two of a standard deviation.

numpy takes five passes over arrays larger than a cache (subtract, exp, sum, multiply, sum), right after the weights of
the model went through that cache. ggml's own vector functions do them a chunk at a time while it lies in the first
level. They are not part of ggml's public header: where a build does not show them, numpy does the same sums.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_int, c_size_t, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.llama import LIB_DIR

_CHUNK = 8192
"""float32 numbers; three such chunks lie in a first-level cache of 96 KiB, and partial sums stay short."""
_SAMPLED = 1024
"""How many logits tell about where the mean lies."""


class _VectorFunctions:
    """ggml's own loops over float32 arrays, called with addresses.

    Raises:
        OSError, AttributeError: This build does not show them.
    """

    def __init__(self) -> None:
        library = ctypes.PyDLL(str(next(iter(LIB_DIR.glob("*ggml-cpu.*")), "")))
        self.exp: Any = library.ggml_vec_soft_max_f32
        """(n, target, source, highest) -> sum of the exp(source - highest) it wrote (ggml/src/ggml-cpu/vec.cpp)."""
        self.exp.argtypes = [c_int, c_void_p, c_void_p, ctypes.c_float]
        self.exp.restype = ctypes.c_double
        self._dot: Any = library.ggml_vec_dot_f32
        self._dot.argtypes = [c_int, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, c_int]
        self._dot.restype = None
        self._result = ctypes.c_float()
        self._address = ctypes.addressof(self._result)

    def dot(self, n: int, x: int, y: int) -> float:
        """Dot product of two arrays of n float32 at these addresses."""
        self._dot(n, self._address, 0, x, 0, y, 0, 1)
        return self._result.value


def _find_vector_functions() -> _VectorFunctions | None:
    try:
        found = _VectorFunctions()
    except (OSError, AttributeError):
        return None
    probe, target = np.array([-2.0, 0.5, 0.0], np.float32), np.empty(3, np.float32)
    total = found.exp(3, target.ctypes.data, probe.ctypes.data, 0.5)
    dot = found.dot(3, target.ctypes.data, probe.ctypes.data)
    exact = np.exp(probe.astype(np.float64) - 0.5)
    # The functions are private to ggml, so what they do is looked at before it is relied on.
    return found if abs(total - exact.sum()) < 1e-5 and abs(dot - (exact * probe).sum()) < 1e-5 else None


_vector_functions = _find_vector_functions()
"""None where this build does not show them."""


class ExpSums:
    """Computes (sum of e, sum of e (l - highest)) with e = exp(l - highest); -inf adds nothing."""

    def __init__(self) -> None:
        self._scratch = np.empty(_CHUNK, np.float32)
        self._target = self._scratch.ctypes.data

    def __call__(self, logits: NDArray[np.float32], highest: float) -> tuple[float, float]:
        """The two sums, in nats where there is a unit.

        Args:
            logits: (n,) float32, contiguous.
            highest: The largest of them, finite.
        """
        if _vector_functions is None:
            return exp_sums_numpy(logits, highest)
        total = weighted = 0.0
        n, source, target = len(logits), logits.ctypes.data, self._target
        for start in range(0, n, _CHUNK):
            count, at = min(_CHUNK, n - start), source + 4 * start
            total += _vector_functions.exp(count, target, at, highest)
            weighted += _vector_functions.dot(count, target, at)
        if math.isnan(weighted):  # 0 * -inf
            finite = logits[logits > -np.inf]
            return self(finite, highest) if len(finite) < n else exp_sums_numpy(logits, highest)
        return total, weighted - highest * total


class Deviation:
    """Computes the standard deviation of many logits; those at -inf do not count.

    A chunk at a time, because a second array of that size falls out of the cache, and because BLAS takes threads of its
    own to a long product, which wait for those of the model.
    """

    def __init__(self) -> None:
        self._scratch = np.empty(_CHUNK, np.float32)
        self._ones = np.ones(_CHUNK, np.float32)

    def __call__(self, logits: NDArray[np.float32]) -> float:
        """The square root of the mean squared distance from the mean.

        Args:
            logits: (n,) float32, at least one of them finite, no NaN and no +inf.
        """
        n = len(logits)
        near = logits[:: max(1, n // _SAMPLED)].mean(dtype=np.float64)
        if near > -np.inf:
            # Sums of distances from about the mean lose nothing in float32, chunk by chunk.
            total = squares = 0.0
            for start in range(0, n, _CHUNK):
                chunk = logits[start : start + _CHUNK]
                off = np.subtract(chunk, np.float32(near), out=self._scratch[: len(chunk)])
                total += float(off.dot(self._ones[: len(chunk)]))
                squares += float(off.dot(off))
            if total > -math.inf:
                return math.sqrt(max(0.0, squares / n - (total / n) ** 2))
        return self(logits[logits > -np.inf])


def exp_sums_numpy(logits: NDArray[np.float32], highest: float) -> tuple[float, float]:
    """What `ExpSums` gives, by numpy alone."""
    shifted = logits - np.float32(highest)
    e = np.exp(shifted)
    total = float(e.sum(dtype=np.float64))
    with np.errstate(invalid="ignore"):
        e *= shifted
    weighted = float(e.sum(dtype=np.float64))
    return total, float(np.nansum(e, dtype=np.float64)) if math.isnan(weighted) else weighted
