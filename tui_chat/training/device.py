"""Where a training computes, with what numbers, and how much memory there is for it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import torch

from tui_chat.errors import UsageError
from tui_chat.training.config import Compile, Device, Precision

_WORTH_COMPILING = 2e13
"""Floating-point operations of a training above which compiling wins back its half minute on a few cores."""


def choose_device(wish: Device, local_rank: int = 0) -> torch.device:
    """The device to compute on.

    Args:
        wish: What the user asked for.
        local_rank: Number of this process on its machine; each takes a GPU of its own.

    Raises:
        UsageError: There is no such device here.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if wish is Device.CUDA and not n_gpus:
        raise UsageError("there is no CUDA device that PyTorch can use here: use --device cpu")
    if wish is Device.MPS and not has_mps:
        raise UsageError("there is no MPS device that PyTorch can use here: use --device cpu")
    if wish is Device.CUDA or (wish is Device.AUTO and n_gpus):
        if local_rank >= n_gpus:
            raise UsageError(f"{local_rank + 1} processes need as many GPUs and there are {n_gpus}: use fewer")
        return torch.device("cuda", local_rank)
    if wish is Device.MPS or (wish is Device.AUTO and has_mps):
        return torch.device("mps")
    return torch.device("cpu")


def choose_precision(wish: Precision, device: torch.device) -> Precision:
    """The numbers to compute with: bfloat16 by itself only where the device is fast at it."""
    if wish is not Precision.AUTO:
        return wish
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        fast = False
    return Precision.BFLOAT16 if fast else Precision.FLOAT32


def choose_compile(wish: Compile, device: torch.device, n_flops: float) -> bool:
    """Whether to compile.

    Args:
        wish: What the user asked for.
        device: To compute on.
        n_flops: Of the whole training.
    """
    if wish is not Compile.AUTO:
        return wish is Compile.ON
    if device.type == "cpu":
        return n_flops > _WORTH_COMPILING and _has_compiler()
    # A GPU does in a second what takes the cores minutes.
    return device.type == "cuda" and n_flops > 100 * _WORTH_COMPILING


def free_bytes(device: torch.device) -> int:
    """Memory a training could take on `device`; 0 where that cannot be said."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return _free_main_memory()


def _free_main_memory() -> int:
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(re.findall(r"MemAvailable:\s+(\d+) kB", meminfo)[0]) * 1024
    except (OSError, IndexError):
        try:
            # macOS does not say what is free; half of what is there is a guess on the safe side.
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        except (OSError, ValueError):
            return 0
    try:
        # A container may have less than its machine.
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        # Files that were read a while ago count as used, and make room when asked to.
        given_up = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.M)
        return max(0, min(free, limit - used + (int(given_up[1]) if given_up else 0)))
    except (OSError, ValueError):
        return free


def _has_compiler() -> bool:
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ((named,) if named else ("g++", "clang++", "c++")))
