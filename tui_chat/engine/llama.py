"""llama.cpp, behind one door: the only file that imports llama_cpp. `samplers` and `quantize` use it through this one.

Every native object here is owned by a Python object with `close()`; codes become our errors; llama.cpp's log goes to
the logger `tui_chat.llama`. Short calls are bound through `PyDLL`, which keeps the GIL: giving it up and taking it back
for a call of a microsecond can cost 5 ms beside a busy screen thread. Calls that compute or wait give it up.

The low-level signatures move between 0.3.x releases of llama-cpp-python; a test calls each binding once.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp
import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.types import LoadOptions
from tui_chat.errors import CancelledError, DecodeError, ModelLoadError, ModelMemoryError

lc: Any = llama_cpp.llama_cpp
"""The bindings; they carry no usable types."""

log = logging.getLogger("tui_chat.llama")

LIB_DIR = Path(lc._lib._name).parent
"""Where the shared libraries of the build are."""

_short = ctypes.PyDLL(lc._lib._name)
_ggml = ctypes.CDLL(str(next(LIB_DIR.glob("*ggml.*"))))

_KV_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}
_FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}
_LOG_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
"""ggml_log_level; 5 continues the line before."""


def bind_short(name: str, argtypes: list[Any], restype: Any) -> Any:
    """A function of llama.cpp that returns within microseconds, called without giving up the GIL."""
    function = getattr(_short, name)
    function.argtypes, function.restype = argtypes, restype
    return function


_p = ctypes.c_void_p
_get_logits_ith = bind_short("llama_get_logits_ith", [_p, ctypes.c_int32], _p)


_strlen = ctypes.cast(ctypes.CDLL(None if os.name != "nt" else "msvcrt").strlen, lc.ggml_abort_callback)
"""Serves as abort callback on a `CancelFlag`: non-zero as soon as the flag's C string is not empty."""


class _LogSink:
    """Gathers llama.cpp's log pieces into lines, and keeps those since the last load began."""

    def __init__(self) -> None:
        self._partial = ""
        self._level = logging.INFO
        self.lines: list[str] = []
        self.callback = lc.llama_log_callback(self._receive)

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        self._level = _LOG_LEVELS.get(level, self._level)
        if self._level == logging.DEBUG and not log.isEnabledFor(logging.DEBUG):
            return
        self._partial += text.decode("utf-8", "replace")
        *whole, self._partial = self._partial.split("\n")
        for line in whole:
            log.log(self._level, "%s", line)
            if self._level > logging.DEBUG:
                self.lines.append(line)


_sink = _LogSink()
_backend_ready = False


def _start_backend() -> None:
    global _backend_ready
    if not _backend_ready:
        lc.llama_log_set(_sink.callback, ctypes.c_void_p(0))
        lc.llama_backend_init()
        _backend_ready = True


def log_from_now() -> list[str]:
    """Start the library if need be; the list that its log fills, line by line, until the next call or load."""
    _start_backend()
    _sink.lines.clear()
    return _sink.lines


def system_facts() -> dict[str, object]:
    """What this build of llama.cpp is and which devices it sees."""
    _start_backend()
    for name, restype in (
        ("get", _p),
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("type", ctypes.c_int),
    ):
        getattr(_ggml, f"ggml_backend_dev_{name}").restype = restype
    _ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    devices = []
    for index in range(_ggml.ggml_backend_dev_count()):
        device = ctypes.c_void_p(_ggml.ggml_backend_dev_get(ctypes.c_size_t(index)))
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        _ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        devices.append(
            {
                "name": _ggml.ggml_backend_dev_name(device).decode(),
                "description": _ggml.ggml_backend_dev_description(device).decode(),
                "type": {0: "CPU", 1: "GPU", 2: "iGPU", 3: "accelerator"}.get(
                    _ggml.ggml_backend_dev_type(device), "other"
                ),
                "memory_total": total.value,
                "memory_free": free.value,
            }
        )
    return {
        "llama_cpp_python": llama_cpp.__version__,
        "llama_cpp_build": _ggml_build(),
        "library": str(LIB_DIR),
        "supports_gpu_offload": bool(lc.llama_supports_gpu_offload()),
        "devices": devices,
        "system_info": lc.llama_print_system_info().decode().strip(),
    }


