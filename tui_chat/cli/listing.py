"""`tui-chat list`: the models on this machine and what was trained here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from tui_chat import paths
from tui_chat.cli.options import Command, json_option
from tui_chat.cli.program import one_line, terminal_width
from tui_chat.display.cells import hanging
from tui_chat.display.figures import parameters, size
from tui_chat.display.training_facts import training_facts
from tui_chat.errors import TuiChatError
from tui_chat.lessons.checkpoint_documents import checkpoint_document, trained_document
from tui_chat.lessons.documents import dump

if TYPE_CHECKING:
    from tui_chat.checkpoints.facts import CheckpointFacts
    from tui_chat.checkpoints.runs import Run
    from tui_chat.models.local import LocalModel

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a list shows."""

    search: str = ""
    """Words that all stand in the name, the architecture, the storage type or the origin; case does not matter."""
    max_loss: float | None = None
    min_step: int | None = None

    def shows(self, entry: Document, *more: str) -> bool:
        """Whether an entry belongs into the list; what has no loss or step does not if one is asked for."""
        text = " ".join([*more, *(str(value) for key, value in entry.items() if key in _SEARCHED)]).lower()
        return (
            all(word in text for word in self.search.lower().split())
            and (self.max_loss is None or (entry["loss"] is not None and entry["loss"] <= self.max_loss))
            and (self.min_step is None or (entry["step"] is not None and entry["step"] >= self.min_step))
        )


_SEARCHED = ("name", "spec", "architecture", "quantization", "origin")


@click.command("list", cls=Command)
@click.option("--search", metavar="TEXT", default="", help="Only what has these words in its name, type or origin.")
@click.option("--max-loss", type=float, metavar="X", help="Only what was trained to this loss or a lower one.")
@click.option("--min-step", type=click.IntRange(min=0), metavar="N", help="Only what was trained this many steps.")
@click.option("--best", is_flag=True, help="Only the checkpoint with the lowest loss of those that match.")
@click.option("--latest", is_flag=True, help="Only the checkpoint saved last of those that match.")
@click.option("--metadata", is_flag=True, help="Show how each checkpoint was trained, too.")
@json_option
def command(
    search: str,
    max_loss: float | None,
    min_step: int | None,
    best: bool,
    latest: bool,
    metadata: bool,
    as_json: bool,
) -> None:
    """List the models on this machine and the checkpoints that were trained here.

    The first column is what to write after --model. A loss is in nats a token.
    """
    from tui_chat.checkpoints.runs import list_runs

    wanted = Wanted(search, max_loss, min_step)
    runs = list_runs()
    trainings = list(_trainings(runs, wanted, metadata=metadata))
    models = [] if best or latest else [entry for entry in _models() if wanted.shows(entry)]
    if best or latest:
        trainings = list(_chosen(runs, trainings, best=best, latest=latest))
    document = {"models": models, "trainings": trainings}
    click.echo(
        dump(document) if as_json else "\n".join(_describe(document, trained=bool(runs), width=terminal_width()))
    )


def _models() -> Iterator[Document]:
    from tui_chat.models.local import local_models

    for model in local_models(paths.data_dir()):
        yield _model(model)


def _model(model: LocalModel) -> Document:
    from tui_chat.engine.gguf import read_header

    entry: Document = {
        "name": model.name,
        "spec": model.spec,
        "origin": model.origin,
        "path": str(model.path),
        "size_bytes": model.size_bytes,
        "architecture": None,
        "quantization": None,
        "n_parameters": None,
        "step": None,
        "loss": None,
        "problem": None,
    }
    try:
        header = read_header(model.path)
    except TuiChatError as error:
        return {**entry, "problem": str(error)}
    trained = trained_document(header)
    return {
        **entry,
        "architecture": header.architecture,
        "quantization": header.quantization,
        "n_parameters": header.n_params,
        "step": trained.get("step"),
        "loss": trained.get("loss"),
    }


def _trainings(runs: Iterable[Run], wanted: Wanted, *, metadata: bool) -> Iterator[Document]:
    from tui_chat.checkpoints.runs import is_running

    for run in runs:
        entries = [_checkpoint(run, facts, metadata) for facts in run.checkpoints]
        kept = [entry for entry in entries if wanted.shows(entry, run.name)]
        # What has no checkpoint is shown where everything is.
        if kept or (wanted == Wanted() and not entries):
            yield {
                "name": run.name,
                "path": str(run.path),
                "running": is_running(run.path),
                "problem": run.problem or None,
                "checkpoints": kept,
            }


