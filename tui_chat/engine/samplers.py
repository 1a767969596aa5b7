"""llama.cpp's samplers, each to be applied by itself, and the array of candidates they work on."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.llama import bind_short, lc

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""Layout of `llama_token_data`."""


class _Array(ctypes.Structure):
    """`llama_token_data_array` with the pointer as a number: reading it makes no pointer object."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


_sampler_apply = bind_short("llama_sampler_apply", [ctypes.c_void_p, ctypes.POINTER(_Array)], None)
_sampler_accept = bind_short("llama_sampler_accept", [ctypes.c_void_p, ctypes.c_int32], None)


class CandidateArray:
    """The tokens still in the running, as llama.cpp's samplers see them.

    Args:
        capacity: Most candidates it will ever hold.
    """

    def __init__(self, capacity: int) -> None:
        self._storage = np.zeros(capacity, CANDIDATE)
        self._base: int = self._storage.ctypes.data
        self._struct = _Array(self._base, 0, -1, False)
        self._ref = ctypes.byref(self._struct)

    def fill(self, ids: NDArray[np.integer[Any]], logits: NDArray[np.float32]) -> None:
        """Start anew with these candidates."""
        n = len(ids)
        view = self._storage[:n]
        view["id"], view["logit"] = ids, logits  # `p` is computed by the stages that read it
        self._struct.data, self._struct.size = self._base, n
        self._struct.selected, self._struct.sorted = -1, False

    def forget_order(self) -> None:
        """Say that the candidates are not sorted: llama.cpp's logit bias leaves the mark of an earlier stage."""
        self._struct.sorted = False

    def drop_infinite(self) -> int:
        """Take out the candidates with a logit of -inf, which llama.cpp's stages leave where they are; how many."""
        return self.keep(self.view()["logit"] > -np.inf)

    def keep(self, those: NDArray[np.bool_]) -> int:
        """Take out all but `those` (n,), in their order; how many went."""
        view = self.view()
        kept = int(np.count_nonzero(those))
        if dropped := len(view) - kept:
            view[:kept] = view[those]
            self._struct.size = kept
        return dropped

    def apply(self, sampler: NativeSampler) -> None:
        """Run one native stage on the candidates."""
        _sampler_apply(sampler.handle, self._ref)

    def __len__(self) -> int:
        return int(self._struct.size)

    def view(self) -> NDArray[np.void]:
        """The candidates as they stand: (n,) of `CANDIDATE`; read it before the next stage."""
        # XTC moves the pointer, so the struct is asked and not our own storage.
        offset = (self._struct.data - self._base) // CANDIDATE.itemsize
        return self._storage[offset : offset + self._struct.size]


class NativeSampler:
    """One of llama.cpp's samplers. Make it with the class methods."""

    def __init__(self, handle: Any) -> None:
        self.handle = ctypes.cast(handle, ctypes.c_void_p)

    def close(self) -> None:
        """Free it."""
        if self.handle.value:
            lc.llama_sampler_free(ctypes.cast(self.handle, lc.llama_sampler_p_ctypes))
            self.handle = ctypes.c_void_p(None)

    def accept(self, token: int) -> None:
        """Tell it that `token` was chosen (penalties and DRY keep a history)."""
        _sampler_accept(self.handle, token)

    @classmethod
    def top_k(cls, k: int) -> NativeSampler:
        """Keep the k best."""
        return cls(lc.llama_sampler_init_top_k(k))

    @classmethod
    def top_p(cls, p: float) -> NativeSampler:
        """Nucleus sampling."""
        return cls(lc.llama_sampler_init_top_p(p, 1))

    @classmethod
    def min_p(cls, p: float) -> NativeSampler:
        """Keep what has at least this share of the best probability."""
        return cls(lc.llama_sampler_init_min_p(p, 1))

    @classmethod
    def top_n_sigma(cls, n: float) -> NativeSampler:
        """Keep logits within n standard deviations of the best."""
        return cls(lc.llama_sampler_init_top_n_sigma(n))

    @classmethod
    def xtc(cls, threshold: float) -> NativeSampler:
        """Exclude top choices, always: whether it acts at a token is drawn by the caller."""
        return cls(lc.llama_sampler_init_xtc(1.0, threshold, 1, 0))

    @classmethod
    def temperature(cls, t: float) -> NativeSampler:
        """Divide the logits by t; 0 leaves only the best finite."""
        return cls(lc.llama_sampler_init_temp(t))

    @classmethod
    def grammar(cls, vocabulary: Any, text: str) -> NativeSampler | None:
        """Refuse tokens that `text` (GBNF) does not let come next; None where llama.cpp does not take it.

        Accepting a token that it refuses ends the process.
        """
        handle = lc.llama_sampler_init_grammar(vocabulary, text.encode(), b"root")
        return cls(handle) if handle else None

    @classmethod
    def penalties(cls, n_vocab: int, last_n: int, repeat: float, frequency: float, presence: float) -> NativeSampler:
        """Repeat, frequency and presence penalties over the last n accepted tokens."""
        return cls(lc.llama_sampler_init_penalties(n_vocab, last_n, repeat, frequency, presence))

    @classmethod
    def dry(
        cls,
        multiplier: float,
        base: float,
        allowed_length: int,
        last_n: int,
        breakers: Sequence[str] = (),
        vocabulary: Any = None,
    ) -> NativeSampler:
        """DRY; sequence breakers need a vocabulary."""
        texts = (ctypes.c_char_p * max(1, len(breakers)))(*[text.encode() for text in breakers])
        return cls(
            lc.llama_sampler_init_dry(vocabulary, multiplier, base, allowed_length, last_n, texts, len(breakers))
        )

    @classmethod
    def logit_bias(cls, n_vocab: int, bias: Sequence[tuple[int, float]]) -> NativeSampler:
        """Add to the logits of single tokens."""
        array = (lc.llama_logit_bias * len(bias))(*[lc.llama_logit_bias(token, value) for token, value in bias])
        return cls(lc.llama_sampler_init_logit_bias(n_vocab, len(bias), array))
