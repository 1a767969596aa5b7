"""How fast a model runs here, and what watching it costs: every figure beside its floor, interleaved in one run.

The machine may be shared and noisy, so each round measures the floor and our loops back to back at the same places of
the context, and ratios are taken within a round; the report holds medians over the rounds.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tui_chat.engine.control import CancelFlag
from tui_chat.engine.engine import Engine
from tui_chat.engine.gbnf import named
from tui_chat.engine.types import GenerationFinished, GenerationRequest, Limits, SamplingParams
from tui_chat.errors import CancelledError
from tui_chat.lessons.allocation import Purpose, read_log

_DECODE_ROUNDS = 12
_PREFILL_ROUNDS = 4
_SLICE_S = 0.15
_PROMPT = 512
_SHORT_PROMPT = 32


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Medians of one run. Rates are tokens a second; ratios are against the floor of the same round."""

    model: str
    description: str
    tokens: int
    """Tokens decoded in each of the loops, over all rounds."""
    floor_tokens_per_s: float
    """A bare loop of `llama_decode`, one token a call: no logits read, nothing sampled."""
    tokens_per_s: float
    """Our loop: sampled with the default chain."""
    inspected_tokens_per_s: float
    """Our loop with a full trace of every token."""
    ratio: float
    inspected_ratio: float
    overhead_us: float
    """Microseconds a token that sampling and inspection add to the floor."""
    prefill_tokens: int
    prefill_floor_tokens_per_s: float
    """One `llama_decode` call for the whole prompt."""
    prefill_tokens_per_s: float
    prefill_ratio: float
    ttft_s: float
    """From a request with that prompt to its first token, nothing cached."""
    load_s: float
    rss_bytes: int
    model_bytes: int
    kv_bytes: int
    memory_above_bytes: int
    """Resident memory beside the weights and the KV cache."""
    machine: dict[str, object]
    every_sampler_tokens_per_s: float | None = None
    """Inspected, with every sampler on and top-k off; None where it was not asked for, as the next three."""
    every_sampler_ratio: float | None = None
    json_grammar_tokens_per_s: float | None = None
    """Inspected, with the default chain under a grammar of JSON documents."""
    json_grammar_ratio: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The JSON document of `tui-chat benchmark --json`."""
        return asdict(self)


def run_benchmark(
    engine: Engine,
    *,
    tokens: int = 64,
    samplers: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
    cancel: CancelFlag | None = None,
) -> Benchmark:
    """Measure the loaded model.

    Args:
        engine: Its cache is emptied.
        tokens: Decoded in each loop, over all rounds; more where that would take less than a moment.
        samplers: Measure other chains as well: every sampler, and a grammar.
        on_progress: Told what is measured next.
        cancel: Stops between measurements with `CancelledError`.
    """
    cancel = cancel or CancelFlag()
    n_ctx = engine.context.n_ctx
    prompt = _prompt(engine, min(_PROMPT, n_ctx - 1))
    short = prompt[: min(_SHORT_PROMPT, n_ctx // 4)]
    slice_tokens = max(2, min(tokens // _DECODE_ROUNDS, n_ctx - len(short) - 2))
    # A slice shorter than a scheduler's turn would measure the scheduler.
    rate = _floor(engine, short, slice_tokens)
    slice_tokens = max(2, min(max(slice_tokens, round(rate * _SLICE_S)), n_ctx - len(short) - 2))
    rates: dict[str, list[float]] = {"floor": [], "plain": [], "inspected": [], "pre_floor": [], "prefill": []}
    ttfts: list[float] = []

    def take(turns: dict[str, Callable[[], float]], rounds: int, what: str) -> None:
        names = list(turns)
        for number in range(rounds):
            on_progress(f"{what}, round {number + 1} of {rounds}")
            for name in names:
                if cancel.is_set():
                    raise CancelledError("the benchmark was stopped")
                rates[name].append(turns[name]())
            # Whoever goes first after a pause finds a cooler, or a busier, machine: take turns at that too.
            names.append(names.pop(0))

    _decode(engine, short, slice_tokens, inspect=True)
    decode: dict[str, Callable[[], float]] = {
        "floor": lambda: _floor(engine, short, slice_tokens),
        "inspected": lambda: _decode(engine, short, slice_tokens, inspect=True),
        "plain": lambda: _decode(engine, short, slice_tokens, inspect=False),
    }
    if samplers:
        for name, chain in (("every", EVERY_SAMPLER), ("json", json_chain())):
            rates[name] = []
            decode[name] = partial(_decode, engine, short, slice_tokens, inspect=True, params=chain)
            decode[name]()  # what a grammar makes of the vocabulary is made once
    take(decode, _DECODE_ROUNDS, "decode")
    take(
        {"pre_floor": lambda: _prefill_floor(engine, prompt), "prefill": lambda: _prefill(engine, prompt)},
        _PREFILL_ROUNDS,
        "prefill",
    )
    ttfts = [_ttft(engine, prompt) for _ in range(3)]
    median = {name: statistics.median(values) for name, values in rates.items()}
    per_token = [1 / own - 1 / floor for own, floor in zip(rates["inspected"], rates["floor"], strict=True)]
    rss, kv = resident_bytes(), read_log(engine.load_log).size_of(Purpose.CACHE)
    return Benchmark(
        model=engine.info.name,
        description=engine.info.description,
        tokens=slice_tokens * _DECODE_ROUNDS,
        floor_tokens_per_s=median["floor"],
        tokens_per_s=median["plain"],
        inspected_tokens_per_s=median["inspected"],
        ratio=_ratio(rates["plain"], rates["floor"]),
        inspected_ratio=_ratio(rates["inspected"], rates["floor"]),
        overhead_us=statistics.median(per_token) * 1e6,
        prefill_tokens=len(prompt),
        prefill_floor_tokens_per_s=median["pre_floor"],
        prefill_tokens_per_s=median["prefill"],
        prefill_ratio=_ratio(rates["prefill"], rates["pre_floor"]),
        ttft_s=statistics.median(ttfts),
        load_s=engine.info.load_s,
        rss_bytes=rss,
        model_bytes=engine.info.size_bytes,
        kv_bytes=kv,
        memory_above_bytes=rss - engine.info.size_bytes - kv,
        machine=describe_machine(engine),
        every_sampler_tokens_per_s=median.get("every"),
        every_sampler_ratio=_ratio(rates["every"], rates["floor"]) if samplers else None,
        json_grammar_tokens_per_s=median.get("json"),
        json_grammar_ratio=_ratio(rates["json"], rates["floor"]) if samplers else None,
    )


EVERY_SAMPLER = SamplingParams(
    top_k=0,
    top_n_sigma=1.5,
    typical_p=0.95,
    xtc_probability=0.5,
    repeat_penalty=1.1,
    frequency_penalty=0.1,
    presence_penalty=0.1,
    dry_multiplier=0.8,
    dynatemp_range=0.3,
    logit_bias=((0, 0.5),),
)
"""Every sampler that can stand beside the others, and no top-k to make the rest easy."""


def json_chain() -> SamplingParams:
    """The default chain under a grammar of JSON documents, one behind the other without end."""
    one = "root   ::= object | array"
    text = named("json")
    assert one in text
    return SamplingParams(grammar=text.replace(one, "root ::= (object | array)+"))


def resident_bytes() -> int:
    """Resident memory of this process."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024


