"""`tui-chat export`: where the file goes, what it holds, and what is said when it cannot be written."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.trained import make_checkpoint
from tui_chat.cli.program import run
from tui_chat.engine.gguf import validate

EXPORTED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "size_bytes", "type", "name", "checkpoint", "architecture", "n_parameters", "step", "loss"],
    "properties": {
        "path": {"type": "string"},
        "size_bytes": {"type": "integer", "minimum": 1},
        "type": {"enum": ["f32", "f16", "q8_0", "q4_k_m"]},
        "name": {"type": "string"},
        "checkpoint": {"type": "string"},
        "architecture": {"enum": ["llama", "qwen3", "gpt2"]},
        "n_parameters": {"type": "integer"},
        "step": {"type": "integer"},
        "loss": {"type": ["number", "null"]},
    },
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder commands run in, with a run "harbour" on the machine."""
    make_checkpoint("harbour", 100, loss=2.0)
    make_checkpoint("harbour", 200, loss=3.0)
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["export", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document: dict[str, Any] = json.loads(out)
    jsonschema.validate(document, EXPORTED)
    return document


@pytest.mark.parametrize(("file_type", "quantization"), [("f32", "F32"), ("f16", "F16"), ("q8_0", "Q8_0")])
def test_each_type_is_a_whole_model(
    here: Path, file_type: str, quantization: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = exported(capsys, "harbour", "--type", file_type)
    path = here / f"harbour-{file_type}.gguf"
    assert document["path"] == path.name
    assert document["step"] == 200
    header = validate(path)
    assert (header.quantization, header.name, header.size_bytes) == (quantization, "harbour", document["size_bytes"])
    assert [entry.name for entry in here.iterdir()] == [path.name]


def test_q4_k_m_is_made_from_a_temporary_f32_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tui_chat.engine.quantize", reason="needs llama.cpp's quantizer")
    document = exported(capsys, "harbour", "--type", "Q4_K_M")
    assert document["type"] == "q4_k_m"
    validate(here / "harbour-q4_k_m.gguf")
    assert [entry.name for entry in here.iterdir()] == ["harbour-q4_k_m.gguf"]


def test_out_is_a_file_or_a_folder_and_the_name_is_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = exported(capsys, "best", "--out", "mine.gguf", "--name", "My model")
    assert (document["path"], document["step"], document["name"]) == ("mine.gguf", 100, "My model")
    assert validate(here / "mine.gguf").name == "My model"
    (here / "folder").mkdir()
    document = exported(capsys, "harbour/100", "--out", "folder", "--name", "a/b")
    assert document["path"] == str(Path("folder") / "a-b-q8_0.gguf")


def test_people_are_told_how_to_use_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "harbour"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("harbour-q8_0.gguf  ") and "step 200, loss 3.000" in out
    assert err == "talk to it: tui-chat --model harbour-q8_0.gguf\n"


def test_the_command_told_can_be_pasted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "harbour", "--name", "my run"]) == 0
    assert capsys.readouterr().err == "talk to it: tui-chat --model 'my run-q8_0.gguf'\n"


@pytest.mark.parametrize("file_type", ["q8_0", "q4_k_m"])
def test_what_is_no_file_is_left_alone_and_links_are_followed(
    here: Path, file_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if file_type == "q4_k_m":
        pytest.importorskip("tui_chat.engine.quantize", reason="needs llama.cpp's quantizer")
    os.mkfifo(here / "pipe")
    (here / "to-pipe").symlink_to("pipe")
    for name in ("pipe", "to-pipe"):
        assert run(["export", "harbour", "--type", file_type, "--out", name]) == 2
        out, err = capsys.readouterr()
        assert out == "" and f"{name} is there and no regular file" in err and err.count("\n") == 1
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode) and (here / "to-pipe").is_symlink()
    (here / "old.gguf").write_text("old")
    (here / "link.gguf").symlink_to("old.gguf")
    assert exported(capsys, "harbour", "--type", file_type, "--out", "link.gguf")["path"] == "link.gguf"
    assert (here / "link.gguf").is_symlink()
    validate(here / "old.gguf")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nothing"], 1, "nothing: no such training"),
        (["harbour", "--out", "no/folder/x.gguf"], 2, "there is no folder no/folder"),
        (["harbour", "--out", "x" * 300], 2, "File name too long"),
        (["harbour", "--name", "x" * 300], 2, "File name too long"),
        (["harbour", "--out", "~nobody-here/x.gguf"], 2, "name another place with --out"),
        (["harbour", "--type", "q2"], 2, "invalid value for '--type'"),
    ],
)
def test_wrong_use_is_one_line(
    here: Path, arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err and err.count("\n") == 1
    assert list(here.iterdir()) == []


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(here)
    full = "cannot be written, because the disk is full: free some space, or choose another place"
    for error, free, said in (
        (OSError(28, "No space left on device"), usage.free, full),
        # What numpy says of it.
        (OSError("16384 requested and 6912 written"), 0, full),
        (OSError(30, "Read-only file system"), 0, "because Read-only file system: choose another place"),
        (OSError(5, "Input/output error"), 0, "because Input/output error: choose another place"),
    ):

        def fail(*_: object, error: OSError = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", fail)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        for file_type in ("f16", "q4_k_m"):
            assert run(["export", "harbour", "--type", file_type]) == 1
            err = capsys.readouterr().err
            assert said in err and err.count("\n") == 1
            assert list(here.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_as_such(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    assert run(["export", "harbour", "--type", "q4_k_m"]) == 1
    err = capsys.readouterr().err
    assert "because Read-only file system: name another place with --out" in err and err.count("\n") == 1