def library_version() -> str:
    """The versions of llama-cpp-python and of the ggml in it, as one text."""
    return " · ".join(filter(None, (f"llama-cpp-python {llama_cpp.__version__}", _ggml_build())))


def _ggml_build() -> str | None:
    """Version and commit of the ggml inside, where the build says."""
    base = next(LIB_DIR.glob("*ggml-base.*"), None)
    library = ctypes.CDLL(str(base)) if base else None
    if library is None or not hasattr(library, "ggml_version"):
        return None
    library.ggml_version.restype = library.ggml_commit.restype = ctypes.c_char_p
    return f"ggml {library.ggml_version().decode()} ({library.ggml_commit().decode()})"


class NativeModel:
    """Loaded weights.

    Args:
        path: A GGUF file that was validated: llama.cpp ends the process on some malformed ones.
        options: How to load it.
        on_progress: Called with the share read, 0 to 1; returns False to give up.
        vocab_only: Read the metadata and the tokens and leave the weights where they are.

    Raises:
        CancelledError: `on_progress` returned False.
        ModelMemoryError: There is not enough memory for it.
        ModelLoadError: llama.cpp refused the file; the message holds the reason it logged.
    """

    def __init__(
        self,
        path: Path,
        options: LoadOptions,
        on_progress: Callable[[float], bool] | None = None,
        *,
        vocab_only: bool = False,
    ) -> None:
        log_from_now()
        given_up = False

        def progress(fraction: float, _user_data: object) -> bool:
            nonlocal given_up
            given_up = on_progress is not None and not on_progress(fraction)
            return not given_up

        callback = lc.llama_progress_callback(progress)
        params = lc.llama_model_default_params()
        params.n_gpu_layers = options.n_gpu_layers
        params.load_mode = 2 * options.use_mlock + options.use_mmap
        params.vocab_only = vocab_only
        params.progress_callback = callback
        self.handle: Any = lc.llama_model_load_from_file(os.fsencode(path), params)
        self.load_log = tuple(_sink.lines)
        if not self.handle:
            if given_up:
                raise CancelledError(f"loading {path.name} was stopped")
            kind = ModelMemoryError if any("alloc" in line for line in self.load_log) else ModelLoadError
            raise kind(f"{path}: llama.cpp cannot load this model: {_reason(self.load_log)}")

    @property
    def vocabulary(self) -> Any:
        """llama.cpp's handle of the tokens, for `Vocabulary`; valid until the model is closed."""
        return lc.llama_model_get_vocab(self.handle)

    def close(self) -> None:
        """Free the weights. The vocabulary must not be used any more."""
        if self.handle:
            lc.llama_model_free(self.handle)
            self.handle = None

    def text(self, key: str) -> str | None:
        """A scalar metadata value as text, or None."""
        buffer = ctypes.create_string_buffer(1 << 16)
        n = lc.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        if n >= len(buffer):
            buffer = ctypes.create_string_buffer(n + 1)
            n = lc.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if n >= 0 else None

    def metadata(self) -> Mapping[str, str]:
        """All scalar metadata as text."""
        buffer = ctypes.create_string_buffer(1024)
        keys = []
        for index in range(lc.llama_model_meta_count(self.handle)):
            if lc.llama_model_meta_key_by_index(self.handle, index, buffer, len(buffer)) >= 0:
                keys.append(buffer.value.decode("utf-8", "replace"))
        return {key: self.text(key) or "" for key in keys}

    def chat_template(self) -> str | None:
        """The default chat template in the file, if any."""
        template = lc.llama_model_chat_template(self.handle, None)
        return template.decode("utf-8", "replace") if template else None

    def description(self) -> str:
        """Architecture, size and quantisation in a few words."""
        buffer = ctypes.create_string_buffer(256)
        lc.llama_model_desc(self.handle, buffer, len(buffer))
        # llama.cpp writes "?B" for sizes it has no name for.
        return buffer.value.decode("utf-8", "replace").replace(" ?B", "")

    @property
    def size_bytes(self) -> int:
        """Size of all tensors."""
        return int(lc.llama_model_size(self.handle))

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return int(lc.llama_model_n_params(self.handle))

    def dimensions(self) -> dict[str, int]:
        """`n_ctx_train`, `n_embd`, `n_layer`, `n_head`, `n_head_kv`."""
        return {
            "n_ctx_train": lc.llama_model_n_ctx_train(self.handle),
            "n_embd": lc.llama_model_n_embd(self.handle),
            "n_layer": lc.llama_model_n_layer(self.handle),
            "n_head": lc.llama_model_n_head(self.handle),
            "n_head_kv": lc.llama_model_n_head_kv(self.handle),
        }


