"""The built-in model: the file in the package is what was trained, and it does what its card says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tests.pocket import SLIM, EngineWriter  # noqa: E402 (after the check for PyTorch)
from tui_chat.checkpoints.export import FileType, export  # noqa: E402
from tui_chat.checkpoints.facts import TOKENIZER, CheckpointFacts, read_facts  # noqa: E402
from tui_chat.checkpoints.template import CHAT_TEMPLATE  # noqa: E402
from tui_chat.engine.engine import Engine  # noqa: E402
from tui_chat.engine.gguf import validate  # noqa: E402
from tui_chat.engine.types import LoadOptions  # noqa: E402
from tui_chat.models.resolve import builtin_path  # noqa: E402
from tui_chat.training.checkpoint import load_model, load_tokenizer  # noqa: E402
from tui_chat.training.dialogue import Dialogue, Exchange  # noqa: E402
from tui_chat.training.evaluate import Case, evaluate  # noqa: E402
from tui_chat.training.grammar import Grammar  # noqa: E402
from tui_chat.training.sources import Sources, normalised  # noqa: E402

EXACT = LoadOptions(n_ctx=512, n_threads=1, type_k="f32", type_v="f32", flash_attn="off")
"""A half-precision cache alone costs more than the tolerance."""

MAX_BYTES = 16_000_000


@pytest.fixture(scope="module")
def facts() -> CheckpointFacts:
    return read_facts(SLIM)


@pytest.fixture(scope="module")
def texts(facts: CheckpointFacts, dialogues: list[Dialogue]) -> list[list[int]]:
    tokenizer = load_tokenizer(facts)
    encoded = (tokenizer.encode(d.text, add_special_tokens=False).ids for d in dialogues)
    return [ids for ids in encoded if 20 < len(ids) < 400][:16]


@pytest.fixture(scope="module")
def expected(facts: CheckpointFacts, texts: list[list[int]]) -> list[npt.NDArray[np.float32]]:
    """What PyTorch computes: (tokens, vocabulary) of each text."""
    model = load_model(facts)
    with torch.no_grad():
        return [model(torch.tensor([ids]))[0].numpy() for ids in texts]


def computed(engine: Engine, texts: list[list[int]]) -> Iterator[npt.NDArray[np.float32]]:
    for ids in texts:
        yield np.stack([engine.logits(ids[: n + 1]) for n in range(len(ids))])


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def test_at_float32_llama_cpp_computes_what_pytorch_computes(
    facts: CheckpointFacts, texts: list[list[int]], expected: list[npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    path = export(facts, tmp_path / "model.gguf", FileType.F32, name="pocket")
    validate(path)
    with Engine.load(path, EXACT) as engine:
        for ours, theirs in zip(expected[:6], computed(engine, texts[:6]), strict=True):
            assert np.abs(ours - theirs).max() <= 1e-3


def test_the_file_agrees_with_the_trained_weights(
    texts: list[list[int]], expected: list[npt.NDArray[np.float32]]
) -> None:
    same_best, divergences = [], []
    with Engine.load(builtin_path(), EXACT) as engine:
        for ours, theirs in zip(expected, computed(engine, texts), strict=True):
            same_best.append(ours.argmax(-1) == theirs.argmax(-1))
            p, q = log_softmax(ours), log_softmax(theirs)
            divergences.append((np.exp(p) * (p - q)).sum(-1))
    assert np.concatenate(same_best).mean() >= 0.99
    assert np.concatenate(divergences).mean() <= 1e-3


def test_the_files_belong_together(facts: CheckpointFacts, pocket: Engine, sources: Sources) -> None:
    said = pocket.info.metadata
    assert builtin_path().stat().st_size < MAX_BYTES
    assert said["training.step"] == str(facts.step) == str(facts.progress.n_steps)
    assert said["training.corpus_sha256"] == facts.corpus_sha256 == sources.sha256, "the corpus changed: `make pocket`"
    assert pocket.info.name == "pocket" and pocket.info.n_ctx_train == facts.shape.context == 2048
    assert pocket.info.n_params == facts.shape.n_parameters
    assert pocket.info.chat_template == CHAT_TEMPLATE
    shipped = builtin_path().with_name("tokenizer.json").read_text(encoding="utf-8")
    assert shipped == (SLIM / TOKENIZER).read_text(encoding="utf-8")


def test_it_runs_to_the_end_of_its_context() -> None:
    with Engine.load(builtin_path(), LoadOptions(n_ctx=2048, n_threads=1)) as engine:
        ids = (engine.vocab.tokenize("A token is a small piece of text. ") * 300)[:2047]
        assert np.isfinite(engine.logits(ids)).all()


def test_it_answers_and_stops(grammar: Grammar, pocket: Engine) -> None:
    """Greetings and every concept in one wording of each it never saw; `make pocket-eval` asks for the rest."""
    english = grammar.sources.english
    talk = [t for t in english.smalltalk if t.id in ("greeting", "who_are_you", "thanks", "what_can_you_do")]
    asked = [(topic, ask) for topic in talk for ask in topic.held_out]
    asked += [(topic, f"What is meant by {(*topic.one, *topic.many)[0]}?") for topic in english.concepts]
    chosen = [Case(t.id, Dialogue((Exchange(t.id, ask, t.answers[0]),))) for t, ask in asked]
    assert {normalised(ask) for _, ask in asked} <= grammar.held_out
    result = evaluate(EngineWriter(pocket), cases=chosen)
    assert result.total.stopped == len(chosen) > 100
    assert result.total.right >= 0.9 * len(chosen), result.table()
    assert "greeting" in result.table()
    assert result.as_json()["scores"]