def describe_machine(engine: Engine) -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": engine.info.n_threads,
        "devices": list(engine.info.devices),
        "gpu_layers": engine.info.n_gpu_layers,
        "flash_attn": engine.info.flash_attn,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _cpu_name() -> str:
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def floor_rate(engine: Engine, tokens: int) -> float:
    """Tokens a second of a bare `llama_decode` loop behind a short prompt."""
    return _floor(engine, _prompt(engine, _SHORT_PROMPT), tokens)


def decode_rate(engine: Engine, tokens: int, *, inspect: bool) -> float:
    """Tokens a second of our loop behind a short prompt, with or without traces."""
    return _decode(engine, _prompt(engine, _SHORT_PROMPT), tokens, inspect=inspect)


def _prompt(engine: Engine, n: int) -> tuple[int, ...]:
    """Ordinary tokens, repeated to the length wanted."""
    ids = engine.vocab.tokenize("A token is a small piece of text that a language model reads and writes. ") or [0]
    return tuple(ids[i % len(ids)] for i in range(n))


def _place(engine: Engine, prompt: tuple[int, ...]) -> None:
    for _ in engine.context.prefill(prompt):
        pass


def _floor(engine: Engine, prompt: tuple[int, ...], tokens: int) -> float:
    _place(engine, prompt)
    start = time.perf_counter()
    engine.bare_decode(prompt[:1] * tokens, batch=1)
    return tokens / (time.perf_counter() - start)


def _decode(
    engine: Engine, prompt: tuple[int, ...], tokens: int, *, inspect: bool, params: SamplingParams | None = None
) -> float:
    _place(engine, prompt)
    # The first token comes from the prefill and the last is not evaluated: one more gives `tokens` evaluations.
    limits = Limits(max_tokens=tokens + 1, ignore_eos=True)
    request = GenerationRequest(prompt_ids=prompt, params=params or SamplingParams(), limits=limits, inspect=inspect)
    for event in engine.generate(request):
        if isinstance(event, GenerationFinished):
            return event.timings.tokens_per_s
    raise CancelledError("the benchmark was stopped")


def _prefill_floor(engine: Engine, prompt: tuple[int, ...]) -> float:
    engine.context.rewind(0)
    start = time.perf_counter()
    engine.bare_decode(prompt, batch=engine.info.n_batch)
    return len(prompt) / (time.perf_counter() - start)


def _prefill(engine: Engine, prompt: tuple[int, ...]) -> float:
    engine.context.rewind(0)
    start = time.perf_counter()
    _place(engine, prompt)
    return len(prompt) / (time.perf_counter() - start)


def _ttft(engine: Engine, prompt: tuple[int, ...]) -> float:
    engine.context.rewind(0)
    request = GenerationRequest(prompt_ids=prompt, limits=Limits(max_tokens=1, ignore_eos=True))
    for event in engine.generate(request):
        if isinstance(event, GenerationFinished):
            return event.timings.ttft_s
    raise CancelledError("the benchmark was stopped")


def _ratio(values: list[float], floors: list[float]) -> float:
    return statistics.median(value / floor for value, floor in zip(values, floors, strict=True))
