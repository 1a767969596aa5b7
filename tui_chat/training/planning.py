"""What is decided and made ready between the corpus and the first step."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from tui_chat.checkpoints.facts import CheckpointFacts, Progress, read_facts
from tui_chat.checkpoints.runs import another_place
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
from tui_chat.errors import TuiChatError, UsageError
from tui_chat.training import events
from tui_chat.training.checkpoint import check_shape, load_tokenizer, load_weights
from tui_chat.training.config import TrainConfig
from tui_chat.training.dataset import Rows
from tui_chat.training.device import choose_compile, choose_device, choose_precision, free_bytes
from tui_chat.training.distributed import Group
from tui_chat.training.estimate import counted, portion, quantity, remedy
from tui_chat.training.loop import Loop, Plan, Watch
from tui_chat.training.models import build_model
from tui_chat.training.prepare import Prepared, open_training, prepare
from tui_chat.training.run_folder import ROWS, RunFolder
from tui_chat.training.texts import Corpus, CorpusKind

Tell = Callable[[events.Event], None]

_ROWS_OF_ANY_STEP = 1024
"""Rows a step may have even if the corpus has fewer."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a process needs to take part in a training; another process can be sent it."""

    config: TrainConfig
    plan: Plan
    shape: ModelShape
    n_processes: int
    start: CheckpointFacts | None
    """The run's own checkpoint to go on from."""
    free_bytes: int
    """For one process, before anything was taken; 0 where that is unknown."""

    def loop(self, group: Group, stop_asked: Callable[[], bool], training: tuple[Rows, ...] | None = None) -> Loop:
        """This process's part of the training.

        Args:
            group: Who this process is.
            stop_asked: Whether the user wants the training to end after the present step.
            training: The rows, where this process made them; else they are opened.
        """
        config = self.config
        torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // group.size))
        model = build_model(self.shape, config.seed, config.dropout)
        if self.start is None and config.start_from is not None:
            start = read_facts(config.start_from)
            load_weights(model, replace(start, shape=start.shape.reaching(self.shape.context)))
        plan = replace(self.plan, device=choose_device(config.device, group.local_rank))
        return Loop(config, plan, model, training or open_training(config.out / ROWS), group, self.start, stop_asked)

    def out_of_memory(self) -> str:
        """What to say when memory ran out."""
        rows = self.plan.portions.rows_per_pass
        what = f"out of memory with {counted(rows, 'row')} of {self.config.length} tokens in a pass"
        return f"{what}: {remedy(self.config, self.shape, rows, self.free_bytes)}"


