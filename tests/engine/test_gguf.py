"""The GGUF reader: what it reads, what it refuses and in which words, and that nothing else ever comes out of it."""

from __future__ import annotations

import functools
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine import llama_child
from tests.engine.tiny_gguf import byte_tokens, vocabulary, write_tiny
from tui_chat.engine.gguf import read_header, read_strings, validate
from tui_chat.engine.gguf.ggml_types import GGML_TYPES
from tui_chat.errors import ModelError, ModelFileError, ModelNotFoundError
from tui_chat.models.resolve import builtin_path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def refused(path: Path) -> str:
    """The words `validate` refuses `path` with, without the path."""
    with pytest.raises(ModelFileError) as caught:
        validate(path)
    assert str(path.parent) in str(caught.value)
    return str(caught.value).partition(": ")[2]


def test_header_agrees_with_the_gguf_package(tiny: Path) -> None:
    header = read_header(tiny)
    reader = gguf.GGUFReader(tiny)
    assert header.version == 3
    assert header.data_offset == reader.data_offset
    assert header.alignment == reader.alignment
    assert set(header.metadata) == {name for name in reader.fields if not name.startswith("GGUF.")}
    for key, value in header.metadata.items():
        if isinstance(value, str | int | float):
            assert reader.fields[key].contents() == value
    assert [tensor.name for tensor in header.tensors] == [tensor.name for tensor in reader.tensors]
    for ours, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert ours.shape == tuple(int(size) for size in theirs.shape)
        assert ours.size_bytes == theirs.n_bytes
        assert header.data_offset + ours.offset == theirs.data_offset
    assert header.n_params == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.quantization == "F32"
    assert (header.architecture, header.name) == ("qwen3", "tiny")


def test_text_arrays_are_found_again(tiny: Path) -> None:
    header = validate(tiny)
    tokens = header.array("tokenizer.ggml.tokens")
    assert tokens is not None
    assert [token.decode() for token in read_strings(tiny, tokens)] == vocabulary()
    bos = header.integer("tokenizer.ggml.bos_token_id")
    assert bos == len(vocabulary()) - 3


def test_short_number_arrays_are_decoded(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.gguf", extra={"some.numbers": [1, 2, 3], "some.floats": [0.5] * 2000})
    header = read_header(path)
    numbers, floats = header.array("some.numbers"), header.array("some.floats")
    assert numbers is not None and numbers.values == (1, 2, 3)
    assert floats is not None and floats.values == () and floats.length == 2000


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    for number, (elements, size) in gguf.GGML_QUANT_SIZES.items():
        if number.name == "Q8_1":  # the package still has the struct's older layout
            continue
        ours = GGML_TYPES[int(number)]
        assert (ours.name, ours.block_elements, ours.block_bytes) == (number.name, elements, size)


@pytest.mark.skipif(not builtin_path().exists(), reason="the built-in model is not there")
def test_builtin_model_is_valid() -> None:
    header = validate(builtin_path())
    assert header.tensors and header.text("tokenizer.chat_template")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        validate(tmp_path / "none.gguf")


def test_directory(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path)


def test_special_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")


def test_unreadable_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(tiny))

    monkeypatch.setattr(Path, "open", refuse)
    assert "chmod" in refused(tiny)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"\n <HTML>", "web page"),
        (b"PK\x03\x04" + bytes(60), "PyTorch"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"tjgg" + bytes(40), "before GGUF"),
        (b"ggml" + bytes(40), "before GGUF"),
        (struct.pack("<Q", 40) + b'{"__metadata__": {}}' + bytes(30), "safetensors"),
        (b'{"error": "Repository not found"}', "Repository not found"),
        (b'{"architectures": ["Qwen3ForCausalLM"]}', "JSON"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (bytes(4096), "zero bytes"),
        (b"hello there\n", "text file"),
        (b"\xde\xad\xbe\xef" * 9, "de ad be ef"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(16), "version 1"),
        (b"GGUF" + struct.pack("<I", 9) + bytes(16), "version 9"),
        (b"GGUF\x03", "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "more than the file can hold"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**63), "more than the file can hold"),
    ],
)
def test_what_is_not_a_model_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert words in refused(path)


def test_truncated_weights_say_how_much_is_missing(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:-1000])
    words = refused(path)
    assert "1,000 are missing" in words or "996" in words  # the file may end in padding
    header_end = read_header(tiny).data_offset
    path.write_bytes(whole[:header_end])
    assert "cut short" in refused(path)


