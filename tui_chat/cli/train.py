"""`tui-chat train`: from a text to a language model, each stage shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui_chat.cli.options import Command
from tui_chat.cli.training_options import given_settings, place_options, shape_options, training_options
from tui_chat.cli.training_places import corpus_path, new_run, run_to_resume
from tui_chat.cli.training_session import refusals_told, run_training
from tui_chat.errors import UsageError
from tui_chat.training.config import BUILTIN, config_of
from tui_chat.training.presets import PRESETS, Preset, preset_for

if TYPE_CHECKING:
    from tui_chat.training.config import TrainConfig


_PRESETS = "\n".join(["\b", "Presets:", *(f"  {preset.name:<8}{preset.summary}" for preset in PRESETS.values())])


@click.command("train", cls=Command, epilog=_PRESETS)
@click.argument("corpus", required=False)
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Settings to begin with; chosen by CORPUS otherwise.")
@click.option("--resume", is_flag=True, help="Go on with the newest training, or with the one --name or --out names.")
@place_options
@shape_options
@training_options
def command(
    corpus: str | None, preset: str | None, resume: bool, name: str | None, out: Path | None, as_json: bool
) -> int:
    """Train a language model from nothing on CORPUS.

    CORPUS is a text file, a folder of text files, a .jsonl file of conversations, or 'builtin'. Without it the preset's
    own is read; without a preset too, ten paragraphs that come with the program. Flags that are not given are the
    preset's. Ctrl+C saves a checkpoint and stops; --resume goes on from it.
    """
    changes = given_settings()
    corpus = corpus_path(corpus)
    with refusals_told(as_json=as_json):
        if resume:
            config = _resumed(corpus, preset, name, out, changes)
        else:
            config = _new(corpus, preset, name, out, changes)
    return run_training(config, as_json=as_json)


def _new(
    corpus: str | None, preset: str | None, name: str | None, out: Path | None, changes: dict[str, Any]
) -> TrainConfig:
    chosen = PRESETS[preset or preset_for(corpus)]
    if corpus is None and chosen.corpus is None:
        raise UsageError(
            f"the preset {chosen.name} has no corpus of its own: "
            f"name a text file, a folder, a .jsonl file or {BUILTIN!r}"
        )
    called = chosen.name if corpus is None or corpus == BUILTIN else Path(corpus).stem or Path(corpus).name
    return chosen.configure(new_run(name, out, called), corpus, **changes)


def _resumed(
    corpus: str | None, preset: str | None, name: str | None, out: Path | None, changes: dict[str, Any]
) -> TrainConfig:
    facts = run_to_resume(name, out, preset=preset, corpus=corpus)
    config = config_of(facts)
    # What the run was begun with takes the place of a preset.
    begun = Preset(name=config.preset, summary="", corpus=None, config=config)
    return begun.configure(config.out, corpus, resume=True, **changes)
