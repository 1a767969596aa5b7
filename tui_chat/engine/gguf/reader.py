"""Reads a GGUF header without llama.cpp and without believing it.

Every step is bounded by the size of the file: no count is used before the bytes for it are known to exist, and nothing
is allocated by an untrusted number. What is refused here, llama.cpp's `gguf.cpp` refuses too, in fewer words.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from tui_chat.engine.gguf.ggml_types import GGML_TYPES
from tui_chat.engine.gguf.header import GgufArray, GgufHeader, GgufValue, TensorInfo
from tui_chat.engine.gguf.sniff import describe_foreign
from tui_chat.errors import ModelFileError, ModelNotFoundError

DEFAULT_ALIGNMENT = 32
"""Alignment of the data section where the file names none (`GGUF_DEFAULT_ALIGNMENT`)."""

KEPT_ARRAY_ITEMS = 1024
"""Numeric arrays up to this length are decoded; longer ones (token scores, types) are only described."""

_MAX_ITEMS = 2**30
_MAX_NAME_BYTES = 63
_MAX_DIMS = 4

_SCALARS: dict[int, tuple[str, str, int]] = {
    0: ("u8", "<B", 1),
    1: ("i8", "<b", 1),
    2: ("u16", "<H", 2),
    3: ("i16", "<h", 2),
    4: ("u32", "<I", 4),
    5: ("i32", "<i", 4),
    6: ("f32", "<f", 4),
    7: ("bool", "<?", 1),
    10: ("u64", "<Q", 8),
    11: ("i64", "<q", 8),
    12: ("f64", "<d", 8),
}
_STRING = 8
_ARRAY = 9

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class _Reader:
    """A cursor over the mapped file that refuses to step past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.size = len(data)
        self.pos = 0
        self.path = path

    def fail(self, reason: str) -> NoReturn:
        raise ModelFileError(f"{reason}; the file is damaged, fetch it again", path=self.path)

    def need(self, n_bytes: int, what: str) -> None:
        if n_bytes > self.size - self.pos:
            raise ModelFileError(
                f"the header ({what}) runs past the end of the file after {self.size:,} bytes: "
                "the download was cut short or the file is damaged, fetch it again",
                path=self.path,
            )

    def u32(self, what: str) -> int:
        self.need(4, what)
        value: int = _U32.unpack_from(self.data, self.pos)[0]
        self.pos += 4
        return value

    def u64(self, what: str) -> int:
        self.need(8, what)
        value: int = _U64.unpack_from(self.data, self.pos)[0]
        self.pos += 8
        return value

    def string(self, what: str) -> bytes:
        length = self.u64(what)
        self.need(length, what)
        self.pos += length
        return self.data[self.pos - length : self.pos]

    def name(self, what: str) -> str:
        """A string that llama.cpp will handle as a C string: not empty, valid UTF-8, no NUL."""
        raw = self.string(what)
        if not raw or b"\0" in raw:
            self.fail(f"{what} is empty or holds a zero byte")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not valid text")

    def value(self, kind: int, key: str) -> GgufValue:
        if kind == _STRING:
            return self.string(f"value of {key}").decode(errors="replace")
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            self.fail(f"the key {key} has the unknown type {kind}")
        _, code, width = _SCALARS[kind]
        self.need(width, f"value of {key}")
        value: int | float | bool = struct.unpack_from(code, self.data, self.pos)[0]
        self.pos += width
        return value

    def array(self, key: str) -> GgufArray:
        kind = self.u32(f"type of {key}")
        length = self.u64(f"length of {key}")
        if length > _MAX_ITEMS:
            self.fail(f"the array {key} claims {length:,} items")
        offset = self.pos
        if kind == _STRING:
            self.skip_strings(length, key)
            return GgufArray("str", length, offset, self.pos - offset)
        if kind not in _SCALARS:
            self.fail(f"the array {key} has items of the unknown type {kind}")
        name, code, width = _SCALARS[kind]
        self.need(length * width, f"items of {key}")
        self.pos += length * width
        if length > KEPT_ARRAY_ITEMS:
            return GgufArray(name, length, offset, length * width)
        values = struct.unpack_from(f"<{length}{code[1]}", self.data, offset)
        return GgufArray(name, length, offset, length * width, values)

    def skip_strings(self, length: int, key: str) -> None:
        self.need(length * 8, f"items of {key}")
        data, pos, limit = self.data, self.pos, self.size - 8
        unpack = _U64.unpack_from
        for _ in range(length):
            if pos > limit:
                break
            pos += 8 + unpack(data, pos)[0]
        else:
            if pos <= self.size:
                self.pos = pos
                return
        self.need(self.size, f"items of {key}")


def read_header(path: Path) -> GgufHeader:
    """Read everything in front of the weights and check that the weights are all there.

    Raises:
        ModelNotFoundError: Nothing is at `path`.
        ModelFileError: It is not a whole GGUF file.
    """
    try:
        if path.is_dir():
            raise ModelFileError("this is a directory: name a .gguf file in it", path=path)
        if path.exists() and not path.is_file():
            raise ModelFileError("this is not a regular file", path=path)
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise ModelFileError("the file is empty: fetch it again", path=path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Reader(data, path))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: no such file") from error
    except PermissionError as error:
        raise ModelFileError("you may not read this file: change its permissions (chmod +r)", path=path) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelFileError(f"cannot be read: {reason}", path=path) from error


