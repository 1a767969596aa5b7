"""The flags of `tui-chat train` and `tune`: each stands for one setting, and what is not given is the preset's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

from tui_chat.checkpoints.shape import Architecture, Positions
from tui_chat.training.config import Compile, Device, LossOn, OptimizerKind, Precision
from tui_chat.training.tokenizer import PreTokenizer

F = TypeVar("F", bound=Callable[..., Any])

_GIVEN = "tui_chat.training"


class TrainingOption(click.Option):
    """A flag for one field of `TrainConfig` or `ModelShape`.

    Args:
        declarations: The flag.
        field: The setting's name.
        heading: Group it stands in on the help page.
        becomes: Turns what the option's type gives into the setting's value.
    """

    def __init__(
        self,
        declarations: Sequence[str],
        *,
        field: str,
        heading: str,
        becomes: Callable[[Any], Any] = lambda value: value,
        **attributes: Any,
    ) -> None:
        super().__init__(declarations, expose_value=False, callback=self._note, default=None, **attributes)
        self.becomes = becomes
        self.field = field
        self.heading = heading

    def _note(self, ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None and value != ():
            ctx.meta.setdefault(_GIVEN, {})[self.field] = self.becomes(value)
        return value


def given_settings() -> dict[str, Any]:
    """Field to value of the settings that were given as flags."""
    return dict(click.get_current_context().meta.get(_GIVEN, {}))


def shape_options(command: F) -> F:
    """The flags for the architecture and sizes of a new model, and for its vocabulary."""
    return _apply(command, _SHAPE)


def training_options(command: F) -> F:
    """The flags for how a model learns, where, and what is said meanwhile."""
    return _apply(command, (*_LEARNING, *_MACHINE, *_REPORTS))


def place_options(command: F) -> F:
    """`--name` and `--out`, passed as `name: str | None` and `out: Path | None`, and `--json` as `as_json: bool`."""
    for option in (
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print JSON lines, one for everything that happens, and a summary at the end.",
        ),
        click.option(
            "--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Folder for the checkpoints instead."
        ),
        click.option("--name", metavar="NAME", help="What to call the training; --model takes this name."),
    ):
        command = option(command)
    return command


def _apply(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def _flag(heading: str, flag: str, field: str, kind: Any, says: str, **more: Any) -> Callable[[Any], Any]:
    if kind in (int, float):
        more.setdefault("metavar", "N" if kind is int else "X")
    if isinstance(kind, type) and issubclass(kind, Enum):
        more["becomes"], kind = kind, click.Choice([str(member.value) for member in kind], case_sensitive=False)
    return click.option(flag, cls=TrainingOption, field=field, heading=heading, type=kind, help=says, **more)


def _model(flag: str, field: str, kind: Any, says: str, **more: Any) -> Callable[[Any], Any]:
    return _flag("The model", flag, field, kind, says, **more)


def _learning(flag: str, field: str, kind: Any, says: str, **more: Any) -> Callable[[Any], Any]:
    return _flag("Learning", flag, field, kind, says, **more)


def _machine(flag: str, field: str, kind: Any, says: str, **more: Any) -> Callable[[Any], Any]:
    return _flag("The machine", flag, field, kind, says, **more)


def _report(flag: str, field: str, kind: Any, says: str, **more: Any) -> Callable[[Any], Any]:
    return _flag("Watching", flag, field, kind, says, **more)


_SHAPE: tuple[Callable[[Any], Any], ...] = (
    _model("--arch", "arch", Architecture, "Architecture."),
    _model("--layers", "n_layers", int, "Layers."),
    _model("--width", "width", int, "Numbers a token is passed on as, from layer to layer."),
    _model("--heads", "n_heads", int, "Attention heads; the width is divided among them."),
    _model("--kv-heads", "n_kv_heads", int, "Heads of keys and values; fewer than heads save memory (llama)."),
    _model("--ffn", "ffn_width", int, "Width inside the feed-forward part."),
    _model("--vocab", "vocab_size", int, "Tokens of the vocabulary, 256 of them for the bytes."),
    _model("--positions", "positions", Positions, "How the model knows where a token stands."),
    _model("--tied/--untied", "tied", None, "One table for reading and for writing tokens, or two."),
    _model("--qk-norm/--no-qk-norm", "qk_norm", None, "Norm queries and keys (llama)."),
    _model("--pre-tokenizer", "pre_tokenizer", PreTokenizer, "How text is cut into words before pieces are learnt."),
)

_LEARNING: tuple[Callable[[Any], Any], ...] = (
    _learning("--steps", "steps", int, "Updates of the weights; or give --epochs."),
    _learning("--epochs", "epochs", float, "Passes over the whole corpus; or give --steps."),
    _learning("--context", "context", int, "Tokens of a row the model sees at once."),
    _learning("--stride", "stride", int, "Tokens from one row of a text to the next; 0 lets none overlap."),
    _learning("--long-length", "long_length", int, "Tokens of a row in the last part (conversations); 0 for none."),
    _learning("--long-share", "long_share", float, "Share of the steps that read long rows."),
    _learning("--batch", "batch", int, "Rows computed at a time."),
    _learning("--accumulate", "accumulate", int, "Batches whose gradients make one step."),
    _learning("--optimizer", "optimizer", OptimizerKind, "What changes the matrices; AdamW changes all else."),
    _learning("--lr", "learning_rate", float, "Highest learning rate."),
    _learning("--warmup", "warmup_steps", int, "Steps in which the learning rate rises to it."),
    _learning("--final-share", "final_share", float, "Learning rate of the last step, as a share of the highest."),
    _learning("--weight-decay", "weight_decay", float, "Pull of the matrices towards zero."),
    _learning("--betas", "betas", float, "The two averages of AdamW.", nargs=2, metavar="X X"),
    _learning("--clip", "clip_norm", float, "Longest gradient; a longer one is cut to it."),
    _learning("--dropout", "dropout", float, "Share of the numbers that are left out at random."),
    _learning("--loss-on", "loss_on", LossOn, "Tokens of a conversation that count."),
    _learning("--prompt-weight", "prompt_weight", float, "What the other tokens count beside the assistant's."),
    _learning(
        "--opening-weight", "opening_weight", float, "What the first tokens of an answer that is only begun count."
    ),
    _learning("--seed", "seed", int, "Of the first weights, the order of rows and the split."),
    _learning("--validation-share", "validation_share", float, "Share of the corpus kept back to test on."),
    _learning("--n-dialogues", "n_dialogues", int, "Dialogues made of the built-in corpus."),
    _learning("--n-validation", "n_validation", int, "Dialogues of it that are kept back to test on."),
)

_MACHINE: tuple[Callable[[Any], Any], ...] = (
    _machine("--device", "device", Device, "Where to compute."),
    _machine("--precision", "precision", Precision, "Numbers the forward pass computes with."),
    _machine("--compile", "compile", Compile, "Translate the model into machine code of its own first."),
    _machine("--processes", "processes", int, "Processes that share every batch."),
    _machine("--threads", "threads", int, "Threads of each process; 0 chooses."),
)

_REPORTS: tuple[Callable[[Any], Any], ...] = (
    _report("--report-every", "report_every", int, "Steps between two reports."),
    _report("--validate-every", "validate_every", int, "Steps between two tests on text that is kept back."),
    _report("--validation-rows", "validation_rows", int, "Most rows such a test reads; 0 for all."),
    _report("--checkpoint-every", "checkpoint_every", int, "Steps between two checkpoints."),
    _report("--sample-every", "sample_every", int, "Steps between two samples of what the model writes."),
    _report("--sample-prompt", "sample_prompts", str, "What it then continues; repeatable.", multiple=True),
    _report("--sample-tokens", "sample_tokens", int, "Most tokens of a sample."),
)
