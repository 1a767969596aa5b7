"""Saving: what is kept, and what is left whole when a save goes wrong."""

from __future__ import annotations

import math
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from safetensors import SafetensorError
from tokenizers import Tokenizer

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tests.training.learning import SHAPE, facts_at, text_config  # noqa: E402 (after the check for PyTorch)
from tui_chat.checkpoints.facts import read_facts  # noqa: E402
from tui_chat.checkpoints.runs import find_checkpoint, read_run  # noqa: E402
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions  # noqa: E402
from tui_chat.errors import StorageError, TuiChatError, UsageError  # noqa: E402
from tui_chat.training import checkpoint  # noqa: E402
from tui_chat.training.checkpoint import load_model, load_optimizer, load_tokenizer, save  # noqa: E402
from tui_chat.training.models import build_model  # noqa: E402
from tui_chat.training.train import train  # noqa: E402

GPT2 = ModelShape(
    arch=Architecture.GPT2,
    vocab_size=300,
    width=32,
    n_layers=1,
    n_heads=2,
    n_kv_heads=2,
    ffn_width=64,
    context=64,
    positions=Positions.LEARNED,
    qk_norm=False,
    tied=False,
)


def steps(run: Path) -> list[int]:
    return [facts.step for facts in read_run(run).checkpoints]


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, tied=False, n_kv_heads=1), GPT2], ids=["llama", "gqa", "gpt2"])
def test_what_is_saved_is_loaded(tmp_path: Path, tiny_tokenizer: Tokenizer, shape: ModelShape) -> None:
    model = build_model(shape, seed=5)
    state = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    facts = save(tmp_path, model, tiny_tokenizer, state, facts_at(7, 2.5, shape=shape, settings={"a": [1]}))
    assert facts.path == tmp_path / "step-000007" and facts.best_validation_loss == 2.5
    assert read_facts(facts.path) == facts
    loaded = load_model(facts)
    assert not loaded.training
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name])
    assert load_tokenizer(facts).to_str() == tiny_tokenizer.to_str()
    assert torch.equal(load_optimizer(facts)["state"][0]["exp_avg"], torch.ones(3))
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((facts.path / "model.safetensors").stat().st_mode) == 0o666 & ~mask


def test_the_newest_and_the_best_are_kept(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    model = build_model(SHAPE)
    kept = []
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5), (4, 2.2), (5, 1.9), (6, None)):
        facts = save(tmp_path, model, tiny_tokenizer, None, facts_at(step, loss))
        kept.append((steps(tmp_path), facts.best_validation_loss))
    assert kept == [([1], 3.0), ([2], 2.0), ([2, 3], 2.0), ([2, 4], 2.0), ([5], 1.9), ([5, 6], 1.9)]


def test_a_step_is_saved_again(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    save(tmp_path, build_model(SHAPE, seed=1), tiny_tokenizer, None, facts_at(1, 3.0))
    again = save(tmp_path, build_model(SHAPE, seed=2), tiny_tokenizer, None, facts_at(1, 2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert torch.equal(load_model(again).embedding.weight, build_model(SHAPE, seed=2).embedding.weight)


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        (
            "save_file",
            lambda: OSError(28, "No space left on device"),
            "the disk is full: free some space; that of step 1",
        ),
        (
            "save_file",
            lambda: SafetensorError("I/O error: No space left on device (os error 28)"),
            "disk is full",
        ),
        ("_flush", lambda: OSError(5, "Input/output error"), "because Input/output error: that of step 1 is whole"),
    ],
)
def test_a_save_that_fails_leaves_the_one_before(
    tmp_path: Path,
    tiny_tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: Callable[[], Exception],
    words: str,
) -> None:
    first = save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts_at(1, 3.0))

    def fail(*_: object) -> None:
        raise error()

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, place, fail)
        with pytest.raises(StorageError, match=words.replace("that of", "the checkpoint of")):
            save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts_at(2, 2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    load_model(first)
    assert save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts_at(2, 2.0)).step == 2


