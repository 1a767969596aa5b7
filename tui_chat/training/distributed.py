"""Several processes that share a training: each takes a part of every batch, and gradients are added up.

Either this program starts them (`processes`), or `torchrun` did and says in the environment who is who.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from tui_chat.errors import TuiChatError, UsageError
from tui_chat.training.estimate import is_out_of_memory

_PATIENCE = timedelta(hours=2)
"""Longest wait for another process, which may be validating; one that died is noticed at once."""

_JOINING = timedelta(minutes=2)
"""Longest wait for a process of this machine that is there already to join."""

_JOINING_OF_MACHINES = timedelta(minutes=30)
"""The same under `torchrun`, whose other machines may come late."""

_LOOK_EVERY_S = 0.05
"""While the others have not come yet."""


class OthersEndedError(TuiChatError):
    """Another process of the training ended; whoever knows the run says what is kept of it."""


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that share a training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of the process on its machine."""
    members: dist.ProcessGroup | None = None
    """How PyTorch knows those that joined."""

    def share(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's part of the numbers `rows` (n,)."""
        return rows[self.rank :: self.size]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _others_may_end():
            dist.all_reduce(flat, group=self.members)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def from_first(self, value: Any) -> Any:
        """`value` as the process of rank 0 has it."""
        if self.size == 1:
            return value
        box = [value]
        with _others_may_end():
            dist.broadcast_object_list(box, src=0, group=self.members)
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
def joined(
    group: Group, device: torch.device, meeting: Path | None = None, look: Callable[[], None] = lambda: None
) -> Iterator[Group]:
    """Join the others; gives the group to work with.

    Args:
        group: Who this process is.
        device: Its own.
        meeting: File the processes find each other by; None for the address `torchrun` gives.
        look: Called again and again while the others have not come to the meeting; raises what ends the wait.
    """
    # Every process of a training on one machine is expected to end first at some time.
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    store = None if meeting is None else _met(group, meeting, look)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method="env://" if store is None else None,
        store=store,
        rank=group.rank,
        world_size=group.size,
        timeout=_JOINING_OF_MACHINES if store is None else _JOINING,
    )
    try:
        # All are here, and from now on each may have much to do before it speaks again.
        yield replace(group, members=dist.new_group(timeout=_PATIENCE))
    finally:
        dist.destroy_process_group()


def _met(group: Group, meeting: Path, look: Callable[[], None]) -> dist.Store:
    """Wait until all have come: PyTorch would wait deaf to signals, and for processes that have died too."""
    store = dist.FileStore(str(meeting), group.size)
    store.set_timeout(_JOINING)
    store.set(f"here {group.rank}", "")
    while not store.check([f"here {rank}" for rank in range(group.size)]):
        look()
        time.sleep(_LOOK_EVERY_S)
    return store


@contextmanager
def _others_may_end() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0][:120]
        raise OthersEndedError(f"another process of the training ended ({reason})") from error


@contextmanager
def companions(size: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[Callable[[], None]]:
    """Start the processes of rank 1 and up: each runs `work(rank, *arguments)`. All have ended afterwards.

    Gives what raises OthersEndedError as soon as one of them has ended.
    """
    context = multiprocessing.get_context("spawn")
    children: list[SpawnProcess] = []

    def look() -> None:
        for rank, child in enumerate(children, 1):
            if child.exitcode is not None:
                raise OthersEndedError(
                    f"process {rank} of the training ended before its first step (exit status {child.exitcode}): "
                    "try fewer --processes"
                )

    try:
        with _deaf_to_ctrl_c():
            for rank in range(1, size):
                child = context.Process(target=_companion, args=(work, rank, *arguments), daemon=True)
                child.start()
                children.append(child)
        yield look
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


def leader_lives() -> None:
    """Raise OthersEndedError in a companion whose first process has ended."""
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        raise OthersEndedError("the first process of the training ended")


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that start meanwhile never notice Ctrl+C, which reaches them all: the first one says when to stop."""
    # It has a mask of its own, and would take this one away when it starts with the first process.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _companion(work: Callable[..., None], rank: int, *arguments: Any) -> None:
    with contextlib.suppress(TuiChatError):
        work(rank, *arguments)
