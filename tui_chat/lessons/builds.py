"""How llama.cpp was built and how else it could be: backends, CPU features, and the command that builds it anew."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tui_chat
from tui_chat.language import N_


@dataclass(frozen=True, slots=True)
class Feature:
    """Something the code for the CPU can be compiled to use."""

    name: str
    """As llama.cpp names it (`ggml_backend_cpu_get_features`)."""
    built: bool
    in_cpu: bool | None
    """None where the system does not tell, or where it is no feature of a CPU."""
    meaning: str
    """To be translated; "" for what is not known here."""


@dataclass(frozen=True, slots=True)
class Build:
    """A way to build llama.cpp that puts the work elsewhere."""

    backend: str
    """As the library's name has it: `cuda`, `metal`, ..."""
    name: str
    """To be translated."""
    cmake_args: str
    gives: str
    """To be translated."""
    driver: str | None
    """What it needs, in the words of `hardware.graphics_drivers`; None where any CPU will do."""


BUILDS: tuple[Build, ...] = (
    Build("cuda", N_("NVIDIA GPU"), "-DGGML_CUDA=on", N_("layers on the GPU, through CUDA"), "nvidia"),
    Build("metal", N_("Apple GPU"), "-DGGML_METAL=on", N_("layers on the GPU, through Metal"), "apple"),
    Build("hip", N_("AMD GPU"), "-DGGML_HIP=on", N_("layers on the GPU, through ROCm"), "amd"),
    Build("vulkan", N_("any GPU"), "-DGGML_VULKAN=on", N_("layers on the GPU, through Vulkan"), "any"),
    Build(
        "blas",
        N_("OpenBLAS"),
        "-DGGML_BLAS=on -DGGML_BLAS_VENDOR=OpenBLAS",
        N_("prompts multiplied by a library made for matrices; answers come as fast as before"),
        None,
    ),
)
"""The backends the program is known to run with, and what to build them with."""

NATIVE = Build(
    "native", N_("this CPU"), "-DGGML_NATIVE=on", N_("code for every feature that the CPU at hand has"), None
)
"""What helps where the CPU has more than the build uses."""

_X86: Mapping[str, tuple[str | None, str]] = {
    "SSE3": ("pni", N_("4 float32 at once (128 bits)")),
    "SSSE3": ("ssse3", N_("16 int8 at once")),
    "AVX": ("avx", N_("8 float32 at once (256 bits)")),
    "AVX2": ("avx2", N_("32 int8 at once")),
    "FMA": ("fma", N_("multiplies and adds in one step")),
    "F16C": ("f16c", N_("reads and writes float16")),
    "BMI2": ("bmi2", N_("picks weights of few bits apart")),
    "AVX_VNNI": ("avx_vnni", N_("int8 products, summed in one step")),
    "AVX512": ("avx512f", N_("16 float32 at once (512 bits)")),
    "AVX512_VBMI": ("avx512_vbmi", N_("shuffles 64 bytes at once")),
    "AVX512_VNNI": ("avx512_vnni", N_("int8 products, 64 at once, summed in one step")),
    "AVX512_BF16": ("avx512_bf16", N_("products of bfloat16")),
    "AMX_INT8": ("amx_int8", N_("matrix unit: products of whole tiles of int8")),
}
_ARM: Mapping[str, tuple[str | None, str]] = {
    "NEON": ("asimd", N_("4 float32 at once (128 bits)")),
    "ARM_FMA": (None, N_("multiplies and adds in one step")),
    "FP16_VA": ("asimdhp", N_("computes in float16")),
    "DOTPROD": ("asimddp", N_("int8 products, summed in one step")),
    "MATMUL_INT8": ("i8mm", N_("matrix instructions: products of small tiles of int8")),
    "SVE": ("sve", N_("vectors as wide as the CPU has them")),
    "SME": ("sme", N_("matrix unit: products of whole tiles")),
}
_ANY: Mapping[str, tuple[str | None, str]] = {
    "LLAMAFILE": (None, N_("matrix products by blocks (tinyBLAS)")),
    "REPACK": (None, N_("multiplies several rows at once")),
    "OPENMP": (None, N_("shares work among threads")),
    "ACCELERATE": (None, N_("matrix products by Apple's library")),
    "KLEIDIAI": (None, N_("matrix products by Arm's library")),
}


def features_by_backend(system_info: str) -> dict[str, dict[str, str]]:
    """What each backend was compiled with: backend to feature to value.

    Args:
        system_info: `llama_print_system_info`, such as `CUDA : ARCHS = 900 | CPU : AVX2 = 1 | FMA = 1 |`.
    """
    found: dict[str, dict[str, str]] = {}
    backend = ""
    for part in system_info.split("|"):
        head, colon, rest = part.partition(" : ")
        backend = head.strip() if colon else backend
        name, equals, value = (rest if colon else head).partition("=")
        if equals and value.strip() != "0":
            found.setdefault(backend, {})[name.strip()] = value.strip()
    return found


def cpu_features(built: Sequence[str], flags: frozenset[str] | None) -> Iterator[Feature]:
    """Every feature that is worth a word for this kind of CPU, and what else the build names.

    Args:
        built: Names that llama.cpp gives.
        flags: `hardware.cpu_flags`.
    """
    has = {*built, *(flags or ())}
    family = _ARM if has & {"NEON", "asimd"} else _X86 if has & {"SSE3", "pni"} else {}
    known = {**family, **{name: _ANY[name] for name in _ANY if name in built}}
    for name, (flag, meaning) in known.items():
        yield Feature(name, name in built, None if flags is None or flag is None else flag in flags, meaning)
    for name in built:
        if name not in known:
            yield Feature(name, True, None, "")


def backends_in(library: Path) -> frozenset[str]:
    """The backends a build has, by the libraries it came as (`libggml-cuda.so`)."""
    found = (re.search(r"ggml-([a-z]+)", path.name) for path in library.glob("*ggml-*"))
    return frozenset(match[1] for match in found if match) - {"base"}


def build_command(cmake_args: str, version: str) -> str:
    """What to type to build llama.cpp anew for the environment that runs this program.

    Args:
        cmake_args: How.
        version: Of llama-cpp-python, which stays.
    """
    checkout = Path(tui_chat.__file__).resolve().parents[1]
    if (checkout / "Makefile").is_file() and Path(sys.prefix).resolve() == checkout / ".venv":
        return f'CMAKE_ARGS="{cmake_args}" make chat'
    pip = f"{shlex.quote(sys.executable)} -m pip install --no-cache-dir --force-reinstall --no-deps"
    return f'CMAKE_ARGS="{cmake_args}" {pip} llama-cpp-python=={version}'
