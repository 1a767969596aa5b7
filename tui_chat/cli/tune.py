"""`tui-chat tune`: a trained model learns to answer, from conversations."""

from __future__ import annotations

from pathlib import Path

import click

from tui_chat.cli.options import Command
from tui_chat.cli.training_options import given_settings, place_options, training_options
from tui_chat.cli.training_places import corpus_path, new_run
from tui_chat.cli.training_session import refusals_told, run_training
from tui_chat.errors import UsageError
from tui_chat.training.config import BUILTIN
from tui_chat.training.presets import tuning

_SUFFIXES = (".jsonl", ".ndjson")


@click.command("tune", cls=Command)
@click.argument("checkpoint")
@click.argument("corpus")
@place_options
@training_options
def command(checkpoint: str, corpus: str, name: str | None, out: Path | None, as_json: bool) -> int:
    """Teach the model of CHECKPOINT to answer as in the conversations of CORPUS.

    CHECKPOINT is 'best', 'latest', the name of a training, NAME/step-N, or a folder. CORPUS is a .jsonl file with one
    conversation a line, or 'builtin'. Only what the assistant says counts. The model keeps its architecture, its sizes
    and its vocabulary. Ctrl+C saves a checkpoint and stops; 'tui-chat train --resume' goes on from it.
    """
    from tui_chat.checkpoints.runs import find_checkpoint, run_name

    with refusals_told(as_json=as_json):
        if corpus != BUILTIN and Path(corpus).suffix.lower() not in _SUFFIXES:
            raise UsageError(
                f"{corpus} holds no conversations by its name: give a .jsonl file with one a line, or {BUILTIN!r} "
                "('tui-chat train' learns from plain text)"
            )
        facts = find_checkpoint(checkpoint)
        source = corpus_path(corpus) or corpus
        config = tuning(facts, new_run(name, out, f"{run_name(facts.path)}-tuned"), source, **given_settings())
    return run_training(config, as_json=as_json)