def test_a_disk_that_fills_up_in_the_tokenizer_is_told(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts_at(1, 3.0))

    class Large:
        def to_str(self, *, pretty: bool) -> str:
            raise OSError(28, "No space left on device")

        def save(self, path: str) -> None:
            raise Exception("No space left on device (os error 28)")

    with pytest.raises(StorageError, match=r"step 2 could not be written .* the disk is full"):
        save(tmp_path, build_model(SHAPE), cast(Tokenizer, Large()), None, facts_at(2, 2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_step_that_cannot_be_saved_again_stays(
    tmp_path: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path, build_model(SHAPE, seed=1), tiny_tokenizer, None, facts_at(1, 3.0))
    renamed = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return renamed(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        with pytest.raises(StorageError, match="the checkpoint of step 1 is whole"):
            save(tmp_path, build_model(SHAPE, seed=2), tiny_tokenizer, None, facts_at(1, 2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert torch.equal(load_model(first).embedding.weight, build_model(SHAPE, seed=1).embedding.weight)


@pytest.mark.parametrize(
    ("loss", "weight", "words"),
    [
        (math.nan, 1.0, "validation loss is"),
        (math.inf, 1.0, "validation loss is"),
        (2.0, math.nan, "size of the weights is"),
        (None, math.inf, "size of the weights is"),
        (2.0, 3e24, "size of the weights is"),
    ],
)
def test_what_is_no_number_is_not_saved(
    tmp_path: Path, tiny_tokenizer: Tokenizer, loss: float | None, weight: float, words: str
) -> None:
    model = build_model(SHAPE)
    save(tmp_path, model, tiny_tokenizer, None, facts_at(1, 3.0))
    with torch.no_grad():
        model.embedding.weight[0, 0] = weight
    with pytest.raises(TuiChatError, match=f"the {words} not a number at step 2: .* the checkpoint of step 1 is whole"):
        save(tmp_path, model, tiny_tokenizer, None, facts_at(2, loss))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_lowest_loss_that_was_no_number_is_forgotten(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    facts = facts_at(2, 2.0, best_validation_loss=math.nan)
    assert save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts).best_validation_loss == 2.0


def test_a_training_killed_in_a_save_goes_on_from_the_one_before(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys\nfrom pathlib import Path\nimport torch\n"
        "from tests.training.learning import text_config\nfrom tui_chat.training.train import train\n"
        "def half(state, path):\n"
        "    path.write_bytes(b'half of the')\n"
        "    if '000012' in str(path):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    written(state, path)\n"
        "written, torch.save = torch.save, half\n"
        "train(text_config(Path(sys.argv[1])))\n"
    )
    root, run = Path(__file__).parents[2], tmp_path / "run"
    done = subprocess.run([sys.executable, script, run], env={**os.environ, "PYTHONPATH": str(root)}, timeout=170)
    assert done.returncode == -signal.SIGKILL
    assert (run / ".step-000012.partial" / "optimizer.pt").read_bytes() == b"half of the"
    assert (run / ".step-000012.partial" / "model.safetensors").is_file() and (run / ".rows").is_dir()
    kept = find_checkpoint(str(run))
    assert kept.step == 6 and steps(run) == [6]
    load_model(kept), load_optimizer(kept)
    assert train(text_config(run, resume=True)).step == 12
    assert not list(run.glob(".*"))


def test_another_model_is_refused_with_what_differs(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    facts = save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts_at(1))
    with pytest.raises(UsageError, match=r"another model \(width 32, not 64; ffn_width 64, not 96\)"):
        checkpoint.load_weights(build_model(replace(SHAPE, width=64, ffn_width=96)), facts)
    with pytest.raises(UsageError, match="arch llama, not gpt2"):
        checkpoint.load_weights(build_model(GPT2), facts)


def test_damaged_files_are_named(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    facts = save(tmp_path, build_model(SHAPE), tiny_tokenizer, None, facts_at(1))
    with pytest.raises(UsageError, match="has no state of the optimizer"):
        load_optimizer(facts)
    (facts.path / "optimizer.pt").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"optimizer\.pt: the state of the optimizer cannot be read"):
        load_optimizer(facts)
    (facts.path / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        load_tokenizer(facts)
    whole = (facts.path / "model.safetensors").read_bytes()
    (facts.path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(UsageError, match=r"model\.safetensors: the weights cannot be read"):
        load_model(facts)
