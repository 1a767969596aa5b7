"""One answer, from the prompt to the reason it ended, with what is seen of each stage on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field

from tui_chat.chat.prompt import Prompt
from tui_chat.chat.template import TemplateOrigin
from tui_chat.display import figures
from tui_chat.engine.control import CancelFlag
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import Choice, Sampler
from tui_chat.engine.tracing import Distribution, Tracer
from tui_chat.engine.types import (
    EngineEvent,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    PrefillProgressed,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.lessons.allocation import read_log
from tui_chat.lessons.documents import stage_document, token_text, trace_document

SHOWN = 20
"""Candidates that are kept of a stage."""


@dataclass(slots=True)
class Pipeline:
    """An answer in the making. What is still to come is None or empty."""

    prompt: Prompt
    params: SamplingParams
    limits: Limits
    n_read: int = 0
    """Prompt tokens that are in the cache."""
    n_batches: int = 0
    """In which they got there."""
    prefill_s: float | None = None
    raw: Distribution | None = None
    """What the model gave for the first token."""
    choice: Choice | None = None
    """How the first token was chosen of it; its stages hold their `SHOWN` best candidates."""
    tokens: list[GeneratedToken] = field(default_factory=list)
    text: str = ""
    finished: GenerationFinished | None = None
    watching_s: float = 0.0
    """Time the close look at the first token took; it is in none of the times here, but in those of `finished`."""

    @property
    def ttft_s(self) -> float | None:
        """From the request to the first token."""
        return None if self.finished is None else self.finished.timings.ttft_s - self.watching_s

    @property
    def perplexity(self) -> float | None:
        """e to the mean surprisal of the answer's tokens before the chain; None where there is none."""
        surprisals = [token.trace.surprisal for token in self.tokens if token.trace]
        return figures.perplexity(sum(surprisals) / len(surprisals)) if surprisals else None

    def run(self, engine: Engine, cancel: CancelFlag) -> Generator[None, None, None]:
        """Answer, in a cache that is empty at first, and pause wherever there is something new.

        Raises:
            PromptTooLongError: The prompt does not fit.
            EngineError: llama.cpp failed.
            SamplingError: The settings leave no token to choose.
        """
        request = GenerationRequest(prompt_ids=self.prompt.ids, params=self.params, limits=self.limits)
        began = time.perf_counter()
        for event in engine.generate(request, cancel=cancel):
            if isinstance(event, PrefillProgressed) and event.done == event.total:
                read = time.perf_counter()
                self.prefill_s = read - began
                self._look(engine)
                self.watching_s = time.perf_counter() - read
            self._take(event)
            yield

    def _take(self, event: EngineEvent) -> None:
        match event:
            case PrefillProgressed():
                self.n_batches += event.done > self.n_read
                self.n_read = event.done
            case TokensGenerated():
                self.tokens += event.tokens
                self.text += event.text
            case GenerationFinished():
                self.finished = event

    def _look(self, engine: Engine) -> None:
        """Choose the first token as the answer will: the same logits, settings, history and place in the context."""
        ids = self.prompt.ids
        logits = engine.context.logits()
        self.raw = Tracer(engine.info.n_vocab, SHOWN).measure(logits, position=len(ids))
        sampler = Sampler(self.params, engine.info.n_vocab, engine.context.n_ctx, ids, vocab=engine.vocab)
        try:
            self.choice = sampler.choose(logits, len(ids), show=SHOWN)
        finally:
            sampler.close()


def pipeline_document(engine: Engine, origin: TemplateOrigin, pipeline: Pipeline) -> dict[str, object]:
    """The JSON document of a finished pipeline.

    Args:
        engine: The model that answered; `n_ctx` is that of its own context.
        origin: Of the chat template.
        pipeline: All of it.
    """
    info, prompt, done = engine.info, pipeline.prompt, pipeline.finished
    raw, choice, prefill_s = pipeline.raw, pipeline.choice, pipeline.prefill_s
    assert done is not None and raw is not None and choice is not None and prefill_s is not None

    def text(token: int) -> str:
        return token_text(engine.vocab.piece(token))

    return {
        "model": {
            "name": info.name,
            "architecture": info.architecture,
            "description": info.description,
            "n_params": info.n_params,
            "size_bytes": info.size_bytes,
            "n_vocab": info.n_vocab,
            "n_layer": info.n_layer,
            "n_embd": info.n_embd,
            "n_head": info.n_head,
            "n_head_kv": info.n_head_kv,
        },
        "config": {
            "sampling": asdict(pipeline.params),
            "limits": asdict(pipeline.limits),
            "n_ctx": engine.context.n_ctx,
            "n_batch": info.n_batch,
        },
        "device": {
            "devices": list(info.devices),
            "n_gpu_layers": info.n_gpu_layers,
            "n_threads": info.n_threads,
            "flash_attn": info.flash_attn,
            "type_k": info.type_k,
            "type_v": info.type_v,
        },
        "template": {
            "origin": origin.kind,
            "name": origin.name,
            "text": prompt.text,
            "notes": list(prompt.notes),
        },
        "dropped": prompt.dropped,
        "ids": list(prompt.ids),
        "tokens": [
            {"id": token, "text": text(token), "special": engine.vocab.is_special(token)} for token in prompt.ids
        ],
        "prefill": {
            "n_tokens": len(prompt.ids),
            "n_batches": pipeline.n_batches,
            "seconds": prefill_s,
            "tokens_per_s": len(prompt.ids) / prefill_s,
            "embedding": [len(prompt.ids), info.n_embd],
            "layers": info.n_layer,
            "logits": [info.n_vocab],
            "kv_bytes": read_log(engine.load_log).cache_bytes(len(prompt.ids), info.n_ctx),
        },
        "sampling": {
            "entropy": raw.entropy,
            "logsumexp": raw.logsumexp,
            "top": [
                {"id": token, "text": text(token), "logit": logit, "p": math.exp(logit - raw.logsumexp)}
                for token, logit in raw.top
            ],
            "stages": [stage_document(stage) for stage in choice.stages],
            "u": choice.u,
            "picked": {"id": choice.id, "text": text(choice.id)},
        },
        "loop": {
            "text": pipeline.text,
            "ids": [token.id for token in pipeline.tokens],
            "tokens": [trace_document(token.trace, engine.vocab.piece) for token in pipeline.tokens if token.trace],
            "finish_reason": str(done.reason),
            "end": {"id": done.end.id, "text": text(done.end.id)} if done.end else None,
        },
        "stats": {
            "prompt_tokens": done.usage.prompt,
            "generated_tokens": done.usage.generated,
            "load_s": info.load_s,
            "prefill_s": prefill_s,
            "ttft_s": pipeline.ttft_s,
            "decode_s": done.timings.decode_s,
            "tokens_per_s": done.timings.tokens_per_s,
            "perplexity": pipeline.perplexity,
        },
    }