def read_strings(path: Path, array: GgufArray) -> list[bytes]:
    """The items of a text array found by `read_header` in the same file.

    Raises:
        ModelFileError: The file changed in the meantime or cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(array.offset)
            data = file.read(array.size_bytes)
        unpack, pos = _U64.unpack_from, 0
        items: list[bytes] = []
        for _ in range(array.length):
            end = pos + 8 + unpack(data, pos)[0]
            items.append(data[pos + 8 : end])
            pos = end
        return items
    except (OSError, ValueError, struct.error) as error:
        raise ModelFileError("the file changed while it was read: try again", path=path) from error


def _parse(reader: _Reader) -> GgufHeader:
    path = reader.path
    if reader.data[:4] != b"GGUF":
        raise ModelFileError(describe_foreign(reader.data[:4096], reader.size), path=path)
    reader.pos = 4
    version = reader.u32("version")
    if version and version & 0xFFFF == 0:
        raise ModelFileError(
            "a big-endian GGUF file, made for another kind of machine: fetch the little-endian version", path=path
        )
    if version not in (2, 3):
        raise ModelFileError(f"GGUF version {version} cannot be read: fetch a file of version 2 or 3", path=path)
    n_tensors = reader.u64("tensor count")
    n_keys = reader.u64("key count")
    # The smallest key takes 14 bytes (8 + 1 + 4 + 1), the smallest tensor entry 33 (8 + 1 + 4 + 8 + 4 + 8).
    if n_keys * 14 > reader.size or n_tensors * 33 > reader.size:
        reader.fail(f"the header claims {n_keys:,} keys and {n_tensors:,} tensors, more than the file can hold")

    metadata: dict[str, GgufValue] = {}
    types: dict[str, str] = {}
    for index in range(n_keys):
        key = reader.name(f"metadata key {index + 1} of {n_keys}")
        if key in metadata:
            reader.fail(f"the key {key} stands twice in the header")
        kind = reader.u32(f"type of {key}")
        metadata[key] = reader.value(kind, key)
        types[key] = "arr" if kind == _ARRAY else "str" if kind == _STRING else _SCALARS[kind][0]

    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if types.get("general.alignment", "u32") != "u32" or not isinstance(alignment, int):
        reader.fail("general.alignment is not a 32-bit number")
    if alignment == 0 or alignment & (alignment - 1):
        reader.fail(f"general.alignment is {alignment}, not a power of two")

    tensors = tuple(_tensor(reader, index, n_tensors) for index in range(n_tensors))
    if len({tensor.name for tensor in tensors}) != n_tensors:
        reader.fail("a tensor stands twice in the header")
    data_offset = reader.pos + -reader.pos % alignment if tensors else reader.pos
    _check_data(reader, tensors, data_offset, alignment)
    return GgufHeader(
        path=path,
        size_bytes=reader.size,
        version=version,
        alignment=alignment,
        data_offset=data_offset,
        metadata=MappingProxyType(metadata),
        types=MappingProxyType(types),
        tensors=tensors,
    )


def _tensor(reader: _Reader, index: int, n_tensors: int) -> TensorInfo:
    name = reader.name(f"name of tensor {index + 1} of {n_tensors}")
    if len(name.encode()) > _MAX_NAME_BYTES:
        reader.fail(f"the name of tensor {index + 1} is longer than {_MAX_NAME_BYTES} bytes")
    n_dims = reader.u32(f"shape of {name}")
    if not 1 <= n_dims <= _MAX_DIMS:
        reader.fail(f"the tensor {name} has {n_dims} dimensions")
    shape = tuple(reader.u64(f"shape of {name}") for _ in range(n_dims))
    kind = reader.u32(f"type of {name}")
    offset = reader.u64(f"offset of {name}")
    tensor_type = GGML_TYPES.get(kind)
    if tensor_type is None:
        reader.fail(f"the tensor {name} has the unknown type {kind}")
    n_elements = 1
    for size in shape:
        n_elements *= size
    if n_elements == 0 or n_elements >= 2**62:
        reader.fail(f"the tensor {name} has the shape {shape}")
    if shape[0] % tensor_type.block_elements:
        reader.fail(
            f"rows of the tensor {name} hold {shape[0]} elements, "
            f"not a multiple of the {tensor_type.block_elements} in a {tensor_type.name} block"
        )
    return TensorInfo(
        name, shape, tensor_type, offset, n_elements // tensor_type.block_elements * tensor_type.block_bytes
    )


def _check_data(reader: _Reader, tensors: tuple[TensorInfo, ...], data_offset: int, alignment: int) -> None:
    expected = 0
    end = data_offset
    for tensor in tensors:
        if tensor.offset != expected:
            reader.fail(f"the tensor {tensor.name} begins at byte {tensor.offset:,} of the data, not at {expected:,}")
        end = data_offset + tensor.offset + tensor.size_bytes
        expected += tensor.size_bytes + -tensor.size_bytes % alignment
    if end > reader.size:
        raise ModelFileError(
            f"the weights are cut short: the file has {reader.size:,} bytes, its header asks for {end:,}, "
            f"{end - reader.size:,} are missing; fetch it again",
            path=reader.path,
        )
