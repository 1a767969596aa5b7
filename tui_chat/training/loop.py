"""The training loop: one step after another, with what is reported, validated, sampled and saved in between.

Every figure of a step follows from the seed and the step's number, so a training that was stopped goes on from its
checkpoint with the same losses as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)

from tui_chat.checkpoints.facts import CheckpointFacts, Progress
from tui_chat.errors import CancelledError, TuiChatError
from tui_chat.training import events
from tui_chat.training.checkpoint import load_optimizer, load_weights, save, what_is_kept
from tui_chat.training.config import Precision, TrainConfig
from tui_chat.training.continuation import continue_texts
from tui_chat.training.dataset import RowOrder, Rows
from tui_chat.training.distributed import Group
from tui_chat.training.estimate import Portions, is_out_of_memory
from tui_chat.training.models import Model
from tui_chat.training.optimizer import build_optimizer, learning_rate_at

_VALIDATION_ROWS = 16
"""In one pass, at most."""

_DROPOUT_STRIDE = 1_000_003
"""Between the dropout seeds of two trainings."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training does, decided before its first step."""

    n_steps: int
    device: torch.device
    precision: Precision
    compiled: bool
    portions: Portions


@dataclass(frozen=True, slots=True)
class Watch:
    """What the first process needs beside the rows: to measure, show and save."""

    run: Path
    tokenizer: Tokenizer
    validation: Rows | None
    prompts: tuple[str, ...]
    """As the model reads them."""
    shown: tuple[str, ...]
    """As people see them."""
    facts: CheckpointFacts
    """What every checkpoint of the training has in common."""
    tell: Callable[[events.Event], None]
    check: Callable[[], None] = lambda: None
    """Raises StorageError where the run's folder is no longer this training's to write to."""


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What came of one step, over all processes."""

    loss_sum: float
    n_own: float
    """Tokens the model is to write itself; `loss_sum` is over them."""
    n_tokens: int
    gradient_norm: float
    stop: bool
    """Whether the user asked any of the processes to stop."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return math.isfinite(self.loss_sum) and math.isfinite(self.gradient_norm)


def token_losses(model: Model, ids: Tensor) -> Tensor:
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


