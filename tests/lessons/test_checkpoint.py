"""`checkpoint`: the same report as `info` gives of the loaded file, and what files without this or that say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny_gguf import write_tiny
from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import LoadOptions
from tui_chat.errors import ModelFileError, ModelNotFoundError
from tui_chat.lessons.checkpoint import checkpoint, file_report
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.gguf_document import gguf_document
from tui_chat.lessons.report import Report
from tui_chat.lessons.watch import Watch


def text(report: Report) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, 100))


def shown(path: Path) -> str:
    return text(file_report(gguf_document(path)))


def test_the_app_and_the_command_line_say_the_same(pocket: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    report = checkpoint(pocket, Watch())
    document = check("checkpoint", report.document)
    assert run(["info", "builtin", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert run(["info", "builtin"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == text(report)


def test_figures_are_those_llama_cpp_found(pocket: Engine) -> None:
    document, info = check("checkpoint", checkpoint(pocket, Watch()).document), pocket.info
    sizes = document["sizes"]
    assert (sizes["layers"], sizes["width"], sizes["heads"]) == (info.n_layer, info.n_embd, info.n_head)
    assert (sizes["vocab"], sizes["context"]) == (info.n_vocab, info.n_ctx_train)
    assert document["n_parameters"] == info.n_params
    assert sum(entry["size_bytes"] for entry in document["tensors"]) == info.size_bytes
    assert document["chat_template"] == info.chat_template
    assert document["tokenizer"]["special"]["eos"] == {"id": info.eos_id, "text": info.eos_token}


def test_bits_are_those_of_the_type(pocket: Engine) -> None:
    lines = text(checkpoint(pocket, Watch())).splitlines()
    (row,) = (line.split() for line in lines if line.startswith("Q8_0"))
    assert row[3] == "8.5"  # 34 bytes for 32 numbers
    assert any(line.split()[:1] == ["F32"] and line.split()[3] == "32" for line in lines)


def test_a_file_without_template_training_or_special_tokens_says_so(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "plain.gguf", template=None)
    page = shown(path)
    assert "the model was not made for conversations" in page
    assert "does not tell how it was trained" in page
    page = shown(write_tiny(tmp_path / "bare.gguf", tokenizer=False))
    assert "names no special tokens" in page and "none named" in page


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            '{"batch": 12, "betas": [0.9, 0.95], "shape": {"tied": true}, "start_from": null}',
            "batch 12 · betas 0.9, 0.95",
        ),
        ("not JSON", "Settings: not JSON"),
        ("[1, 2]", "Settings: [1, 2]"),
    ],
)
def test_settings_of_the_training_are_read_where_they_can_be(tmp_path: Path, settings: str, said: str) -> None:
    path = write_tiny(tmp_path / "t.gguf", extra={"training.settings": settings, "training.seconds": 5554.0})
    page = shown(path)
    assert said in page and "1 h 32 min" in page
    assert "null" not in page and "start from" not in page


def test_a_long_template_is_cut_and_says_so(tmp_path: Path) -> None:
    page = shown(write_tiny(tmp_path / "t.gguf", template="x" * 1000))
    assert "first 480 of 1,000 characters" in page
    assert "characters" not in shown(write_tiny(tmp_path / "s.gguf", template="{{ messages }}\n"))


def test_a_split_model_is_told_as_a_whole(tmp_path: Path) -> None:
    parts: list[dict[str, Any]] = [{"split.no": n, "split.count": 2, "split.tensors.count": 28} for n in (0, 1)]
    paths = [tmp_path / f"m-{n:05d}-of-00002.gguf" for n in (1, 2)]
    for path, extra in zip(paths, parts, strict=True):
        write_tiny(path, extra=extra)
    one = gguf_document(write_tiny(tmp_path / "one.gguf"))
    both = check("checkpoint", gguf_document(paths[0]))
    assert both["parts"] == {"present": 2, "of": 2} and "parts" not in one
    assert both["n_parameters"] == 2 * one["n_parameters"]
    assert both["tensors"][0]["count"] == 2 * one["tensors"][0]["count"]
    assert both["size_bytes"] == sum(path.stat().st_size for path in paths)
    paths[1].unlink()
    alone = check("checkpoint", gguf_document(paths[0]))
    assert alone["parts"] == {"present": 1, "of": 2} and alone["n_parameters"] == one["n_parameters"]
    assert "1 of 2 are here" in shown(paths[0])


def test_a_file_that_changed_since_it_was_loaded(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    with Engine.load(path, LoadOptions(n_ctx=256, n_threads=1, use_mmap=False)) as engine:
        path.rename(tmp_path / "away.gguf")
        with pytest.raises(ModelNotFoundError, match=r"tiny\.gguf"):
            checkpoint(engine, Watch())
        path.write_bytes(b"no model")
        with pytest.raises(ModelFileError, match=r"tiny\.gguf"):
            checkpoint(engine, Watch())


def test_text_of_a_file_is_data(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "t.gguf", extra={"general.name": "a\x1b[2Jb", "training.corpus": "c\u202ed"})
    page = shown(path)
    assert "\x1b" not in page and "\u202e" not in page
