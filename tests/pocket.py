"""The built-in model: put it into the package (`ship`), ask it what it was never trained on (`eval`).

`python -m tests.pocket ship RUN` exports the newest checkpoint of a training as the model inside the package;
`python -m tests.pocket eval` measures that file as users have it, through the program's own engine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tui_chat.checkpoints.export import FileType, export
from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS
from tui_chat.checkpoints.runs import find_checkpoint
from tui_chat.checkpoints.weights import read_weights
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    FinishReason,
    GenerationFinished,
    GenerationRequest,
    Limits,
    LoadOptions,
    SamplingParams,
    TokensGenerated,
)
from tui_chat.models.resolve import builtin_path

ASSETS = builtin_path().parent
SLIM = Path(__file__).parent / "training" / "data" / "pocket"
"""Weights in half precision without the optimizer's state, for the tests that compare PyTorch with llama.cpp."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote after a prompt."""

    text: str
    stopped: bool


class EngineWriter:
    """Continues texts with a GGUF model, one after the other."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(
        self, prompts: Sequence[str], max_tokens: int, *, temperature: float = 0.0, seed: int = 0
    ) -> Sequence[Reply]:
        """One continuation of every prompt; draws without truncation."""
        # Prompts that begin alike follow one another, so that the cache serves.
        order = sorted(range(len(prompts)), key=lambda i: prompts[i])
        replies = dict(self._replies(order, prompts, max_tokens, temperature, seed))
        return [replies[i] for i in range(len(prompts))]

    def _replies(
        self, order: Sequence[int], prompts: Sequence[str], max_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, Reply]]:
        vocab = self.engine.vocab
        for place, i in enumerate(order):
            if sys.stderr.isatty() and place % 20 == 0:
                print(f"\r{place:,} of {len(order):,}", end="", file=sys.stderr)
            request = GenerationRequest(
                prompt_ids=tuple(vocab.tokenize(prompts[i], parse_special=True)),
                params=SamplingParams(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0, seed=seed + i),
                limits=Limits(max_tokens=max_tokens),
                inspect=False,
            )
            text, stopped = "", False
            for event in self.engine.generate(request):
                if isinstance(event, TokensGenerated):
                    text += event.text
                elif isinstance(event, GenerationFinished):
                    stopped = event.reason is FinishReason.EOS
            yield i, Reply(text, stopped)


def evaluate_model(path: Path, as_json: bool) -> None:
    """Print how good the model in `path` is on held-out questions."""
    from tui_chat.training.evaluate import evaluate

    with Engine.load(path, LoadOptions(n_ctx=2048)) as engine:
        report = evaluate(EngineWriter(engine))
    print("\r" + report.table(), file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(report.as_json(), ensure_ascii=False, indent=1))


def ship(run: Path) -> None:
    """Make the newest checkpoint of `run` the built-in model."""
    facts = find_checkpoint(str(run))
    path = export(facts, builtin_path(), FileType.Q8_0, name="pocket")
    shutil.copyfile(facts.path / TOKENIZER, ASSETS / TOKENIZER)
    shutil.rmtree(SLIM, ignore_errors=True)
    SLIM.mkdir(parents=True)
    save_file({name: tensor.astype(np.float16) for name, tensor in read_weights(facts.path).items()}, SLIM / WEIGHTS)
    (SLIM / WEIGHTS).chmod(0o644)
    shutil.copyfile(facts.path / TOKENIZER, SLIM / TOKENIZER)
    facts.write(SLIM)
    print(f"{path}: step {facts.step:,}, loss {facts.loss:.4f}, {path.stat().st_size:,} bytes")


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.pocket", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("eval")
    measuring.add_argument("--model", type=Path, default=builtin_path(), help="a GGUF file (%(default)s)")
    measuring.add_argument("--json", action="store_true", help="also every wrong answer")
    shipping = commands.add_parser("ship")
    shipping.add_argument("run", type=Path, help="folder of a training")
    options = parser.parse_args()
    if options.command == "eval":
        evaluate_model(options.model, options.json)
    else:
        ship(options.run)


if __name__ == "__main__":
    main()
