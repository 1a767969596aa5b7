"""`tui-chat export`: a checkpoint becomes a GGUF file that llama.cpp runs."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import click

from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.file_type import FileType
from tui_chat.cli.options import Command, json_option
from tui_chat.display.figures import size
from tui_chat.errors import StorageError, UsageError
from tui_chat.lessons.documents import dump


@click.command("export", cls=Command)
@click.argument("checkpoint")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File, or folder for it; default: NAME-TYPE.gguf in this folder.",
)
@click.option(
    "--type",
    "file_type",
    type=click.Choice([kind.value for kind in FileType], case_sensitive=False),
    default=FileType.Q8_0.value,
    show_default=True,
    help="How the matrices are stored.",
)
@click.option("--name", metavar="NAME", help="What the model calls itself; default: the training's name.")
@json_option
def command(checkpoint: str, out: Path | None, file_type: str, name: str | None, as_json: bool) -> None:
    """Write CHECKPOINT as a GGUF file.

    CHECKPOINT is 'best', 'latest', the name of a training, NAME/step-N, or a folder.
    """
    from tui_chat.checkpoints.runs import find_checkpoint, run_name

    facts = find_checkpoint(checkpoint)
    kind = FileType(file_type.lower())
    called = name or run_name(facts.path)
    path = write_gguf(facts, _target(out, f"{_file_name(called)}-{kind.value}.gguf"), kind, name=called)
    document = {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "type": kind.value,
        "name": called,
        "checkpoint": str(facts.path),
        "architecture": facts.shape.gguf_architecture,
        "n_parameters": facts.shape.n_parameters,
        "step": facts.step,
        "loss": facts.loss,
    }
    if as_json:
        click.echo(dump(document))
    else:
        click.echo(f"{path}  {size(path.stat().st_size)}, step {facts.step:,}, loss {facts.loss:.3f}")
        click.echo(f"talk to it: tui-chat --model {shlex.quote(str(path))}", err=not sys.stdout.isatty())


def write_gguf(facts: CheckpointFacts, path: Path, kind: FileType, *, name: str) -> Path:
    """Write a checkpoint as a GGUF file; a file that was there is replaced once the new one is whole.

    Args:
        facts: The checkpoint.
        path: The file.
        kind: Storage of the matrices.
        name: What the model calls itself.

    Raises:
        ModelError: The checkpoint cannot be read, or its sizes do not suit the storage type.
        UsageError: Something is there that is no regular file.
        StorageError: The file cannot be written.
    """
    from tui_chat.checkpoints.export import export, replaceable

    try:
        if kind is not FileType.Q4_K_M:
            return export(facts, path, kind, name=name)
        from tui_chat.engine.quantize import quantize

        target = replaceable(path)
        # Beside the target, so that the finished file only needs a new name.
        with tempfile.TemporaryDirectory(prefix=".tui-chat-", dir=target.parent) as scratch:
            whole = export(facts, Path(scratch) / "f32.gguf", FileType.F32, name=name)
            small = Path(scratch) / "small.gguf"
            quantize(whole, small, kind.value)
            small.replace(target)
            return path
    except OSError as error:
        from tui_chat.checkpoints.unwritten import why_unwritten

        reason, remedy = why_unwritten(path.parent, error)
        raise StorageError(
            f"{path} cannot be written, because {reason}: {f'{remedy}, or ' if remedy else ''}name another place "
            "with --out"
        ) from error


def _target(out: Path | None, file_name: str) -> Path:
    path = Path(file_name) if out is None else out
    try:
        path = path.expanduser()
        if path.is_dir():
            path /= file_name
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}: make it, or name another place with --out")
    except (OSError, RuntimeError) as error:  # a name that is too long, a user who is not there
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be written ({reason}): name another place with --out") from error
    return path


def _file_name(name: str) -> str:
    """A name without what a file's name may not hold."""
    return "".join(char if char.isalnum() or char in "-_.+ " else "-" for char in name).strip(" .") or "model"
