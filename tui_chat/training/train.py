"""The training loop: AdamW, warm-up and cosine by steps, clipped gradients, several processes if wished.

Every figure of a step follows from the seed and the step's number, so a training that was stopped goes on from its
checkpoint with the same losses as if it had never stopped.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)

from tui_chat.errors import TuiChatError
from tui_chat.training.checkpoint import OPTIMIZER, Checkpoint, Progress, load_checkpoint, save_checkpoint
from tui_chat.training.dataset import PackedRows, RowOrder
from tui_chat.training.model import Decoder, ModelConfig
from tui_chat.training.prepare import Prepared, prepare
from tui_chat.training.sources import CORPUS_DIR, load_sources
from tui_chat.training.tokenizer import load_tokenizer

_ROWS = ("short", "long", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a model is trained. The defaults make the built-in model."""

    out: Path
    """Folder for checkpoints."""
    corpus: Path = CORPUS_DIR
    model: ModelConfig = field(default_factory=ModelConfig)
    seed: int = 1
    n_dialogues: int = 95_000
    n_validation: int = 1_500
    n_steps: int = 3_000
    batch_tokens: int = 3_072
    """Tokens of one step, over all processes."""
    length: int = 256
    long_length: int = 512
    long_share: float = 0.15
    """Share of the steps, at the end, that read long rows."""
    learning_rate: float = 3e-3
    final_share: float = 0.02
    """Learning rate of the last step as a share of the highest."""
    warmup_steps: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    bf16: bool | None = None
    """Compute in bfloat16; None does so where the processor has instructions for it, as it is very slow elsewhere."""
    compile: bool = True
    n_processes: int = 1
    """More than one splits every batch; each process takes its share of the processor's cores."""
    n_threads: int = 0
    """Of each process; 0 shares the cores among the processes."""
    report_every: int = 20
    validate_every: int = 250
    checkpoint_every: int = 250
    resume: bool = False
    """Go on from the newest checkpoint in `out`."""

    @property
    def autocast(self) -> bool:
        """Whether this machine computes in bfloat16."""
        if self.bf16 is not None:
            return self.bf16
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

    @property
    def n_short_steps(self) -> int:
        """Steps that read short rows."""
        return self.n_steps - round(self.n_steps * self.long_share)


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """Learning rate of step `step`, from 0: a straight rise, then half a cosine down to `final_share`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.n_steps - config.warmup_steps)
    share = config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * share


def token_losses(model: Decoder, ids: Tensor) -> Tensor:
    """Cross-entropy of every next token.

    Args:
        model: Scores tokens.
        ids: (B, T + 1) int64.

    Returns:
        (B, T), nats.
    """
    logits = model(ids[:, :-1])  # (B, T, V)
    return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(
        ids.shape[0], ids.shape[1] - 1
    )


def train(
    config: TrainConfig,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Train a model from the written corpus.

    Args:
        config: How.
        on_progress: Called in this process every `report_every` steps.
        on_stage: Called with a line for people when a stage begins.

    Returns:
        The last checkpoint.

    Raises:
        UsageError: The corpus or the checkpoint to go on from cannot be read.
        TuiChatError: The loss became NaN; the last checkpoint is kept.
    """
    sources = load_sources(config.corpus)
    start = load_checkpoint(config.out) if config.resume else None
    prepared = prepare(
        sources,
        seed=config.seed,
        n_dialogues=config.n_dialogues,
        n_validation=config.n_validation,
        vocab_size=config.model.vocab_size,
        length=config.length,
        long_length=config.long_length,
        long_share=config.long_share,
        tokenizer=start.tokenizer() if start else None,
        on_stage=on_stage,
    )
    on_stage(
        f"rows: {prepared.short.n_tokens + prepared.long.n_tokens:,} tokens in {prepared.n_dialogues:,} dialogues; "
        f"validation {prepared.n_validation:,} ({prepared.n_leaks:,} leaks taken out)"
    )
    with _companions(config, prepared) as group:
        loop = _Loop(config, prepared, group, sources.sha256, start)
        on_stage(f"training: {loop.model.n_parameters:,} parameters, {config.n_steps:,} steps")
        return loop.run(on_progress)


