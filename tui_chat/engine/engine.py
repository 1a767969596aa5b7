"""A loaded model and its context, used from one thread: prompts in, tokens with their figures out."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tui_chat.engine.context import Context
from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.generation import Generation
from tui_chat.engine.gguf import GgufHeader, validate
from tui_chat.engine.lanes import MOST_LANES, LaneStep, compare_lanes
from tui_chat.engine.llama import NativeContext, NativeModel
from tui_chat.engine.model_types import BYTES_PER_NUMBER
from tui_chat.engine.recent import RecentLogits
from tui_chat.engine.scoring import Scores, most_outputs, read, score
from tui_chat.engine.stepping import StepControl
from tui_chat.engine.types import (
    EngineEvent,
    GenerationRequest,
    Limits,
    LoadOptions,
    ModelInfo,
    SamplingParams,
    TokenTrace,
)
from tui_chat.engine.vocabulary import Vocabulary
from tui_chat.errors import ModelLoadError, ModelMemoryError, PromptTooLongError, UsageError

log = logging.getLogger(__name__)

_DEFAULT_N_CTX = 4096
_ONE_THREAD_BELOW_BYTES = 32 << 20
"""A model this small finishes a step before a second thread has joined in; beside a busy core it even loses by it."""


class Engine:
    """Everything one thread does with a model: tokenize, evaluate, generate.

    Make it with `Engine.load`; it is a context manager. It must be used and closed on the thread that loaded it.
    """

    def __init__(
        self,
        model: NativeModel,
        native: NativeContext,
        info: ModelInfo,
        vocab: Vocabulary,
        make_context: Callable[[int, int, int], NativeContext],
        recent: RecentLogits | None = None,
    ) -> None:
        self._model = model
        self._native = native
        self._make_context = make_context
        self.info = info
        self.vocab = vocab
        self.context = Context(native)
        self.recent = recent
        """The newest distributions of inspected answers; of the engine that `load` gave, not of those `aside`."""

    @classmethod
    def load(cls, path: Path, options: LoadOptions, *, on_progress: Callable[[float], bool] | None = None) -> Engine:
        """Validate and load a GGUF file and make a context for it.

        Args:
            path: The file.
            options: How to load it.
            on_progress: Called with the share read, 0 to 1; returns False to give up.

        Raises:
            ModelNotFoundError: There is no such file.
            ModelFileError: The file is not a whole GGUF model.
            ModelLoadError: llama.cpp refused it, or it lacks the token `options.eos_token`.
            CancelledError: `on_progress` returned False.
        """
        start = time.perf_counter()
        n_places = _places(validate(path))
        model = NativeModel(path, options, on_progress)
        try:
            vocab = Vocabulary(model.vocabulary)
            eog_ids = set(vocab.eog_ids)
            if options.eos_token is not None:
                eog_ids.add(_required_token(vocab, options.eos_token, path))
            dimensions = model.dimensions()
            n_ctx = min(options.n_ctx or min(dimensions["n_ctx_train"], _DEFAULT_N_CTX), n_places)
            n_threads = options.n_threads or (1 if model.size_bytes < _ONE_THREAD_BELOW_BYTES else _physical_cores())

            def make_context(n_ctx: int, n_outputs: int, n_seqs: int) -> NativeContext:
                _require_memory(model, options, n_ctx)
                return NativeContext(
                    model,
                    options,
                    n_ctx=n_ctx,
                    n_threads=n_threads,
                    n_places=n_places,
                    n_outputs=n_outputs,
                    n_seqs=n_seqs,
                )

            native = make_context(n_ctx, 1, 1)
        except BaseException:
            model.close()
            raise
        load_s = time.perf_counter() - start
        info = _describe(path, model, vocab, native, options, n_threads, frozenset(eog_ids), load_s)
        return cls(model, native, info, vocab, make_context, RecentLogits(vocab.n_vocab))

    def close(self) -> None:
        """Free the context and the weights."""
        self._native.close()
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def aside(self, n_ctx: int | None = None, *, n_outputs: int = 1) -> Iterator[Engine]:
        """The same weights with an empty cache of their own, for a while: what is done there leaves no trace here.

        Args:
            n_ctx: Tokens it must hold; as many as this one does by default, and never more than it.
            n_outputs: Most tokens of a batch whose logits are wanted at once (see `score`).

        Raises:
            ModelMemoryError: There is no room for a second cache.
        """
        native = self._make_context(min(n_ctx or self.context.n_ctx, self.context.n_ctx), n_outputs, 1)
        try:
            info = replace(self.info, n_ctx=native.n_ctx, n_batch=native.n_batch, n_ubatch=native.n_ubatch)
            yield Engine(self._model, native, info, self.vocab, self._make_context)
        finally:
            native.close()

    def generate(
        self,
        request: GenerationRequest,
        *,
        request_id: int = 0,
        live: LiveParams | None = None,
        cancel: CancelFlag | None = None,
        steps: StepControl | None = None,
    ) -> Iterator[EngineEvent]:
        """Continue a prompt.

        Args:
            request: What to continue, how, and when to stop.
            request_id: Stands in every event.
            live: Settings that may change while it runs; they take effect at the next token.
            cancel: Ends the answer as `FinishReason.CANCELLED`.
            steps: Waits before tokens for what a person decides; every token then has its trace.

        Yields:
            `GenerationStarted`, `PrefillProgressed`…, `TokensGenerated`… (at most 30 a second), `GenerationFinished`;
            between them `SettingsChanged` and, with `steps`, `TokenPending` and `TokensWithdrawn`.

        Raises:
            PromptTooLongError: The prompt does not fit.
            EngineError: llama.cpp failed.
            SamplingError: The settings leave no token to choose.
        """
        generation = Generation(
            self.context, self.vocab, self.info, request, request_id, live, cancel or CancelFlag(), steps, self.recent
        )
        return generation.run(launch_first=self._native.on_gpu)

    def compare(
        self,
        prompt_ids: Sequence[int],
        lanes: Sequence[SamplingParams],
        limits: Limits,
        *,
        top_n: int = 20,
        cancel: CancelFlag | None = None,
    ) -> Iterator[LaneStep]:
        """Continue one prompt in several ways, all decoded in one batch; see `compare_lanes`.

        The conversation's cache stays as it is. Each lane gives the tokens that `generate` gives with its settings.

        Raises:
            UsageError: There are fewer than two lanes, or more than four.
            PromptTooLongError: The prompt does not fit.
            ModelMemoryError: There is no room for a second cache.
            CancelledError: `cancel` was set while the prompt was read.
        """
        if not 2 <= len(lanes) <= MOST_LANES:
            raise UsageError(f"compare 2 to {MOST_LANES} settings, not {len(lanes)}")
        if len(prompt_ids) >= self.context.n_ctx:
            raise PromptTooLongError(len(prompt_ids), self.context.n_ctx)
        most = min(limits.max_tokens, self.context.n_ctx - len(prompt_ids))
        limits = replace(limits, max_tokens=most)
        native = self._make_context(len(prompt_ids) + most * len(lanes), len(lanes), len(lanes))
        try:
            yield from compare_lanes(
                native, self.vocab, self.info, prompt_ids, lanes, limits, top_n, cancel or CancelFlag()
            )
        finally:
            native.close()

    def logits(self, ids: Sequence[int], cancel: CancelFlag | None = None) -> NDArray[np.float32]:
        """Raw logits after the last of `ids`: (n_vocab,) float32, a copy.

        Raises:
            PromptTooLongError: The prompt does not fit.
            CancelledError: `cancel` was set.
        """
        for _ in self.context.prefill(ids, cancel):
            pass
        return self.context.logits().copy()

    def score(self, ids: Sequence[int], cancel: CancelFlag | None = None) -> Iterator[Scores]:
        """How each of `ids` but the first was expected, given those before it. The cache is emptied first.

        Args:
            ids: The tokens.
            cancel: Stops it, within a batch too.

        Yields:
            The figures of the next tokens: as many at once as there may be outputs (`aside(n_outputs=...)`).

        Raises:
            PromptTooLongError: They do not fit.
            CancelledError: `cancel` was set.
            DecodeError: llama.cpp failed, or gave logits that are no numbers.
        """
        if len(ids) > self.context.n_ctx:
            raise PromptTooLongError(len(ids), self.context.n_ctx)
        return score(self.context, ids, cancel)

    def read(
        self,
        ids: Sequence[int],
        start: int = 0,
        stop: int | None = None,
        *,
        top_n: int = 20,
        keep: bool = False,
        cancel: CancelFlag | None = None,
    ) -> Iterator[tuple[TokenTrace, ...]]:
        """How the model expected tokens that it did not write, in one pass; the conversation's cache stays as it is.

        Args:
            ids: The tokens from the start of the context on.
            start: The first one that is asked about. The very first of a context has nothing before it, so no figures.
            stop: The one behind the last; None for all.
            top_n: How many of the best tokens a trace keeps.
            keep: Put the full distributions into `recent`, in place of as many older ones.
            cancel: Stops it, within a batch too.

        Yields:
            The traces of the next tokens, without stages and draw: nothing chose them. Close it where you stop early.

        Raises:
            PromptTooLongError: They do not fit.
            ModelMemoryError: There is no room for a second cache.
            CancelledError: `cancel` was set.
            DecodeError: llama.cpp failed, or gave logits that are no numbers.
        """
        stop = len(ids) if stop is None else min(stop, len(ids))
        if stop > self.context.n_ctx:
            raise PromptTooLongError(stop, self.context.n_ctx)
        with self.aside(stop, n_outputs=most_outputs(self.info.n_vocab)) as engine:
            kept = self.recent if keep else None
            yield from read(engine.context, self.vocab, ids, start, stop, top_n, cancel, kept)

    def bare_decode(self, ids: Sequence[int], *, batch: int) -> None:
        """Evaluate `ids` behind the cache with nothing of ours around llama.cpp, then forget them again.

        Args:
            ids: The tokens; the context must have room for them.
            batch: Tokens a call.
        """
        for start in range(0, len(ids), batch):
            self._native.bare_decode(ids[start : start + batch])
        if not self.context.ids or not self._native.forget_from(len(self.context.ids)):
            self._native.forget_all()
            self.context = Context(self._native)

    @property
    def load_log(self) -> tuple[str, ...]:
        """What llama.cpp logged while it read the weights and made the context, line by line."""
        return (*self._model.load_log, *self._native.load_log)


def _physical_cores() -> int:
    """Cores this process may use, counting hyper-threads of one core once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            return len(allowed)
    return max(1, len(siblings))


