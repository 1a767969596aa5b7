"""Weights read and written without PyTorch: the file says what it is, and damage is named."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.checkpoints.made import N_TOKENS, QWEN3, make_checkpoint, tokenizer_json
from tui_chat.chat.template import ChatTemplate, TemplateOrigin
from tui_chat.checkpoints.export import FileType, export
from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS, CheckpointFacts
from tui_chat.checkpoints.shape import Architecture, Positions
from tui_chat.checkpoints.template import CHAT_TEMPLATE, TEXT_TEMPLATE
from tui_chat.checkpoints.tensors import pair_neighbours
from tui_chat.checkpoints.vocabulary import PRE_TOKENIZERS, TokenKind, read_vocabulary
from tui_chat.checkpoints.weights import read_weights
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import GenerationFinished, GenerationRequest, Limits, LoadOptions
from tui_chat.errors import ModelFileError, ModelNotFoundError, PromptTooLongError, StorageError, UsageError

WRITTEN = (FileType.F32, FileType.F16, FileType.Q8_0)
SMALL = LoadOptions(n_ctx=128, n_threads=1)


@pytest.fixture
def facts(tmp_path: Path) -> CheckpointFacts:
    return make_checkpoint(
        tmp_path / "my run" / "step-000250",
        corpus="builtin",
        corpus_sha256="ab" * 32,
        row_lengths=(64, 128),
        created="2026-01-02T03:04:05+00:00",
        settings={"learning_rate": 0.003, "note": "día"},
    )


@pytest.mark.parametrize("file_type", WRITTEN)
def test_every_type_loads_and_says_what_it_is(file_type: FileType, facts: CheckpointFacts, tmp_path: Path) -> None:
    path = export(facts, tmp_path / "new" / "model.gguf", file_type, name="my run")
    with Engine.load(path, SMALL) as engine:
        info, says = engine.info, engine.info.metadata
        assert (info.name, info.architecture, info.n_params) == ("my run", "qwen3", QWEN3.n_parameters)
        assert (info.n_embd, info.n_layer, info.n_head, info.n_ctx_train, info.n_vocab) == (64, 2, 4, 128, N_TOKENS)
        assert (info.bos_token, info.eos_token) == ("<|endoftext|>", "<|im_end|>")
        assert info.chat_template == CHAT_TEMPLATE
        assert not engine.vocab.add_bos
        assert {engine.vocab.find("<|im_end|>"), engine.vocab.find("<|endoftext|>")} <= info.eog_ids
        assert file_type.value.upper() in info.description.upper()
        assert engine.vocab.tokenize(" the thin") == [engine.vocab.find(" the"), *engine.vocab.tokenize(" thin")]
    assert (says["training.step"], says["training.tokens"], says["training.seed"]) == ("250", "1024000", "7")
    assert float(says["training.loss"]) == 2.0
    assert float(says["training.perplexity"]) == pytest.approx(np.exp(2.0), rel=1e-5)
    assert float(says["training.seconds"]) == pytest.approx(61.5)
    assert (says["training.corpus"], says["training.corpus_sha256"]) == ("builtin", "ab" * 32)
    assert says["training.created"] == "2026-01-02T03:04:05+00:00"
    assert (says["training.longest_row"], says["training.kind"]) == ("128", "chat")
    assert json.loads(says["training.settings"]) == {"learning_rate": 0.003, "note": "día"}


def test_a_text_model_continues_what_was_said(tmp_path: Path) -> None:
    facts = make_checkpoint(tmp_path / "step-000001", kind="text", validation_loss=None)
    with Engine.load(export(facts, tmp_path / "m.gguf", FileType.F16, name="t"), SMALL) as engine:
        assert engine.info.eos_token == "<|endoftext|>"
        assert engine.info.chat_template == TEXT_TEMPLATE
        assert float(engine.info.metadata["training.loss"]) == 2.5
        assert "training.validation_loss" not in engine.info.metadata
    said = [("system", "ignored"), ("user", "Once upon\n"), ("assistant", " a time"), ("user", " there")]
    messages = [{"role": role, "content": content} for role, content in said]
    assert ChatTemplate(TEXT_TEMPLATE, TemplateOrigin("model", "t")).render(messages) == "Once upon\n a time there"


def test_q4_k_m_is_made_elsewhere(facts: CheckpointFacts, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="F32"):
        export(facts, tmp_path / "m.gguf", FileType.Q4_K_M, name="x")


def test_a_broken_export_leaves_the_old_file(
    facts: CheckpointFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "model.gguf"
    path.parent.mkdir()
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", fail)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        export(facts, path, FileType.F16, name="x")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["model.gguf"]


def test_a_place_that_is_no_folder(facts: CheckpointFacts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        export(facts, tmp_path / "file" / "m.gguf", FileType.F16, name="x")


def test_halves_become_float32(tmp_path: Path) -> None:
    # bfloat16 is the upper half of a float32, which NumPy cannot write.
    header = json.dumps(
        {
            "a": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [0, 6]},
            "b": {"dtype": "F16", "shape": [2], "data_offsets": [6, 10]},
            "c": {"dtype": "F32", "shape": [1], "data_offsets": [10, 14]},
        }
    ).encode()
    data = struct.pack("<3H", 0x3F80, 0xC000, 0x4049) + struct.pack("<2e", 0.5, -2) + struct.pack("<f", 0.1)
    (tmp_path / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + data)
    weights = read_weights(tmp_path)
    assert all(values.dtype == np.float32 for values in weights.values())
    assert weights["a"].tolist() == [[1.0, -2.0, 3.140625]]
    assert weights["b"].tolist() == [0.5, -2.0]
    assert weights["c"].tolist() == [np.float32(0.1)]


def test_a_kind_of_number_that_is_no_weight(tmp_path: Path) -> None:
    save_file({"a": np.arange(3)}, tmp_path / WEIGHTS)
    with pytest.raises(ModelFileError, match="I64"):
        read_weights(tmp_path)


@pytest.mark.parametrize("length", [0, 3, 8, 200, -1])
def test_a_file_cut_short_is_named(facts: CheckpointFacts, length: int) -> None:
    file = facts.path / WEIGHTS
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ModelFileError, match=f"{WEIGHTS}: the weights cannot be read"):
        read_weights(facts.path)


def test_weights_that_are_gone(facts: CheckpointFacts) -> None:
    (facts.path / WEIGHTS).unlink()
    with pytest.raises(ModelNotFoundError, match="newer checkpoint"):
        read_weights(facts.path)


def test_weights_of_another_shape_are_refused(facts: CheckpointFacts, tmp_path: Path) -> None:
    def refused(wrong: CheckpointFacts) -> str:
        with pytest.raises(ModelFileError) as caught:
            export(wrong, tmp_path / "m.gguf", FileType.F16, name="x")
        return str(caught.value)

    assert "blocks.2" in refused(replace(facts, shape=replace(QWEN3, n_layers=3)))
    assert "do not name" in refused(replace(facts, shape=replace(QWEN3, n_layers=1)))
    assert "(96, 64), not (100, 64)" in refused(replace(facts, shape=replace(QWEN3, ffn_width=100)))
    gpt2 = replace(QWEN3, arch=Architecture.GPT2, positions=Positions.LEARNED, qk_norm=False)
    assert "positions.weight" in refused(replace(facts, shape=gpt2))
    assert not (tmp_path / "m.gguf").exists()


def test_tokens_beside_the_rows(facts: CheckpointFacts, tmp_path: Path) -> None:
    wider = make_checkpoint(tmp_path / "wide", shape=replace(QWEN3, vocab_size=N_TOKENS + 3))
    vocabulary = read_vocabulary(wider.path, N_TOKENS + 3, "chat")
    assert [kind for kind in vocabulary.kinds if kind is TokenKind.UNUSED] == [TokenKind.UNUSED] * 3
    assert vocabulary.tokens[-1] == f"[unused{N_TOKENS + 2}]"
    with Engine.load(export(wider, tmp_path / "m.gguf", FileType.F16, name="x"), SMALL) as engine:
        assert engine.info.n_vocab == N_TOKENS + 3
    with pytest.raises(ModelFileError, match="do not fit"):
        read_vocabulary(facts.path, N_TOKENS - 1, "chat")


@pytest.mark.parametrize("name", PRE_TOKENIZERS.values())
def test_pre_tokenizers_have_their_names(facts: CheckpointFacts, name: str) -> None:
    (facts.path / TOKENIZER).write_text(json.dumps(tokenizer_json(name)), encoding="utf-8")
    assert read_vocabulary(facts.path, N_TOKENS, "chat").pre_tokenizer == name


def test_the_pre_tokenizers_are_those_of_the_training() -> None:
    from tui_chat.training.tokenizer import PreTokenizer

    assert {name: patterns for patterns, name in PRE_TOKENIZERS.items()} == {p.value: p.patterns for p in PreTokenizer}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a tokenizer"),
        ("[]", "not a tokenizer"),
        ("{}", "not a tokenizer"),
        (json.dumps(tokenizer_json(pre_tokenizer="qwen2") | {"pre_tokenizer": {"pretokenizers": []}}), "cuts text"),
        (json.dumps(tokenizer_json()).replace("<|endoftext|>", "<|other|>"), "lacks <|endoftext|>"),
        (json.dumps(tokenizer_json()).replace("<|im_end|>", "<|other|>"), "lacks <|im_end|>"),
    ],
)
def test_tokenizers_that_will_not_do(facts: CheckpointFacts, text: str, words: str) -> None:
    (facts.path / TOKENIZER).write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=words):
        read_vocabulary(facts.path, N_TOKENS, "chat")


def test_rows_that_fit_no_group_are_halves(tmp_path: Path) -> None:
    import gguf

    shape = replace(QWEN3, width=40, n_heads=2, n_kv_heads=2)
    facts = make_checkpoint(tmp_path / "step-000001", shape=shape)
    path = export(facts, tmp_path / "m.gguf", FileType.Q8_0, name="x")
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert (types["token_embd.weight"], types["blk.0.ffn_down.weight"]) == ("F16", "Q8_0")
    assert {kind for name, kind in types.items() if "norm" in name} == {"F32"}


@given(heads=st.integers(1, 4), pairs=st.integers(1, 5), seed=st.integers(0, 99))
def test_products_of_queries_and_keys_survive_the_reordering(heads: int, pairs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = 2 * pairs
    q, k = rng.normal(size=(2, heads * width, 3)).astype(np.float32)
    a, b = pair_neighbours(q, heads), pair_neighbours(k, heads)
    for head in (slice(n * width, (n + 1) * width) for n in range(heads)):
        np.testing.assert_allclose(a[head].T @ b[head], q[head].T @ k[head], rtol=1e-4, atol=1e-5)
        # Element i and its partner i + D/2 are neighbours now.
        np.testing.assert_array_equal(a[head][0::2], q[head][:pairs])
        np.testing.assert_array_equal(a[head][1::2], q[head][pairs:])


def test_what_was_saved_is_what_is_read(facts: CheckpointFacts) -> None:
    ours, theirs = read_weights(facts.path), load_file(facts.path / WEIGHTS)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)


def test_a_table_of_positions_ends_the_context(tmp_path: Path) -> None:
    shape = replace(QWEN3, arch=Architecture.GPT2, positions=Positions.LEARNED, qk_norm=False, context=20)
    path = export(make_checkpoint(tmp_path / "gpt2", shape=shape), tmp_path / "m.gguf", FileType.F16, name="x")
    for n_ctx in (0, 16, 512):
        with Engine.load(path, LoadOptions(n_ctx=n_ctx)) as engine:
            assert engine.info.n_ctx == 20, "llama.cpp ends the process at the first token without a place"
            request = GenerationRequest(prompt_ids=(5,) * 12, limits=Limits(max_tokens=50, ignore_eos=True))
            events = list(engine.generate(request))
            assert isinstance(events[-1], GenerationFinished) and events[-1].usage.generated == 8
            with pytest.raises(PromptTooLongError):
                list(engine.generate(GenerationRequest(prompt_ids=(5,) * 21)))
