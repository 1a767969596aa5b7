"""`python -m tui_chat.training`: train the built-in model, write it as GGUF, measure it.

Stages, run in the order given: `train` writes checkpoints, `export` one GGUF file of each type, `evaluate` prints how
good the model is on held-out wordings, `ship` puts the model into the package (from a checkout of the repository).
Progress goes to stdout as JSON lines, one object each, with a `stage` of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tui_chat.errors import TuiChatError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tui_chat.training", description=__doc__)
    add = parser.add_argument
    add("stages", nargs="*", default=["train"], metavar="STAGE", help="train, export, evaluate, ship (train)")
    add("--run", type=Path, default=Path("build/pocket"), help="folder of the checkpoints (%(default)s)")
    add("--out", type=Path, default=Path("build"), help="folder for exported files (%(default)s)")
    add("--steps", type=int, help="steps of the training")
    add("--seed", type=int, default=1, help="of corpus, order and first weights (%(default)s)")
    add("--processes", type=int, default=2, help="processes that share the training (%(default)s)")
    add("--resume", action="store_true", help="go on from the newest checkpoint")
    options = parser.parse_args(arguments)
    unknown = [stage for stage in options.stages if stage not in _STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}: choose from {', '.join(_STAGES)}")
    try:
        for stage in options.stages:
            _STAGES[stage](options)
    except TuiChatError as error:
        print(f"tui_chat.training: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _say(**facts: object) -> None:
    print(json.dumps(facts, ensure_ascii=False), flush=True)


def _train(options: argparse.Namespace) -> None:
    from tui_chat.training.train import TrainConfig, train

    steps = {} if options.steps is None else {"n_steps": options.steps}
    config = TrainConfig(
        out=options.run, seed=options.seed, n_processes=options.processes, resume=options.resume, **steps
    )
    checkpoint = train(
        config,
        on_progress=lambda progress: _say(stage="train", **asdict(progress)),
        on_stage=lambda text: _say(stage="prepare", text=text),
    )
    _say(stage="trained", path=str(checkpoint.path), **asdict(checkpoint.progress))


def _export(options: argparse.Namespace) -> None:
    from tui_chat.training.checkpoint import load_checkpoint
    from tui_chat.training.export import FileType, export

    checkpoint = load_checkpoint(options.run)
    for file_type in FileType:
        path = export(checkpoint, options.out / f"pocket-{file_type.value}.gguf", file_type)
        _say(stage="exported", path=str(path), size_bytes=path.stat().st_size)


def _evaluate(options: argparse.Namespace) -> None:
    from tui_chat.training.checkpoint import load_checkpoint
    from tui_chat.training.evaluate import evaluate

    report = evaluate(load_checkpoint(options.run))
    print(report.table(), file=sys.stderr)
    _say(stage="evaluated", **report.as_json())


def _ship(options: argparse.Namespace) -> None:
    from tui_chat.training.checkpoint import TOKENIZER, load_checkpoint, save_slim
    from tui_chat.training.export import FileType, export

    checkpoint = load_checkpoint(options.run)
    assets = Path(__file__).parents[1] / "assets"
    path = export(checkpoint, assets / "pocket.gguf", FileType.Q8_0)
    shutil.copyfile(checkpoint.path / TOKENIZER, assets / TOKENIZER)
    slim = save_slim(checkpoint, Path("tests/training/data/pocket"))
    _say(stage="shipped", path=str(path), size_bytes=path.stat().st_size, weights=str(slim.path))


_STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": _train,
    "export": _export,
    "evaluate": _evaluate,
    "ship": _ship,
}

if __name__ == "__main__":
    raise SystemExit(main())
