"""Several processes that share a training: each takes a part of every batch, and gradients are added up.

Either this program starts them (`processes`), or `torchrun` did and says in the environment who is who.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from tui_chat.errors import TuiChatError, UsageError

_PATIENCE = timedelta(hours=2)
"""Longest wait for another process, which may be validating; one that died is noticed at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that share a training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of the process on its machine."""

    def share(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's part of the numbers `rows` (n,)."""
        return rows[self.rank :: self.size]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _others_may_end():
            dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def from_first(self, value: Any) -> Any:
        """`value` as the process of rank 0 has it."""
        if self.size == 1:
            return value
        box = [value]
        with _others_may_end():
            dist.broadcast_object_list(box, src=0)
        return box[0]


def launched() -> Group | None:
    """What `torchrun` says of this process; None where it was not started by it.

    Raises:
        UsageError: The environment says only half of it.
    """
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return None
        return Group(
            int(os.environ["RANK"]),
            int(os.environ["WORLD_SIZE"]),
            int(os.environ.get("LOCAL_RANK", os.environ["RANK"])),
        )
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"WORLD_SIZE is set but RANK is not a number ({error}): start with torchrun, or unset it"
        ) from error


@contextmanager
def joined(group: Group, device: torch.device, meeting: Path | None = None) -> Iterator[Group]:
    """Join the others.

    Args:
        group: Who this process is.
        device: Its own.
        meeting: File the processes find each other by; None for the address `torchrun` gives.
    """
    # Every process of a training on one machine is expected to end first at some time.
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method="env://" if meeting is None else f"file://{meeting}",
        rank=group.rank,
        world_size=group.size,
        timeout=_PATIENCE,
    )
    try:
        yield group
    finally:
        dist.destroy_process_group()


@contextmanager
def _others_may_end() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TuiChatError(
            f"another process of the training ended ({str(error).splitlines()[0][:120]}): go on with --resume"
        ) from error


@contextmanager
def companions(size: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[None]:
    """Start the processes of rank 1 and up: each runs `work(rank, *arguments)`. All have ended afterwards."""
    context = multiprocessing.get_context("spawn")
    children: list[BaseProcess] = [
        context.Process(target=_companion, args=(work, rank, *arguments), daemon=True) for rank in range(1, size)
    ]
    for child in children:
        child.start()
    try:
        yield
    except BaseException:
        for child in children:
            child.terminate()
        raise
    finally:
        for child in children:
            child.join(timeout=10)
            if child.exitcode is None:
                child.kill()
                child.join()


def _companion(work: Callable[..., None], rank: int, *arguments: Any) -> None:
    # The first process says when to stop; Ctrl+C reaches them all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(TuiChatError):
        work(rank, *arguments)