def _reason(lines: Sequence[str]) -> str:
    """The line of a load log that says what went wrong."""
    errors = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    # The first names the cause; later ones only repeat that loading failed.
    return errors[0].split(": ", 1)[-1].strip() if errors else "no reason given (out of memory?)"


class NativeContext:
    """The KV cache and compute buffers of one sequence on a model, or of several that share their beginning.

    Args:
        model: Must outlive the context.
        options: How it was loaded.
        n_ctx: Tokens the cache is to hold.
        n_threads: CPU threads.
        n_places: Tokens the model has places for.
        n_outputs: Most tokens of a batch whose logits are wanted; each takes n_vocab floats.
        n_seqs: Sequences that share the cache; more than one are evaluated with `decode_lanes`.

    Raises:
        ModelMemoryError: llama.cpp could not make it.
    """

    def __init__(
        self,
        model: NativeModel,
        options: LoadOptions,
        *,
        n_ctx: int,
        n_threads: int,
        n_places: int,
        n_outputs: int = 1,
        n_seqs: int = 1,
    ) -> None:
        _sink.lines.clear()
        params = lc.llama_context_default_params()
        params.n_ctx = n_ctx
        # One buffer for all: the places of a common beginning are taken once.
        params.n_seq_max, params.kv_unified = n_seqs, n_seqs > 1
        self.on_gpu = any("offloaded" in line and "offloaded 0/" not in line for line in model.load_log)
        params.n_batch = max(min(options.n_batch, n_ctx), n_seqs)
        params.n_ubatch = max(options.ubatch(params.n_batch, self.on_gpu), n_seqs)
        # A chat reads the logits after the last token of a batch alone; room for all would be n_batch x n_vocab floats.
        params.n_outputs_max = min(n_outputs, params.n_batch)
        params.n_threads = params.n_threads_batch = n_threads
        params.flash_attn_type = _FLASH_ATTN[options.flash_attn]
        params.type_k, params.type_v = _KV_TYPES[options.type_k], _KV_TYPES[options.type_v]
        params.no_perf = True
        self.handle: Any = lc.llama_init_from_model(model.handle, params)
        self.load_log = tuple(_sink.lines)
        if not self.handle:
            raise ModelMemoryError(
                f"llama.cpp cannot make a context of {n_ctx} tokens: {_reason(self.load_log)}; lower n_ctx"
            )
        self._memory = lc.llama_get_memory(self.handle)
        self._n_vocab: int = lc.llama_vocab_n_tokens(model.vocabulary)
        # llama.cpp rounds n_ctx up, and ends the process where a table of positions has no row for a token.
        self.n_ctx: int = min(lc.llama_n_ctx(self.handle), n_places)
        self.n_ubatch: int = lc.llama_n_ubatch(self.handle)
        self._flag: CancelFlag | None = None
        self._logits_address = 0
        self._logits_view = np.empty(0, np.float32)
        self.n_outputs: int = params.n_outputs_max
        n = self.n_batch = int(lc.llama_n_batch(self.handle))
        self._token, self._pos = np.zeros(n, np.int32), np.zeros(n, np.int32)
        self._n_seq, self._logits = np.ones(n, np.int32), np.zeros(n, np.int8)
        self._seq = np.arange(n_seqs, dtype=np.int32)
        self._seq_ptrs = np.full(n, self._seq.ctypes.data, np.uintp)
        self._batch = lc.llama_batch(
            0,
            self._token.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            None,
            self._pos.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._n_seq.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._seq_ptrs.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def close(self) -> None:
        """Free the cache."""
        if self.handle:
            lc.llama_free(self.handle)
            self.handle = None

    def abort_with(self, flag: CancelFlag | None) -> None:
        """Let `flag` stop a batch under way."""
        self._flag = flag  # llama.cpp keeps its address
        address = ctypes.c_void_p(flag.address if flag else None)
        lc.llama_set_abort_callback(self.handle, _strlen if flag else lc.ggml_abort_callback(), address)

    def decode(self, ids: Sequence[int], position: int, *, logits: bool) -> bool:
        """Evaluate at most `n_batch` tokens from `position` on.

        Args:
            ids: The tokens.
            position: Place of the first one in the sequence.
            logits: Whether the last token's logits are wanted; those of all tokens where `n_outputs` is more than 1.

        Returns:
            False when it was stopped by the abort flag; the batch is then not in the cache.

        Raises:
            DecodeError: llama.cpp failed.
        """
        n = len(ids)
        self._pos[:n] = np.arange(position, position + n)
        self._logits[: n - 1] = logits and self.n_outputs > 1
        self._logits[n - 1] = logits
        return self._evaluate(ids, position)

    def share(self, n_seqs: int) -> None:
        """Let sequences 1 to `n_seqs` - 1 begin with all that sequence 0 holds."""
        for seq in range(1, n_seqs):
            lc.llama_memory_seq_cp(self._memory, 0, seq, -1, -1)

    def decode_lanes(self, ids: Sequence[int], position: int, seqs: Sequence[int]) -> bool:
        """Evaluate one token in each of several sequences, all at the same place; their logits are in that order.

        Args:
            ids: (n,) the tokens.
            position: Place of each in its sequence.
            seqs: (n,) the sequences, ascending.

        Returns:
            As for `decode`.

        Raises:
            DecodeError: llama.cpp failed.
        """
        n = len(ids)
        self._pos[:n] = position
        self._logits[:n] = True
        self._seq_ptrs[:n] = [self._seq[seq:].ctypes.data for seq in seqs]
        try:
            return self._evaluate(ids, position)
        finally:
            self._seq_ptrs[:n] = self._seq.ctypes.data

    def _evaluate(self, ids: Sequence[int], position: int) -> bool:
        n = len(ids)
        self._token[:n] = ids
        self._batch.n_tokens = n
        status = lc.llama_decode(self.handle, self._batch)
        if status == 2:
            return False
        if status != 0:
            reason = {1: "no free place in the KV cache", -1: "invalid batch"}.get(status, "backend failure")
            raise DecodeError(
                f"llama.cpp could not evaluate {n} tokens at position {position}: {reason} (code {status})"
            )
        return True

    def bare_decode(self, ids: Sequence[int]) -> None:
        """llama.cpp's shortest way through `ids`, one call with the default batch: the floor of measurements."""
        array = (ctypes.c_int32 * len(ids))(*ids)
        if lc.llama_decode(self.handle, lc.llama_batch_get_one(array, len(ids))) != 0:
            raise DecodeError("llama.cpp could not evaluate the benchmark's tokens")

    def logits(self) -> NDArray[np.float32]:
        """(n_vocab,) float32 after the last token evaluated with `logits=True`; a view until the next decode."""
        if self.on_gpu:
            lc.llama_synchronize(self.handle)  # waits without the GIL
        address = _get_logits_ith(self.handle, -1)
        if not address:
            raise DecodeError("llama.cpp has no logits: the last batch asked for none")
        if address != self._logits_address:
            buffer: Any = (ctypes.c_float * self._n_vocab).from_address(address)
            self._logits_address, self._logits_view = address, np.frombuffer(buffer, np.float32)
        return self._logits_view

    def all_logits(self, n: int) -> NDArray[np.float32]:
        """(n, n_vocab) float32 after each of the `n` tokens of the last batch; a view until the next decode."""
        if self.on_gpu:
            lc.llama_synchronize(self.handle)
        address = lc.llama_get_logits(self.handle)
        if not address or n > self.n_outputs:
            raise DecodeError(f"llama.cpp has no logits of {n} tokens")
        return np.ctypeslib.as_array(address, (n, self._n_vocab))

    def forget_from(self, position: int) -> bool:
        """Drop the cache from `position` on; False where the architecture cannot drop a part (recurrent models)."""
        return bool(lc.llama_memory_seq_rm(self._memory, 0, position, -1))

    def forget_all(self) -> None:
        """Empty the cache."""
        lc.llama_memory_clear(self._memory, False)


def schema_converter() -> Any:
    """llama.cpp's class that turns JSON schemas into grammars (`SchemaConverter`)."""
    from llama_cpp.llama_grammar import SchemaConverter

    return SchemaConverter