@dataclass(frozen=True, slots=True)
class _Group:
    """This process among those that share a training."""

    rank: int = 0
    size: int = 1

    def add_up(self, gradients: list[Tensor]) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))


class _Loop:
    def __init__(
        self, config: TrainConfig, prepared: Prepared, group: _Group, corpus_sha256: str, start: Checkpoint | None
    ) -> None:
        self.config, self.prepared, self.group, self.corpus_sha256 = config, prepared, group, corpus_sha256
        torch.set_num_threads(config.n_threads or max(1, (os.cpu_count() or 1) // group.size))
        # A small corpus may hold fewer different pieces than entries were asked for.
        shape = replace(config.model, vocab_size=prepared.tokenizer.get_vocab_size())
        self.model = Decoder(shape, config.seed)
        matrices = [p for name, p in self.model.named_parameters() if p.dim() == 2 and "embedding" not in name]
        others = [p for name, p in self.model.named_parameters() if p.dim() != 2 or "embedding" in name]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        self.step = self.n_tokens = 0
        self.seconds_before = 0.0
        if start is not None:
            self.model.load_state_dict(start.model().state_dict())
            self.optimizer.load_state_dict(torch.load(start.path / OPTIMIZER, weights_only=True))
            self.step, self.n_tokens = start.progress.step, start.progress.n_tokens
            self.seconds_before = start.progress.seconds
        self.orders = (
            RowOrder(len(prepared.short.ids), config.seed),
            RowOrder(len(prepared.long.ids), config.seed + 1),
        )
        self.losses: Callable[[Decoder, Tensor], Tensor] = (
            torch.compile(token_losses, dynamic=False) if config.compile else token_losses
        )

    def run(self, on_progress: Callable[[Progress], None]) -> Checkpoint:
        config, started = self.config, time.monotonic()
        own_sum, own_count, since, tokens_since = 0.0, 0.0, started, 0
        checkpoint: Checkpoint | None = None
        validation_loss: float | None = None
        while self.step < config.n_steps:
            loss_sum, count, n_tokens, norm = self._update()
            own_sum, own_count, tokens_since = own_sum + loss_sum, own_count + count, tokens_since + n_tokens
            self.step += 1
            self.n_tokens += n_tokens
            last = self.step == config.n_steps
            if self.group.rank != 0:
                continue
            if not math.isfinite(loss_sum):
                raise TuiChatError(
                    f"the loss is not a number at step {self.step}: lower the learning rate; "
                    f"the last checkpoint in {config.out} is whole"
                )
            measure = last or self.step % config.validate_every == 0
            if measure:
                validation_loss = self.validation_loss()
            save = last or self.step % config.checkpoint_every == 0
            if save or measure or self.step % config.report_every == 0:
                now = time.monotonic()
                progress = Progress(
                    step=self.step,
                    n_steps=config.n_steps,
                    n_tokens=self.n_tokens,
                    train_loss=own_sum / max(own_count, 1.0),
                    validation_loss=validation_loss if measure else None,
                    learning_rate=learning_rate_at(config, self.step - 1),
                    gradient_norm=norm,
                    tokens_per_s=tokens_since / max(now - since, 1e-9),
                    seconds=self.seconds_before + now - started,
                )
                own_sum, own_count, since, tokens_since = 0.0, 0.0, now, 0
                on_progress(progress)
                if save:
                    checkpoint = save_checkpoint(
                        config.out,
                        self.model,
                        self.prepared.tokenizer,
                        self.optimizer.state_dict(),
                        progress,
                        seed=config.seed,
                        corpus_sha256=self.corpus_sha256,
                        trained_lengths=(config.length, config.long_length),
                    )
        return checkpoint or load_checkpoint(config.out)

    def validation_loss(self) -> float:
        """Mean loss of the assistant's tokens in the validation rows, nats."""
        rows, total, count = self.prepared.validation, 0.0, 0
        with torch.no_grad():
            for start in range(0, len(rows.ids), 16):
                ids, weights = _tensors(rows, np.arange(start, min(start + 16, len(rows.ids))))
                own = weights == 1.0
                total += float(token_losses(self.model, ids)[own].sum())
                count += int(own.sum())
        return total / max(count, 1)

    def _update(self) -> tuple[float, float, int, float]:
        """One step; returns summed loss and count of this process's own tokens, all tokens, gradient norm."""
        config, group = self.config, self.group
        rows, chosen = self._batch()
        total_weight = float(rows.weights[chosen].sum())
        n_tokens = int(np.count_nonzero(rows.weights[chosen]))
        ids, weights = _tensors(rows, chosen[group.rank :: group.size])
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate_at(config, self.step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.autocast):
            losses = self.losses(self.model, ids)  # (B, T)
        # Divided by the weight of the whole batch, so that the sum over processes is the batch's mean.
        ((losses * weights).sum() / total_weight).backward()
        group.add_up([p.grad for p in self.model.parameters() if p.grad is not None])
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        own = weights == 1.0
        return float(losses.detach()[own].sum()), float(own.sum()), n_tokens, float(norm)

    def _batch(self) -> tuple[PackedRows, npt.NDArray[np.int64]]:
        config = self.config
        long = self.step >= config.n_short_steps
        rows, length = (self.prepared.long, config.long_length) if long else (self.prepared.short, config.length)
        count = max(self.group.size, config.batch_tokens // length)
        place = (self.step - (config.n_short_steps if long else 0)) * count
        return rows, self.orders[long].rows(place, count)


def _tensors(rows: PackedRows, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """(B, T + 1) int64 ids and (B, T) float32 weights."""
    return torch.from_numpy(rows.ids[chosen].astype(np.int64)), torch.from_numpy(rows.weights[chosen])


@contextmanager
def _companions(config: TrainConfig, prepared: Prepared) -> Iterator[_Group]:
    """Start the other processes of a training and join their group; this process has rank 0."""
    if config.n_processes == 1:
        yield _Group()
        return
    with TemporaryDirectory(prefix="tui-chat-training-") as scratch:
        arrays: dict[str, Any] = {}
        for name in _ROWS:
            rows: PackedRows = getattr(prepared, name)
            arrays |= {f"{name}_ids": rows.ids, f"{name}_weights": rows.weights}
        np.savez(Path(scratch) / "rows.npz", **arrays)
        prepared.tokenizer.save(str(Path(scratch) / "tokenizer.json"))
        context = multiprocessing.get_context("spawn")
        children = [
            context.Process(target=_companion, args=(rank, config, Path(scratch)), daemon=True)
            for rank in range(1, config.n_processes)
        ]
        for child in children:
            child.start()
        _join_group(0, config.n_processes, Path(scratch))
        try:
            yield _Group(0, config.n_processes)
        finally:
            for child in children:
                child.join(timeout=10)
                child.terminate()
            dist.destroy_process_group()


def _companion(rank: int, config: TrainConfig, scratch: Path) -> None:
    with np.load(scratch / "rows.npz") as arrays:
        rows = {name: PackedRows(arrays[f"{name}_ids"], arrays[f"{name}_weights"]) for name in _ROWS}
    prepared = Prepared(load_tokenizer(scratch / "tokenizer.json"), **rows, n_dialogues=0, n_validation=0, n_leaks=0)
    start = load_checkpoint(config.out) if config.resume else None
    _join_group(rank, config.n_processes, scratch)
    _Loop(config, prepared, _Group(rank, config.n_processes), "", start).run(lambda _: None)
    dist.destroy_process_group()


def _join_group(rank: int, size: int, scratch: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{scratch / 'meeting'}", rank=rank, world_size=size)
