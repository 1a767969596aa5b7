"""How fast is a text scored, beside a prefill and beside llama.cpp alone? All three take turns in one run.

    python -m tests.benchmarks.perplexity [builtin|GEOMETRY ...] [--tokens N] [--rounds N] [--threads N]

- prefill: what `tui-chat benchmark` measures, the logits of the last token alone;
- floor: llama.cpp asked for the logits of every token, which are looked at by nobody;
- ours: the same batches scored (`Engine.score`).

The floor goes through the output matrix for every token, a prefill does not: the share of the weights that lies in that
matrix (where it is the embeddings too, as in both models here) is about what the floor is slower by. Only a model whose
share is below a tenth, of some 4B parameters at 152k tokens, can be scored at 0.9 of its prefill.

Ratios are taken within a round and are medians. On a machine that does other things as well, look at those of the
processor's time: with one thread they say what an idle machine would.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tui_chat import paths
from tui_chat.engine.engine import Engine
from tui_chat.engine.scoring import most_outputs
from tui_chat.engine.types import LoadOptions
from tui_chat.models.geometry import GEOMETRIES, ensure_model, vocabulary_of
from tui_chat.models.resolve import builtin_path

BUILTIN = "builtin"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
RATIOS = (("floor", "prefill"), ("ours", "floor"), ("ours", "prefill"))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[BUILTIN, "qwen3-0.6b"], metavar="MODEL")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 chooses as the program does")
    options = parser.parse_args()
    for model in options.models:
        load = LoadOptions(n_ctx=options.tokens + 1, n_threads=options.threads)
        with Engine.load(model_file(model), load) as engine:
            seconds = measure(engine, options.tokens, options.rounds)
            info = engine.info
            print(f"{model}, {options.tokens} tokens, {info.n_threads} threads, {options.rounds} rounds")
            print(f"  {info.n_vocab * info.n_embd / info.n_params:.1%} of the weights are the output matrix")
        for clock in CLOCKS:
            of = {name: [turn[clock] for turn in turns] for name, turns in seconds.items()}
            rates = ", ".join(f"{name} {options.tokens / statistics.median(s):,.0f} tok/s" for name, s in of.items())
            ratios = ", ".join(f"{a}/{b} {ratio(of[a], of[b]):.3f}" for a, b in RATIOS)
            print(f"  {clock:<9}  {rates}\n{'':13}{ratios}")


def model_file(name: str) -> Path:
    """The built-in model, or one of noise with this geometry."""
    if name == BUILTIN:
        return builtin_path()
    return ensure_model(GEOMETRIES[name], vocabulary_of(builtin_path()), paths.cache_dir() / "geometry")


def measure(engine: Engine, n: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Seconds by either clock that each of the three took for `n` tokens, once a round."""
    text = engine.vocab.tokenize("A token is a small piece of text that a language model reads and writes. ")
    ids = (text * (n // len(text) + 1))[:n]
    with engine.aside(n_outputs=most_outputs(engine.info.n_vocab)) as aside:
        context = aside.context

        def prefill() -> None:
            engine.context.rewind(0)
            engine.logits(ids)

        def floor() -> None:
            context.rewind(0)
            for start in range(0, n, context.n_outputs):
                context.extend(ids[start : start + context.n_outputs])

        def ours() -> None:
            for _ in aside.score(ids):
                pass

        turns: dict[str, Callable[[], None]] = {"prefill": prefill, "floor": floor, "ours": ours}
        for turn in turns.values():
            turn()
        seconds: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
        for number in range(rounds):
            # Whoever goes first after a pause finds a cooler, or a busier, machine: take turns at that too.
            for name in [*turns][number % 3 :] + [*turns][: number % 3]:
                seconds[name].append(timed(turns[name]))
    return seconds


def timed(turn: Callable[[], None]) -> dict[str, float]:
    """Seconds it took, by every clock."""
    before = {name: clock() for name, clock in CLOCKS.items()}
    turn()
    return {name: clock() - before[name] for name, clock in CLOCKS.items()}


def ratio(of: list[float], beside: list[float]) -> float:
    """Speed of one against another, in seconds of the same rounds."""
    return statistics.median(b / a for a, b in zip(of, beside, strict=True))


if __name__ == "__main__":
    main()