def _checkpoint(run: Run, facts: CheckpointFacts, metadata: bool) -> Document:
    return {
        "spec": f"{run.name}/{facts.path.name}",
        **checkpoint_document(facts, metadata=metadata),
        "best": facts is run.best,
        "latest": facts is run.latest,
    }


def _chosen(runs: Sequence[Run], trainings: Sequence[Document], *, best: bool, latest: bool) -> Iterator[Document]:
    """The trainings with only their checkpoints that are the best or the newest of all that are listed."""
    from tui_chat.checkpoints.runs import best_of, saved

    listed = {entry["path"] for training in trainings for entry in training["checkpoints"]}
    candidates = [facts for run in runs for facts in run.checkpoints if str(facts.path) in listed]
    picked = [best_of(candidates) if best else None, max(candidates, key=saved, default=None) if latest else None]
    chosen = {str(facts.path) for facts in picked if facts is not None}
    for training in trainings:
        kept = [entry for entry in training["checkpoints"] if entry["path"] in chosen]
        if kept:
            yield {**training, "checkpoints": kept}


def _describe(document: Document, *, trained: bool, width: int | None) -> Iterator[str]:
    if document["models"]:
        yield click.style("models", bold=True)
        yield from table((_model_row(entry) for entry in document["models"]), width)
    for index, training in enumerate(document["trainings"]):
        if document["models"] or index:
            yield ""
        yield f"{click.style(one_line(training['name']), bold=True)}  {_state(training)}"
        if training["checkpoints"]:
            yield f"  {_what_it_is(training['checkpoints'][0])}"
        yield from table((_checkpoint_row(entry) for entry in training["checkpoints"]), width)
        for entry in training["checkpoints"]:
            if "metadata" in entry:
                yield from _metadata_lines(entry, width)
        if training["problem"]:
            yield f"  ! {one_line(training['problem'])}"
    if not trained:
        yield from ("", "nothing was trained here yet: tui-chat train --preset demo")
    elif not document["models"] and not document["trainings"]:
        yield "nothing matches"


def _state(training: Document) -> str:
    state = "training now, " if training["running"] else "" if training["checkpoints"] else "no checkpoint yet, "
    return f"{state}in {one_line(training['path'])}"


def _model_row(entry: Document) -> tuple[str, ...]:
    if entry["problem"]:
        return one_line(entry["spec"]), size(entry["size_bytes"]), "cannot be read: " + one_line(entry["problem"])
    return (
        one_line(entry["spec"]),
        size(entry["size_bytes"]),
        entry["quantization"],
        one_line(entry["architecture"]),
        parameters(entry["n_parameters"]),
        "" if entry["step"] is None else f"step {entry['step']:,}",
        "" if entry["loss"] is None else f"loss {entry['loss']:.3f}",
        entry["origin"],
    )


def _what_it_is(entry: Document) -> str:
    """What is the same of every checkpoint of a training."""
    sizes = f"{parameters(entry['n_parameters'])} parameters, {size(entry['size_bytes'])} as {entry['quantization']}"
    return f"{entry['architecture']}, {sizes}"


def _checkpoint_row(entry: Document) -> tuple[str, ...]:
    marks = [name for name in ("best", "latest") if entry[name]]
    return (
        one_line(entry["spec"]),
        f"step {entry['step']:,}",
        "" if entry["loss"] is None else f"loss {entry['loss']:.3f}",
        "" if entry["perplexity"] is None else f"perplexity {entry['perplexity']:,.1f}",
        ", ".join(marks),
    )


def _metadata_lines(entry: Document, width: int | None) -> Iterator[str]:
    yield f"  {one_line(entry['spec'])}"
    for name, text in training_facts(entry["metadata"]):
        yield from hanging(f"    {name:<22} ", one_line(text), width)


def table(rows: Iterable[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Rows of texts as lines with aligned columns, indented by two; the last column is not padded.

    What does not fit into `width` cells goes on in the next line, behind the first column.
    """
    kept = list(rows)
    n_columns = max((len(row) for row in kept), default=0)
    widths = [max((len(row[i]) for row in kept if i < len(row) - 1), default=0) for i in range(n_columns)]
    for row in kept:
        line = ""
        for index, (text, cells) in enumerate(zip(row, widths, strict=False)):
            if index > 1 and width is not None and len(line) + 2 + len(text) > width:
                yield line.rstrip()
                line = " " * (2 + widths[0])
            line += f"  {text:<{cells}}"
        yield line.rstrip()
