"""`tui-chat info`: what GGUF files and checkpoints say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.trained import SHAPE, make_checkpoint
from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
from tui_chat.cli.program import run

TOKEN = {"type": "object", "required": ["id", "text"], "properties": {"id": {"type": "integer"}}}

INFO = {
    "type": "object",
    "required": [
        "format",
        "name",
        "path",
        "size_bytes",
        "architecture",
        "quantization",
        "n_parameters",
        "sizes",
        "tensors",
        "tokenizer",
        "chat_template",
        "training",
    ],
    "properties": {
        "format": {"enum": ["gguf", "checkpoint"]},
        "size_bytes": {"type": "integer", "minimum": 1},
        "n_parameters": {"type": "integer", "minimum": 1},
        "sizes": {
            "type": "object",
            "required": ["layers", "width", "heads", "ffn", "context", "vocab"],
            "additionalProperties": {"type": "integer"},
        },
        "tensors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "count", "size_bytes", "n_parameters"],
                "properties": {
                    "type": {"type": "string"},
                    "count": {"type": "integer", "minimum": 1},
                    "size_bytes": {"type": "integer", "minimum": 1},
                    "n_parameters": {"type": "integer", "minimum": 1},
                },
            },
        },
        "tokenizer": {
            "type": "object",
            "required": ["model", "pre", "n_tokens", "n_merges", "special"],
            "properties": {"special": {"type": "object", "additionalProperties": TOKEN}},
        },
        "chat_template": {"type": ["string", "null"]},
        "training": {"type": ["object", "null"]},
    },
}

GPT2 = ModelShape(
    arch=Architecture.GPT2,
    vocab_size=270,
    width=32,
    n_layers=1,
    n_heads=2,
    n_kv_heads=2,
    ffn_width=64,
    context=32,
    positions=Positions.LEARNED,
    tied=False,
    qk_norm=False,
)


def info(capsys: pytest.CaptureFixture[str], model: str) -> dict[str, Any]:
    assert run(["info", model, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document: dict[str, Any] = json.loads(out)
    jsonschema.validate(document, INFO)
    return document


def test_the_built_in_model(capsys: pytest.CaptureFixture[str]) -> None:
    document = info(capsys, "builtin")
    assert document["format"] == "gguf"
    assert document["sizes"]["layers"] == document["metadata"]["qwen3.block_count"]
    assert document["tokenizer"]["special"]["eos"]["text"] == "<|im_end|>"
    assert "<|im_start|>" in document["chat_template"]
    assert sum(entry["n_parameters"] for entry in document["tensors"]) == document["n_parameters"]
    assert document["metadata"]["tokenizer.ggml.tokens"]["type"] == "str"


@pytest.mark.parametrize("shape", [SHAPE, GPT2], ids=["llama", "gpt2"])
def test_a_checkpoint(shape: ModelShape, capsys: pytest.CaptureFixture[str]) -> None:
    facts = make_checkpoint("harbour", 200, loss=2.25, shape=shape)
    document = info(capsys, "harbour/200")
    assert document["format"] == "checkpoint"
    assert document["name"] == "harbour/step-000200"
    assert document["architecture"] == shape.arch
    assert document["sizes"]["ffn"] == 64
    assert document["tensors"][0]["n_parameters"] == shape.n_parameters == document["n_parameters"]
    assert document["tokenizer"]["n_tokens"] == 270
    assert document["training"]["validation_loss"] == 2.25
    assert document["training"]["corpus"] == "texts/harbour.txt"
    for name in ("latest", "best", "harbour", str(facts.path)):
        assert info(capsys, name)["path"] == str(facts.path)


def test_an_exported_checkpoint_keeps_its_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint("harbour", 200, loss=2.25, kind="chat")
    assert run(["export", "harbour", "--out", str(tmp_path / "h.gguf"), "--type", "f16"]) == 0
    capsys.readouterr()
    document = info(capsys, str(tmp_path / "h.gguf"))
    assert (document["training"]["step"], document["training"]["loss"]) == (200, 2.25)
    assert document["tokenizer"]["special"]["eos"]["text"] == "<|im_end|>"


def test_the_page_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint("harbour", 200, loss=2.25)
    for model in ("builtin", "harbour"):
        assert run(["info", model]) == 0
        out = capsys.readouterr().out
        for title in ("tensors", "tokenizer", "training"):
            assert f"\n{title}\n" in out
        assert "key/value heads" in out


def test_the_training_is_told_in_readable_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"shape": {"arch": "llama", "rope_base": 10_000.0}, "batch": 8}
    make_checkpoint("harbour", 200, loss=2.25, settings=settings)
    assert run(["info", "harbour"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "shape arch llama · rope base 10,000" in out and "1,000 tok/s" in out
    assert run(["export", "harbour", "--out", str(tmp_path / "h.gguf")]) == 0
    assert run(["info", str(tmp_path / "h.gguf")]) == 0
    assert "batch 8 · shape (arch llama · rope base 10,000)" in " ".join(capsys.readouterr().out.split())


def test_text_of_a_file_does_not_reach_the_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint("harbour", 200)
    target = tmp_path / "h.gguf"
    assert run(["export", "harbour", "--out", str(target), "--name", "bad\x1b[2Jname"]) == 0
    assert run(["info", str(target)]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: (path / WEIGHTS).write_bytes(b"\x00" * 40), "the weights cannot be read"),
        (lambda path: (path / WEIGHTS).unlink(), "holds no model.safetensors"),
        (lambda path: (path / TOKENIZER).write_text("{"), "tokenizer"),
    ],
)
def test_a_damaged_checkpoint_is_one_line_and_exit_1(spoil: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(make_checkpoint("harbour", 200).path)
    assert run(["info", "harbour"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err and err.count("\n") == 1


def test_an_unknown_name_is_one_line_that_says_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint("harbour", 200)
    assert run(["info", "harbuor"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("tui-chat: error: harbuor: ") and err.count("\n") == 1
    assert run(["info", "harbour/7"]) == 1
    assert "harbour has no checkpoint 7" in capsys.readouterr().err