class Loop:
    """One process's part of a training.

    Args:
        config: How.
        plan: What was decided.
        model: With its first weights.
        training: Rows, one set for each row length.
        group: Who this process is.
        start: Checkpoint to go on from.
        stop_asked: Whether the user wants the training to end after the present step.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        model: Model,
        training: tuple[Rows, ...],
        group: Group,
        start: CheckpointFacts | None,
        stop_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config, self.plan, self.training, self.group = config, plan, training, group
        self.stop_asked = stop_asked
        self.step = self.n_tokens = 0
        self.seconds_before = 0.0
        if start is not None:
            load_weights(model, start)
        self.model = model.to(plan.device).train()
        self.optimizer = build_optimizer(self.model, config, group.rank, group.size, group.add_up)
        if start is not None:
            self.optimizer.load_state_dict(load_optimizer(start))
            self.step, self.n_tokens = start.progress.step, start.progress.n_tokens
            self.seconds_before = start.progress.seconds
        self.orders = tuple(RowOrder(rows.n_rows, config.seed + i) for i, rows in enumerate(training))
        self.losses: Callable[[Model, Tensor], Tensor] = (
            torch.compile(token_losses, dynamic=False) if plan.compiled else token_losses
        )
        self.compile_problem = ""
        """Why the model was not compiled although it should have been."""

    def follow(self) -> bool:
        """Do all steps as one of the other processes, which neither measures nor saves.

        Returns:
            Whether the last step was done.
        """
        while self.step < self.plan.n_steps:
            figures = self.update()
            if figures.stop or not figures.is_finite:
                break
        return self.step == self.plan.n_steps

    def lead(self, watch: Watch) -> CheckpointFacts:
        """Do all steps as the first process.

        Returns:
            The last checkpoint.

        Raises:
            CancelledError: The user stopped it; the step was finished and saved.
            StorageError: A checkpoint could not be written.
            TuiChatError: The loss became NaN, or another process ended.
        """
        config, n_steps, started = self.config, self.plan.n_steps, time.monotonic()
        loss_sum, count, since, tokens_since = 0.0, 0.0, started, 0
        while True:
            figures = self.update()
            self._check(figures, watch.run)
            if self.compile_problem:
                watch.tell(
                    events.StageBegan(events.TRAINING, f"not compiled ({self.compile_problem}); going on without")
                )
                self.compile_problem = ""
            loss_sum, count = loss_sum + figures.loss_sum, count + figures.n_own
            tokens_since += figures.n_tokens
            last = self.step == n_steps
            saves = last or figures.stop or self.step % config.checkpoint_every == 0
            measures = saves or self.step % config.validate_every == 0
            progress: Progress | None = None
            if measures or self.step % config.report_every == 0:
                now = time.monotonic()
                progress = Progress(
                    step=self.step,
                    n_steps=n_steps,
                    n_tokens=self.n_tokens,
                    train_loss=loss_sum / max(count, 1.0),
                    validation_loss=self.validation_loss(watch.validation) if measures else None,
                    learning_rate=learning_rate_at(config, self.step - 1, n_steps),
                    gradient_norm=figures.gradient_norm,
                    tokens_per_s=tokens_since / max(now - since, 1e-9),
                    seconds=self.seconds_before + time.monotonic() - started,
                )
                loss_sum, count, tokens_since = 0.0, 0.0, 0
                watch.tell(events.Progressed(progress))
            facts = self._save(watch, progress) if saves and progress is not None else None
            if self.step % config.sample_every == 0 and not last and not figures.stop:
                self.sample(watch)
            if progress is not None:
                since = time.monotonic()
            if facts is not None and last:
                watch.tell(events.StageBegan(events.GENERATION, "what the model writes now, by its likeliest tokens"))
                self.sample(watch)
                watch.tell(events.Finished(facts))
                return facts
            if figures.stop:
                raise CancelledError(f"stopped at step {self.step}; its checkpoint is saved: go on with --resume")

    def update(self) -> StepFigures:
        """Do one step: all passes, one change of the weights."""
        config, plan = self.config, self.plan
        rows, chosen = self._chosen()
        ids, weights = rows.rows(chosen)
        total_weight, n_tokens = float(weights.sum()), int(np.count_nonzero(weights))
        mine = self.group.share(np.arange(len(chosen), dtype=np.int64))
        sums = torch.zeros(3, device=plan.device)
        if config.dropout:
            torch.manual_seed((config.seed * _DROPOUT_STRIDE + self.step) * self.group.size + self.group.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(config, self.step, plan.n_steps)
        for part in _parts(mine, plan.portions.passes):
            part_ids = torch.from_numpy(ids[part]).to(plan.device)
            part_weights = torch.from_numpy(weights[part]).to(plan.device)
            losses = self._losses(part_ids)  # (B, T)
            # Divided by the weight of the whole step, so that the sum over passes and processes is its mean.
            ((losses * part_weights).sum() / max(total_weight, 1e-9)).backward()
            own = part_weights >= 1.0
            sums[0] += losses.detach()[own].sum()
            sums[1] += own.sum()
        sums[2] = float(self.stop_asked())
        # One sum for all: the figures and the wish to stop travel with the gradients.
        self.group.add_up([*(p.grad for p in self.model.parameters() if p.grad is not None), sums])
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm))
        loss_sum, n_own, stop = sums.tolist()
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.n_tokens += n_tokens
        return StepFigures(loss_sum, n_own, n_tokens, norm, stop > 0)

    @torch.no_grad()
    def validation_loss(self, rows: Rows | None) -> float | None:
        """Mean loss of the model's own tokens in the validation rows, nats; None where there are none."""
        if rows is None:
            return None
        n_rows = min(rows.n_rows, self.config.validation_rows or rows.n_rows)
        most = max(1, min(_VALIDATION_ROWS, self.plan.portions.rows_per_pass * self.config.length // rows.length))
        total, count = 0.0, 0
        self.model.eval()
        for start in range(0, n_rows, most):
            ids, weights = rows.rows(np.arange(start, min(start + most, n_rows)))
            own = torch.from_numpy(weights >= 1.0)
            losses = token_losses(self.model, torch.from_numpy(ids).to(self.plan.device)).cpu()
            total += float(losses[own].sum())
            count += int(own.sum())
        self.model.train()
        return total / count if count else None

    def sample(self, watch: Watch) -> None:
        """Let the model continue the fixed prompts."""
        written = continue_texts(self.model, watch.tokenizer, watch.prompts, self.config.sample_tokens)
        for shown, continuation in zip(watch.shown, written, strict=True):
            watch.tell(events.Sampled(self.step, shown, continuation.text))

    def _chosen(self) -> tuple[Rows, npt.NDArray[np.int64]]:
        """The rows of this step, the same in every process."""
        config, n_steps = self.config, self.plan.n_steps
        n_short = n_steps - round(n_steps * config.long_share) if len(self.training) > 1 else n_steps
        part = int(self.step >= n_short)
        rows = self.training[part]
        count = max(self.group.size, config.tokens_per_step // rows.length)
        place = (self.step - (n_short if part else 0)) * count
        return rows, self.orders[part].rows(place, count)

    def _losses(self, ids: Tensor) -> Tensor:
        plan = self.plan
        with torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.precision is Precision.BFLOAT16):
            try:
                return self.losses(self.model, ids)
            except RuntimeError as error:
                # What fails only when compiled is the compiler's doing (it may be missing, or too old).
                if self.losses is token_losses or is_out_of_memory(error):
                    raise
                self.losses = token_losses
                self.compile_problem = str(error).strip().splitlines()[0][:200]
                return token_losses(self.model, ids)

    def _check(self, figures: StepFigures, run: Path) -> None:
        if not figures.is_finite:
            what = "gradient" if math.isfinite(figures.loss_sum) else "loss"
            raise TuiChatError(f"the {what} is not a number at step {self.step}: try a lower --lr; {what_is_kept(run)}")

    def _save(self, watch: Watch, progress: Progress) -> CheckpointFacts:
        created = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        facts = replace(watch.facts, progress=progress, created=created)
        watch.check()
        facts = save(watch.run, self.model, watch.tokenizer, self.optimizer.state_dict(), facts)
        loss = progress.validation_loss
        watch.tell(events.Saved(facts, best=loss is not None and loss == facts.best_validation_loss))
        return facts


def _parts(rows: npt.NDArray[np.int64], passes: int) -> Iterator[npt.NDArray[np.int64]]:
    for part in np.array_split(rows, passes):
        if len(part):
            yield part
