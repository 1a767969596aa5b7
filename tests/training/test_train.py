"""The loop, with a model so small that a few steps take a second."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tui_chat.errors import TuiChatError, UsageError  # noqa: E402 (after the check for PyTorch)
from tui_chat.training.checkpoint import Progress, load_checkpoint, save_slim  # noqa: E402
from tui_chat.training.model import ModelConfig  # noqa: E402
from tui_chat.training.train import TrainConfig, learning_rate_at, train  # noqa: E402


def tiny(out: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        out=out,
        model=ModelConfig(vocab_size=400, width=32, n_layers=1, n_heads=2, ffn_width=64, context=128),
        n_dialogues=600,
        n_validation=40,
        n_steps=12,
        batch_tokens=512,
        length=128,
        long_length=256,
        long_share=0.25,
        warmup_steps=3,
        bf16=False,
        compile=False,
        n_threads=1,
        report_every=1,
        validate_every=6,
        checkpoint_every=6,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def run(config: TrainConfig) -> list[Progress]:
    reports: list[Progress] = []
    train(config, reports.append)
    return reports


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    out = tmp_path_factory.mktemp("whole")
    return out, run(tiny(out))


def test_the_model_learns(whole: tuple[Path, list[Progress]]) -> None:
    _, reports = whole
    assert [report.step for report in reports] == list(range(1, 13))
    assert reports[0].train_loss == pytest.approx(math.log(400), abs=0.5)
    assert reports[-1].train_loss < reports[0].train_loss - 0.3
    assert reports[-1].validation_loss is not None
    assert reports[-1].validation_loss < math.log(400)
    assert reports[-1].n_tokens == load_checkpoint(whole[0]).progress.n_tokens > 12 * 400


def test_going_on_gives_the_same_losses(whole: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop_after_8(report: Progress) -> None:
        if report.step == 8:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(tiny(tmp_path), stop_after_8)
    assert load_checkpoint(tmp_path).progress.step == 6
    again = run(tiny(tmp_path, resume=True))
    expected = whole[1][6:]
    assert [report.step for report in again] == [report.step for report in expected]
    assert [r.train_loss for r in again] == pytest.approx([r.train_loss for r in expected], abs=1e-6)
    assert [r.gradient_norm for r in again] == pytest.approx([r.gradient_norm for r in expected], abs=1e-5)
    assert again[-1].validation_loss == pytest.approx(expected[-1].validation_loss, abs=1e-6)
    assert again[-1].n_tokens == expected[-1].n_tokens


def test_two_processes_train_as_one(whole: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    reports = run(tiny(tmp_path, n_processes=2))
    expected = whole[1]
    assert reports[-1].n_tokens == expected[-1].n_tokens
    assert [r.gradient_norm for r in reports] == pytest.approx([r.gradient_norm for r in expected], rel=2e-3)
    assert reports[-1].validation_loss == pytest.approx(expected[-1].validation_loss, abs=2e-3)


def test_checkpoints_are_kept_and_older_ones_go(whole: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    out, _ = whole
    assert sorted(path.name for path in out.iterdir()) == ["step-000006", "step-000012"]
    checkpoint = load_checkpoint(out)
    assert checkpoint.progress.step == 12 and checkpoint.trained_lengths == (128, 256)
    slim = save_slim(checkpoint, tmp_path / "slim")
    for name, weight in slim.model().state_dict().items():
        assert torch.allclose(weight, checkpoint.model().state_dict()[name], atol=1e-3, rtol=1e-3)


def test_a_save_that_was_killed_leaves_the_one_before(whole: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(whole[0] / "step-000006", tmp_path / "step-000006")
    (tmp_path / ".step-000012.partial").mkdir()
    (tmp_path / ".step-000012.partial" / "model.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path).progress.step == 6


def test_no_checkpoint_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        load_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="no checkpoint"):
        train(tiny(tmp_path, resume=True))


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TuiChatError, match=r"not a number at step \d+: lower the learning rate"):
        train(tiny(tmp_path, learning_rate=1e38, warmup_steps=1, clip_norm=1e38))


def test_learning_rate_rises_then_falls() -> None:
    config = tiny(Path(), n_steps=100, warmup_steps=10, learning_rate=1.0, final_share=0.1)
    rates = [learning_rate_at(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
