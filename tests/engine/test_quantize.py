"""Quantising through llama.cpp, on the built-in model brought back to floats and on models of a few kilobytes."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import llama_cpp.llama_cpp as native
import numpy as np
import pytest

from tests.engine import tiny_gguf
from tests.engine.tiny_gguf import write_tiny
from tui_chat.engine.engine import Engine
from tui_chat.engine.gguf import read_header, validate
from tui_chat.engine.llama import log_from_now
from tui_chat.engine.quantize import FILE_TYPES, quantize
from tui_chat.engine.types import (
    FinishReason,
    GenerationFinished,
    GenerationRequest,
    Limits,
    LoadOptions,
    SamplingParams,
)
from tui_chat.errors import ModelError, ModelFileError, ModelNotFoundError, UsageError
from tui_chat.models.resolve import builtin_path

QUESTIONS = ("What is a token?", "What is the capital of France?", "Hello!")


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model in F32, with the values its Q8_0 weights stand for: no PyTorch is needed to make it."""
    path = tmp_path_factory.mktemp("floats") / "floats.gguf"
    log_from_now()
    params = native.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = native.LLAMA_FTYPE_ALL_F32, True
    assert native.llama_model_quantize(os.fsencode(builtin_path()), os.fsencode(path), ctypes.byref(params)) == 0
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.gguf")


def wide(path: Path, monkeypatch: pytest.MonkeyPatch, width: int, ffn: int) -> Path:
    for name, value in {"WIDTH": width, "HEADS": 2, "HEAD": width // 2, "FFN": ffn}.items():
        monkeypatch.setattr(tiny_gguf, name, value)
    return write_tiny(path)


def stored_types(path: Path) -> dict[str, str]:
    """Type of each matrix, by name without the layer."""
    matrices = [tensor for tensor in read_header(path).tensors if len(tensor.shape) > 1]
    return {tensor.name.removeprefix("blk.0.").removesuffix(".weight"): tensor.type.name for tensor in matrices}


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond so much: as on a full disk, a write fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_built_in_model_still_answers_and_stops(floats: Path, tmp_path: Path) -> None:
    target, messages = tmp_path / "new" / "pocket.gguf", list[str]()
    quantize(floats, target, "q4_k_m", on_message=messages.append)
    header = validate(target)
    assert header.integer("general.file_type") == 15
    assert target.stat().st_size < 0.25 * floats.stat().st_size
    assert [entry.name for entry in target.parent.iterdir()] == ["pocket.gguf"]
    before, after = read_header(floats).metadata, header.metadata
    assert {key for key in before if after[key] != before[key]} <= {"general.file_type", *ARRAYS}
    with Engine.load(target, LoadOptions(n_ctx=512, n_threads=1)) as engine:
        for question in QUESTIONS:
            text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
            request = GenerationRequest(
                prompt_ids=tuple(engine.vocab.tokenize(text, parse_special=True)),
                params=SamplingParams(temperature=0),
                limits=Limits(max_tokens=120),
            )
            *_, last = engine.generate(request)
            assert isinstance(last, GenerationFinished)
            assert last.reason is FinishReason.EOS and last.usage.generated > 1


ARRAYS = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "general.languages"}
"""Known by their place in the file, which changes."""


def test_a_width_that_fits_gets_the_type_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, messages = wide(tmp_path / "a.gguf", monkeypatch, 256, 512), tmp_path / "b.gguf", list[str]()
    quantize(source, target, "Q4_K_M", on_message=messages.append)
    types = stored_types(target)
    assert (types["attn_q"], types["ffn_up"], types["ffn_down"], types["token_embd"]) == (
        "Q4_K",
        "Q4_K",
        "Q6_K",
        "Q6_K",
    )
    assert not messages


@pytest.mark.parametrize(("file_type", "stored"), [("Q4_K_M", "Q5_0"), ("Q5_K_M", "Q5_1"), ("Q6_K", "Q8_0")])
def test_rows_that_do_not_fit_get_another_type_and_a_word(
    file_type: str, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, messages = wide(tmp_path / "a.gguf", monkeypatch, 192, 256), tmp_path / "b.gguf", list[str]()
    quantize(source, target, file_type, on_message=messages.append)
    assert read_header(target).integer("general.file_type") == FILE_TYPES[file_type]
    assert stored_types(target)["attn_q"] == stored
    assert stored_types(target)["ffn_down"] == "Q6_K"
    (message,) = messages
    assert message.startswith("b.gguf: 7 of 8 matrices have rows that are not a multiple of 256")
    assert f"as {stored}" in message and file_type in message and "bits a weight" in message


def test_rows_that_fit_nothing_become_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = wide(tmp_path / "a.gguf", monkeypatch, 40, 72), tmp_path / "b.gguf"
    quantize(source, target, "Q4_K_M", on_message=lambda _: None)
    assert set(stored_types(target).values()) == {"F16"}


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
def test_a_model_does_not_replace_itself(link: str, tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "other.gguf"
    match link:
        case "itself":
            target = tmp_path / "." / "tiny.gguf"
        case "symbolic":
            target.symlink_to(tiny)
        case "hard":
            target.hardlink_to(tiny)
    before = tiny.read_bytes()
    with pytest.raises(UsageError, match="replace itself"):
        quantize(tiny, target, "Q4_K_M")
    assert tiny.read_bytes() == before


def test_an_unknown_type_names_those_there_are(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'Q4_K_X'.*Q4_K_M, Q5_K_M, Q6_K"):
        quantize(tiny, tmp_path / "out.gguf", "Q4_K_X")


def test_what_is_quantised_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Q8_0 already; export it as F32 or F16"):
        quantize(builtin_path(), tmp_path / "out.gguf", "Q4_K_M")
    assert not list(tmp_path.glob("*.gguf"))


def test_a_source_that_is_not_whole_never_reaches_llama(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        quantize(tmp_path / "none.gguf", tmp_path / "out.gguf", "Q4_K_M")
    tiny.write_bytes(tiny.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        quantize(tiny, tmp_path / "out.gguf", "Q4_K_M")


def test_llama_cpp_says_itself_why_it_refuses(tiny: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(tiny, "r+")
    next(tensor for tensor in reader.tensors if tensor.name == "output_norm.weight").data[0] = np.nan
    reader.data.flush()
    target = tmp_path / "out.gguf"
    target.write_bytes(b"old")
    with pytest.raises(ModelError, match=r"cannot quantise it to Q4_K_M: tensor 'output_norm.weight' has invalid data"):
        quantize(tiny, target, "Q4_K_M")
    assert target.read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.glob("*.gguf")) == ["out.gguf", "tiny.gguf"]


def test_a_full_disk_leaves_what_was_there(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(b"old")
    with files_end_at(30_000), pytest.raises(ModelError, match=r"iostream error: .* MB are free in "):
        quantize(tiny, target, "Q4_K_M")
    assert target.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*.partial"))


def test_a_folder_that_cannot_be_made_is_named(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match=r"file/out\.gguf: cannot be written"):
        quantize(tiny, tmp_path / "file" / "out.gguf", "Q4_K_M")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(ModelError, match=r"folder\.gguf: cannot be written"):
        quantize(tiny, tmp_path / "folder.gguf", "Q4_K_M", on_message=lambda _: None)
    assert not list(tmp_path.glob(".*.partial"))