def _require_memory(model: NativeModel, options: LoadOptions, n_ctx: int) -> None:
    """Refuse a KV cache that this machine cannot hold: Linux hands the memory out all the same, and kills us later.

    Raises:
        ModelMemoryError: Names both sizes.
    """
    d = model.dimensions()
    architecture = model.text("general.architecture")
    head_dim = int(model.text(f"{architecture}.attention.key_length") or d["n_embd"] // max(1, d["n_head"]))
    per_token = (
        d["n_layer"] * d["n_head_kv"] * head_dim * sum(BYTES_PER_NUMBER[t] for t in (options.type_k, options.type_v))
    )
    try:
        meminfo = Path("/proc/meminfo").read_text()
        available = int(re.findall(r"MemAvailable:\s+(\d+) kB", meminfo)[0]) * 1024
    except (OSError, IndexError):
        return
    if n_ctx * per_token > available:
        raise ModelMemoryError(
            f"a context of {n_ctx} tokens needs {n_ctx * per_token / 2**30:.1f} GiB for its KV cache, and "
            f"{available / 2**30:.1f} GiB are free: lower n_ctx to {int(available / per_token * 0.8)} or less"
        )


def _places(header: GgufHeader) -> int:
    """Tokens the model has places for: rows of a table of positions, no end without one."""
    rows = [t.shape[1] for t in header.tensors if t.name == "position_embd.weight" and len(t.shape) == 2]
    return min(rows, default=sys.maxsize)


def _required_token(vocab: Vocabulary, text: str, path: Path) -> int:
    token = vocab.find(text)
    if token is None:
        raise ModelLoadError(
            f"{path}: the vocabulary has no token {text!r}, so answers would not end there: correct tokenizer.eos_token"
        )
    return token


def _describe(
    path: Path,
    model: NativeModel,
    vocab: Vocabulary,
    native: NativeContext,
    options: LoadOptions,
    n_threads: int,
    eog_ids: frozenset[int],
    load_s: float,
) -> ModelInfo:
    metadata = model.metadata()
    offloaded, devices = _placement(model.load_log)
    return ModelInfo(
        path=path,
        name=metadata.get("general.name") or path.stem,
        architecture=metadata.get("general.architecture", "?"),
        description=model.description(),
        n_params=model.n_params,
        size_bytes=model.size_bytes,
        n_vocab=vocab.n_vocab,
        **model.dimensions(),
        n_ctx=native.n_ctx,
        n_batch=native.n_batch,
        n_ubatch=native.n_ubatch,
        n_threads=n_threads,
        n_gpu_layers=offloaded,
        devices=devices,
        flash_attn=_flash_attn(native.load_log, options.flash_attn),
        type_k=options.type_k,
        type_v=options.type_v,
        bos_id=vocab.bos_id,
        eos_id=vocab.eos_id,
        bos_token=_text(vocab, vocab.bos_id),
        eos_token=_text(vocab, vocab.eos_id),
        eog_ids=eog_ids,
        chat_template=model.chat_template(),
        metadata=metadata,
        load_s=load_s,
    )


def _text(vocab: Vocabulary, token: int | None) -> str:
    return "" if token is None else vocab.piece(token).decode("utf-8", "replace")


def _placement(lines: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Layers on a GPU and the devices that hold weights, as llama.cpp's load log tells."""
    offloaded = 0
    devices: list[str] = []
    for line in lines:
        if match := re.search(r"offloaded (\d+)/\d+ layers", line):
            offloaded = int(match[1])
        elif (match := re.search(r"load_tensors:\s+(\S+) model buffer size", line)) and match[1] not in devices:
            devices.append(match[1])
    gpus = tuple(name for name in devices if not name.startswith("CPU"))
    return offloaded, gpus if offloaded and gpus else ("CPU",)


def _flash_attn(lines: Sequence[str], wanted: str) -> str:
    """Whether flash attention is in use, as llama.cpp's log tells when it chose itself."""
    for line in lines:
        if match := re.search(r"Flash Attention (?:was auto, set to )?(enabled|disabled)", line):
            return "on" if match[1] == "enabled" else "off"
    return wanted
