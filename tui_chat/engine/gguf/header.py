"""The parts of a GGUF header, as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tui_chat.engine.gguf.ggml_types import GgmlType


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array in the metadata; long ones and those of text are described, not kept."""

    item_type: str
    """`str`, `u32`, `f32`, ..."""
    length: int
    offset: int
    """Byte in the file where the items begin."""
    size_bytes: int
    """Bytes that the items take."""
    values: tuple[int | float | bool, ...] = ()
    """The items, for short numeric arrays."""


GgufValue = str | int | float | bool | GgufArray
"""What a metadata key can hold."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of the tensor table."""

    name: str
    shape: tuple[int, ...]
    """ggml's order: the fastest running dimension first."""
    type: GgmlType
    offset: int
    """Bytes from the start of the data section."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Everything in front of the weights."""

    path: Path
    size_bytes: int
    version: int
    alignment: int
    data_offset: int
    """Byte in the file where the data section begins."""
    metadata: Mapping[str, GgufValue]
    types: Mapping[str, str]
    """The stored type of each metadata key: `str`, `u32`, `arr`, ..."""
    tensors: tuple[TensorInfo, ...]

    @property
    def architecture(self) -> str:
        """`general.architecture`, or "" where the file has none."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else ""

    @property
    def name(self) -> str:
        """`general.name`, or the file's own name."""
        value = self.metadata.get("general.name")
        return value if isinstance(value, str) and value.strip() else self.path.stem

    @property
    def n_params(self) -> int:
        """Elements in all tensors."""
        total = 0
        for tensor in self.tensors:
            total += tensor.size_bytes // tensor.type.block_bytes * tensor.type.block_elements
        return total

    @property
    def quantization(self) -> str:
        """The storage type that holds the most bytes, such as `Q8_0`; "" without tensors."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.type.name] += tensor.size_bytes
        return sizes.most_common(1)[0][0] if sizes else ""

    def text(self, key: str) -> str | None:
        """The value of `key` if it is text."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """The value of `key` if it is a whole number."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def array(self, key: str) -> GgufArray | None:
        """The value of `key` if it is an array."""
        value = self.metadata.get(key)
        return value if isinstance(value, GgufArray) else None