def test_every_truncation_of_the_header_is_refused(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in range(1, read_header(tiny).data_offset, 37):
        path.write_bytes(whole[:length])
        assert refused(path)


def write_split(directory: Path, count: int) -> list[Path]:
    """A "split" model: the parts are told apart by their metadata alone."""
    paths = []
    for number in range(count):
        path = directory / f"m-{number + 1:05d}-of-{count:05d}.gguf"
        extra: dict[str, object] = {"split.no": number, "split.count": count, "split.tensors.count": 13}
        write_tiny(path, extra=extra, tensors=number == 0)
        paths.append(path)
    return paths


def test_split_model(tmp_path: Path) -> None:
    parts = write_split(tmp_path, 3)
    assert validate(parts[0]).path == parts[0]
    assert f"load {parts[0].name}" in refused(parts[1])
    parts[2].unlink()
    assert f"{parts[2].name} is not beside it" in refused(parts[0])
    parts[1].unlink()
    assert f"{parts[1].name} and 1 more" in refused(parts[0])
    alone = tmp_path / "renamed.gguf"
    parts[0].rename(alone)
    assert "renamed" in refused(alone)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tensors": False}, "vocabulary-only"),
        ({"tokenizer": False}, "no tokenizer"),
        ({"extra": {"general.type": "adapter"}}, "LoRA"),
        ({"extra": {"general.architecture": "clip"}}, "vision"),
        ({"extra": {"general.architecture": "nomic-bert"}}, "embedding model"),
        ({"extra": {"general.alignment": 8}}, "multiple of 32"),
        ({"extra": {"qwen3.block_count": 0}}, "block_count is 0"),
        ({"extra": {"qwen3.block_count": 513}}, "block_count is 513"),
        ({"extra": {"qwen3.block_count": "one"}}, "stored as str"),
        ({"extra": {"qwen3.attention.head_count": 3}}, "cannot share"),
        ({"extra": {"qwen3.rope.dimension_count": 16}}, "needs them equal"),
        ({"architecture": "gemma3", "extra": {"gemma3.rope.dimension_count": 0}}, "rope.dimension_count is 0"),
        ({"architecture": "gemma3", "extra": {"gemma3.rope.dimension_count": 33}}, "rope.dimension_count is 33"),
        ({"extra": {"qwen3.rope.scaling.type": "cubic"}}, "does not know"),
        ({"extra": {"qwen3.expert_used_count": 2}}, "there are none"),
        ({"extra": {"qwen3.expert_count": 4}}, "0 of 4 experts"),
        ({"extra": {"qwen3.attention.layer_norm_rms_epsilon": float("nan")}}, "is nan"),
        ({"extra": {"tokenizer.ggml.bos_token_id": 9999}}, "there are 261 tokens"),
        ({"extra": {"tokenizer.ggml.token_type": [1, 1]}}, "does not fit"),
        ({"extra": {"tokenizer.ggml.tokens": [1, 2]}}, "holds no texts"),
        ({"tokens": [*byte_tokens(), "he", "he", "a1", "b2"]}, "same text"),
        ({"tokens": [*byte_tokens(), "he\0x", "he\0y", "a1", "b2"]}, "same text"),
        ({"extra": {"tokenizer.ggml.model": "llama"}}, "of the 256 bytes"),
    ],
)
def test_what_llama_cpp_would_die_of_is_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    path = write_tiny(tmp_path / "bad.gguf", **options)  # type: ignore[arg-type]
    assert words in refused(path)


def test_norm_weights_must_be_f32(tiny: Path, tmp_path: Path) -> None:
    whole = bytearray(tiny.read_bytes())
    name = b"blk.0.ffn_down.weight"
    at = whole.index(name) + len(name) + 4 + 2 * 8  # after the name: n_dims, two sizes, then the type
    assert struct.unpack_from("<I", whole, at)[0] == 0
    struct.pack_into("<I", whole, at, 26)
    path = tmp_path / "bad.gguf"
    path.write_bytes(whole)
    assert "I32, which holds no weights" in refused(path)


def mutate(raw: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(raw)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed)


