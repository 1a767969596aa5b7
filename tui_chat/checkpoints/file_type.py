"""How the matrices of an exported model are stored; light, so that the command line can list the choices."""

from __future__ import annotations

from enum import StrEnum


class FileType(StrEnum):
    """Storage of the matrices in a GGUF file. Norms, biases and tables of positions are float32 in each."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"
    """8-bit whole numbers in groups of 32 with one 16-bit scale each."""
    Q4_K_M = "q4_k_m"
    """About 4.8 bits a weight, in groups of 256; llama.cpp makes it from an F32 file (`engine.quantize`)."""
