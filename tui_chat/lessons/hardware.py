"""What this machine has and this process uses, as far as the operating system tells; None where it does not."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes of this process in memory."""

    resident: int | None
    own: int | None
    """Of those, what no file holds."""
    mapped: int | None
    """Of those, what can be read from a file again, such as weights that are mapped."""
    peak: int | None


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes of the machine's own memory; a GPU's is beside it."""

    total: int | None
    available: int | None
    """What programs can have without anything being swapped out."""


def process_memory() -> ProcessMemory:
    """What this process takes now."""
    status = _kilobytes(Path("/proc/self/status"))
    peak = status.get("VmHWM")
    if peak is None and os.name == "posix":
        import resource

        # Linux and the BSDs count in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return ProcessMemory(status.get("VmRSS"), status.get("RssAnon"), status.get("RssFile"), peak)


def machine_memory() -> MachineMemory:
    """What this machine has."""
    found = _kilobytes(Path("/proc/meminfo"))
    total = found.get("MemTotal")
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return MachineMemory(total, found.get("MemAvailable"))


def cpu_flags() -> frozenset[str] | None:
    """The features the CPU has, in Linux' words (`avx2`, `asimddp`, ...)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(lines[0].split()) if lines else None


def graphics_drivers() -> frozenset[str]:
    """The kinds of GPU whose driver is at work here: `nvidia`, `amd`, `apple`, and `any` where there is some GPU."""
    found = {
        "nvidia": Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None,
        "amd": Path("/dev/kfd").exists(),
        "apple": sys.platform == "darwin" and platform.machine() == "arm64",
        "any": any(Path("/dev/dri").glob("renderD*")),
    }
    kinds = {kind for kind, present in found.items() if present}
    return frozenset(kinds | {"any"} if kinds else kinds)


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines `Name: 123 kB` of a file of Linux' /proc, in bytes; empty elsewhere."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