def plan_training(
    config: TrainConfig, corpus: Corpus, folder: RunFolder, group: Group | None, tell: Tell
) -> tuple[Job, Watch, Prepared]:
    """Make the rows ready, and decide on sizes, steps and device; all of it is told.

    Args:
        config: How.
        corpus: What was read.
        folder: The run.
        group: Of `torchrun`; None where this program starts the other processes.
        tell: Called with every stage.

    Raises:
        UsageError: The corpus, the settings or the checkpoint to go on from do not hold.
        TuiChatError: The memory would not do.
    """
    device = choose_device(config.device)
    n_processes = group.size if group else _n_processes(config, device)
    n_wished = group.size if group else config.processes
    _check_processes(config, n_wished)
    if folder.start is not None:
        _check_same(folder.start, config, corpus)
    first = folder.start or (read_facts(config.start_from) if config.start_from else None)
    tokenizer = load_tokenizer(first) if first else None
    if first and tokenizer:
        n_tokens = tokenizer.get_vocab_size()
        text = f"{n_tokens:,} tokens, those of {first.path}"
        tell(events.StageBegan(events.TOKENIZER, text, {"vocab_size": n_tokens, "merges": []}))
    prepared = prepare(corpus, config, config.out / ROWS, tokenizer, tell)
    # A small corpus may hold fewer different pieces than tokens were asked for.
    shape = replace(config.shape, vocab_size=prepared.tokenizer.get_vocab_size())
    if config.start_from is not None and folder.start is None and first is not None:
        shape = first.shape.reaching(max(config.row_lengths))
    _check_context(config, shape)
    _check_step(config, prepared.training)
    free = free_bytes(device) // (n_processes if device.type == "cpu" else 1)
    portions = portion(config, shape, n_processes, free * n_processes)
    tell(_model_stage(config, shape, portions.n_bytes, first))
    if free and portions.n_bytes > free * n_processes:
        needed, there = quantity(portions.n_bytes), quantity(free * n_processes)
        fewer = ", or fewer --processes" if n_processes > 1 else ""
        raise TuiChatError(
            f"the training would take about {needed}B of memory and {there}B are free: "
            f"{remedy(config, shape, portions.rows_per_pass, free)}{fewer}"
        )
    n_steps = _n_steps(config, prepared.training)
    n_flops = n_steps * config.tokens_per_step * shape.flops_per_token(config.length)
    plan = Plan(
        n_steps=n_steps,
        device=device,
        precision=choose_precision(config.precision, device),
        compiled=choose_compile(config.compile, device, n_flops),
        portions=portions,
    )
    if folder.start and folder.start.step >= n_steps:
        raise UsageError(f"{config.out}: all {n_steps:,} steps are done; to go on, give more with --steps or --epochs")
    tell(_training_stage(config, plan, n_processes, n_wished, folder.start))
    watch = Watch(
        run=config.out,
        tokenizer=prepared.tokenizer,
        validation=prepared.validation,
        prompts=prepared.prompts,
        shown=prepared.shown,
        facts=CheckpointFacts(
            path=config.out,
            shape=shape,
            progress=Progress(step=0, n_steps=n_steps, n_tokens=0, train_loss=math.inf),
            seed=config.seed,
            corpus=corpus.name,
            corpus_sha256=corpus.sha256,
            kind=corpus.kind.value,
            row_lengths=tuple(rows.length for rows in prepared.training),
            settings=config.settings(),
            best_validation_loss=folder.start.best_validation_loss if folder.start else None,
        ),
        tell=tell,
        check=folder.check,
    )
    return Job(config, plan, shape, n_processes, folder.start, free), watch, prepared


def _check_same(start: CheckpointFacts, config: TrainConfig, corpus: Corpus) -> None:
    """See that a training can go on from `start` as if it had never stopped."""
    wished = dict(start.settings.get("shape", {})).get("vocab_size", start.shape.vocab_size)
    if config.shape.vocab_size != wished:
        raise UsageError(
            f"{start.path} was trained with --vocab {wished}, not {config.shape.vocab_size}: "
            f"give the same, or begin a new training with {another_place(config.out)}"
        )
    check_shape(start, replace(config.shape, vocab_size=start.shape.vocab_size))
    if start.corpus_sha256 != corpus.sha256:
        anew = f"begin a new training without --resume and with {another_place(config.out)}"
        if corpus.kind is CorpusKind.CHAT:
            anew = "start a new training from the checkpoint with tui-chat tune"
        raise UsageError(
            f"{corpus.name} is not what {start.path} was trained on ({start.corpus}), or has changed since: "
            f"give that corpus, or {anew}"
        )
    if start.seed != config.seed:
        raise UsageError(f"{start.path} was trained with --seed {start.seed}, not {config.seed}: give the same")


def _check_context(config: TrainConfig, shape: ModelShape) -> None:
    longest = max(config.row_lengths)
    if longest > shape.context and shape.positions is not Positions.ROTARY:
        raise UsageError(
            f"rows of {longest} tokens do not fit into the {shape.context} positions of the model: "
            f"use --context {shape.context} or less"
        )