@functools.cache
def tiny_bytes() -> tuple[bytes, int]:
    """A valid file's bytes and the length of its header, made once."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_tiny(Path(directory) / "tiny.gguf")
        return path.read_bytes(), read_header(path).data_offset


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 2**20),
)
def test_mutated_headers_only_ever_raise_model_errors(changes: list[tuple[int, int]], cut: int) -> None:
    raw, end = tiny_bytes()
    changed = mutate(raw[:end], changes) + raw[end:]
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(changed if cut % 4 else changed[: cut % len(changed)])
        file.flush()
        try:
            validate(Path(file.name))
        except ModelError as error:
            assert str(error)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_only_ever_raise_model_errors(tail: bytes) -> None:
    for head in (b"", b"GGUF", b"GGUF\x03\x00\x00\x00", b"GGUF" + struct.pack("<IQQ", 3, 1, 1)):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(head + tail)
            file.flush()
            with pytest.raises(ModelError):
                validate(Path(file.name))


def interesting(raw: bytes, end: int) -> list[int]:
    """Bytes of the header outside the token texts, where damage is mostly harmless."""
    start = raw.index(b"tokenizer.ggml.tokens")
    stop = raw.index(b"tokenizer.ggml.token_type")
    return [place for place in range(end) if not start + 40 <= place < stop - 8]


def accepted_mutants(
    directory: Path, count: int, change: Callable[[random.Random, bytearray, list[int]], None]
) -> list[Path]:
    raw, end = tiny_bytes()
    places = interesting(raw, end)
    rng = random.Random(20)
    found: list[Path] = []
    for number in range(50 * count):
        changed = bytearray(raw)
        change(rng, changed, places)
        path = directory / f"{number}.gguf"
        path.write_bytes(changed)
        try:
            validate(path)
        except ModelError:
            path.unlink()
            continue
        found.append(path)
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} mutants were accepted")


def flip(rng: random.Random, changed: bytearray, places: list[int]) -> None:
    for _ in range(rng.choice((1, 1, 2))):
        changed[rng.choice(places)] ^= 1 << rng.randrange(8)


def run_through_llama_cpp(paths: list[Path]) -> list[str]:
    """What became of each file; fails where one ended the process or kept it busy for ever."""
    result = subprocess.run(
        [sys.executable, llama_child.__file__],
        input="".join(f"{path}\n" for path in paths).encode(),
        capture_output=True,
        timeout=150,
        check=False,
    )
    lines = result.stdout.decode().splitlines()
    started = [line for line in lines if line.startswith("start")]
    assert result.returncode == 0, f"died at {paths[len(started) - 1]}: {result.stderr.decode()[-500:]}"
    return [line.split(maxsplit=2)[2] for line in lines if line.startswith("end")]


def test_accepted_mutants_do_not_end_the_process(tmp_path: Path) -> None:
    paths = accepted_mutants(tmp_path, 250, flip)
    ended = run_through_llama_cpp(paths)
    assert len(ended) == len(paths)
    assert ended.count("decoded 0") > len(paths) // 2, sorted(set(ended))


EXTREMES = {
    "UINT32": [struct.pack("<I", n) for n in (0, 1, 2, 3, 8, 16, 33, 64, 255, 513, 65536, 2**31, 2**32 - 1)],
    "FLOAT32": [struct.pack("<f", x) for x in (0.0, -1.0, math.nan, math.inf, 1e-30, 1e30)],
    "BOOL": [b"\0", b"\1", b"\2"],
}


def test_extreme_values_do_not_end_the_process(tiny: Path, tmp_path: Path) -> None:
    raw = tiny.read_bytes()
    accepted: list[Path] = []
    for name, field in gguf.GGUFReader(tiny).fields.items():
        at = field.offset + 8 + len(name.encode()) + 4
        for value in EXTREMES.get(field.types[0].name, []) if not name.startswith("GGUF.") else []:
            path = tmp_path / f"{name}-{value.hex()}.gguf"
            path.write_bytes(raw[:at] + value + raw[at + len(value) :])
            try:
                validate(path)
                accepted.append(path)
            except ModelFileError:
                path.unlink()
    assert len(run_through_llama_cpp(accepted)) == len(accepted) > 30


def test_tiny_model_runs(tiny: Path) -> None:
    result = subprocess.run(
        [sys.executable, llama_child.__file__], input=f"{tiny}\n".encode(), capture_output=True, timeout=60, check=True
    )
    assert result.stdout.decode().split("\n")[1] == "end 0 decoded 0"