def _check_step(config: TrainConfig, training: tuple[Rows, ...]) -> None:
    """A step may read the rows of a small corpus more than once, but not without end."""
    rows, n_rows = config.batch * config.accumulate, training[0].n_rows
    if rows > max(n_rows, _ROWS_OF_ANY_STEP):
        raise UsageError(
            f"a step would read {rows:,} rows and there are {n_rows:,}: give --batch and --accumulate whose product is "
            f"{max(n_rows, _ROWS_OF_ANY_STEP):,} or less"
        )


def _check_processes(config: TrainConfig, n_processes: int) -> None:
    n_rows = config.batch * config.accumulate
    if n_processes > n_rows:
        raise UsageError(
            f"{n_processes:,} processes cannot share the {counted(n_rows, 'row')} of a step: "
            f"use --processes {n_rows} at most, or a larger --batch"
        )


def _n_processes(config: TrainConfig, device: torch.device) -> int:
    """As many as were asked for, if each has a device, or a core of the processor, of its own."""
    return min(config.processes, _places(device)[0])


def _places(device: torch.device) -> tuple[int, str]:
    """How many processes can compute at once, and on what."""
    if device.type == "cpu":
        return os.cpu_count() or 1, "core"
    return (torch.cuda.device_count() if device.type == "cuda" else 1), "GPU"


def _are(number: int, thing: str) -> str:
    return f"{'is' if number == 1 else 'are'} {counted(number, thing)}"


def _n_steps(config: TrainConfig, training: tuple[Rows, ...]) -> int:
    if config.steps is not None:
        return config.steps
    n_tokens = sum(rows.n_rows * rows.length for rows in training)
    return max(1, math.ceil((config.epochs or 0) * n_tokens / config.tokens_per_step))


def _model_stage(
    config: TrainConfig, shape: ModelShape, n_bytes: int, first: CheckpointFacts | None
) -> events.StageBegan:
    flops = shape.flops_per_token(config.length)
    heads = counted(shape.n_heads, "head")
    if shape.arch is Architecture.LLAMA and shape.n_kv_heads != shape.n_heads:
        heads += f" ({shape.n_kv_heads} of keys and values)"
    text = (
        f"{shape.arch}: {shape.n_parameters:,} parameters in {counted(shape.n_layers, 'layer')} of width "
        f"{shape.width} with {heads}; {quantity(flops)}FLOP a trained token; about {quantity(n_bytes)}B of memory; "
        + (f"it begins with what {first.path} has learnt" if first else "all numbers are random at first")
    )
    figures = {
        "arch": shape.arch.value,
        "n_parameters": shape.n_parameters,
        "flops_per_token": flops,
        "memory_bytes": n_bytes,
    }
    return events.StageBegan(events.MODEL, text, figures)


def _training_stage(
    config: TrainConfig, plan: Plan, n_processes: int, n_wished: int, start: CheckpointFacts | None
) -> events.StageBegan:
    portions = plan.portions
    parts = [
        f"{counted(plan.n_steps, 'step')} of {config.tokens_per_step:,} tokens",
        f"on {plan.device.type}",
        plan.precision,
    ]
    if start is not None:
        parts.insert(0, f"from step {start.step:,} on")
    if plan.compiled:
        parts.append("compiled")
    if n_wished > 1:
        why = f" (not {n_wished}, as there {_are(*_places(plan.device))})" if n_processes < n_wished else ""
        parts.append(f"{n_processes} process{'' if n_processes == 1 else 'es'}{why}")
    if portions.passes > 1:
        parts.append(f"{portions.passes} passes of {counted(portions.rows_per_pass, 'row')} a step")
    figures = {
        "n_steps": plan.n_steps,
        "device": plan.device.type,
        "precision": plan.precision.value,
        "compiled": plan.compiled,
        "rows_per_pass": portions.rows_per_pass,
        "passes_per_step": portions.passes,
        "processes": n_processes,
    }
    return events.StageBegan(events.TRAINING, ", ".join(parts), figures)
