"""Settings, presets and what they cost: none of it needs PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.learning import SHAPE, facts_at, text_config
from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
from tui_chat.errors import UsageError
from tui_chat.training.config import LossOn, OptimizerKind, TrainConfig, config_of
from tui_chat.training.estimate import counted, is_out_of_memory, portion, quantity, remedy
from tui_chat.training.presets import PRESETS, preset_for, reshaped, tuning
from tui_chat.training.tokenizer import PreTokenizer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": None}, "give --steps or --epochs"),
        ({"epochs": 1.0, "steps": 2}, "not both"),
        ({"steps": 0}, "--steps is 0: it must be 1 or more"),
        ({"epochs": 0.0, "steps": None}, "--epochs is 0.0: it must be more than 0"),
        ({"batch": 0}, "--batch is 0"),
        ({"length": 1}, "--context is 1"),
        ({"learning_rate": -1.0}, "--lr is -1.0"),
        ({"learning_rate": float("nan")}, "--lr is nan"),
        ({"dropout": 1.0}, "--dropout is 1.0"),
        ({"prompt_weight": 1.5}, "--prompt-weight is 1.5"),
        ({"validation_share": 0.0}, "--validation-share is 0.0"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"stride": 33}, "use --stride 32 or less"),
        ({"warmup_steps": -1}, "--warmup is -1"),
        ({"processes": 0}, "--processes is 0"),
        ({"processes": 10**6}, "--processes is 1000000: it must be 1,024 or less"),
        ({"seed": 10**26}, "--seed is 10{26}: it must be 4,294,967,295 or less"),
        ({"epochs": 1e300, "steps": None}, r"--epochs is 1e\+300: it must be more than 0, and 1,000,000 or less"),
        ({"steps": 10**13}, "--steps is 10000000000000: it must be 1,000,000,000,000 or less"),
        ({"batch": 10**10}, "--batch is 10000000000: it must be 1,000,000,000 or less"),
        ({"weight_decay": float("inf")}, "--weight-decay is inf: it must be 1,000 or less"),
        ({"clip_norm": float("inf")}, "--clip is inf: it must be more than 0 and finite"),
    ],
)
def test_settings_that_do_not_hold_name_the_option(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        text_config(Path("run"), **changes)


def test_sizes_that_do_not_hold_name_the_option() -> None:
    with pytest.raises(UsageError, match="--heads is 0: it must be from 1 to 1,000,000,000"):
        reshaped(SHAPE, n_heads=0)
    with pytest.raises(UsageError, match="--layers is 10000000000: it must be"):
        reshaped(SHAPE, n_layers=10**10)


def test_rows_longer_than_the_table_of_positions_are_refused() -> None:
    table = reshaped(SHAPE, arch="gpt2")
    text_config(Path("run"), shape=table, length=64)
    with pytest.raises(UsageError, match="rows of 65 tokens do not fit into the 64 positions of the model"):
        text_config(Path("run"), shape=table, length=65)


@pytest.mark.parametrize("name", PRESETS)
def test_the_settings_of_every_preset_can_be_read_back(name: str) -> None:
    preset = PRESETS[name]
    config = preset.configure(Path("run"), preset.corpus or "some.txt")
    assert config.preset == name and config.out == Path("run")
    stored = json.loads(json.dumps(config.settings()))
    facts = replace(facts_at(1, shape=config.shape), path=Path("run/step-000001"), settings=stored)
    assert config_of(facts) == config
    assert config_of(facts, Path("other")) == replace(config, out=Path("other"))


def test_the_settings_of_an_older_training_can_be_read() -> None:
    config = PRESETS["story"].configure(Path("run"), "some.txt")
    stored = json.loads(json.dumps(config.settings()))
    del stored["optimizer"], stored["opening_weight"]
    facts = replace(facts_at(1, shape=config.shape), path=Path("run/step-000001"), settings=stored)
    assert config_of(facts) == config


def test_settings_of_another_program_are_refused() -> None:
    with pytest.raises(UsageError, match="the settings of the training cannot be read"):
        config_of(facts_at(1))


def test_a_preset_takes_the_users_own_settings() -> None:
    config = PRESETS["story"].configure(
        Path("run"), "tale.txt", steps=7, width=128, n_heads=4, context=64, learning_rate=None, seed=9
    )
    assert (config.corpus, config.steps, config.epochs, config.seed) == ("tale.txt", 7, None, 9)
    assert (config.length, config.shape.context, config.shape.width, config.shape.ffn_width) == (64, 64, 128, 352)
    assert config.learning_rate == PRESETS["story"].config.learning_rate
    assert PRESETS["demo"].configure(Path("run"), epochs=2.5).steps is None
    assert PRESETS["demo"].configure(Path("run"), context=8).stride == 8
    assert PRESETS["pocket"].configure(Path("run"), context=128).row_lengths == (128,)


def test_presets_for_corpora() -> None:
    assert [preset_for(corpus) for corpus in (None, "builtin", "a.JSONL", "a.txt", "folder")] == [
        "demo",
        "pocket",
        "chat",
        "story",
        "story",
    ]


def test_the_built_in_model_is_made_as_it_was() -> None:
    config = PRESETS["pocket"].configure(Path("run"))
    assert config.shape == ModelShape() and config.corpus == "builtin" and config.processes == 2
    assert (config.steps, config.tokens_per_step, config.row_lengths, config.long_share) == (
        6500,
        3072,
        (256, 512),
        0.15,
    )
    assert (config.learning_rate, config.final_share, config.warmup_steps, config.weight_decay) == (
        4e-3,
        0.02,
        200,
        0.1,
    )
    assert (config.n_dialogues, config.n_validation, config.seed, config.prompt_weight) == (340_000, 1_500, 1, 0.1)
    assert (config.optimizer, config.opening_weight) == (OptimizerKind.MUON, 4.0)
    assert (config.betas, config.clip_norm, config.dropout, config.accumulate) == ((0.9, 0.95), 1.0, 0.0, 1)
    assert config.loss_on is LossOn.ASSISTANT


def test_another_architecture_brings_what_belongs_to_it() -> None:
    gpt2 = reshaped(ModelShape(n_kv_heads=2), arch="gpt2")
    assert (gpt2.positions, gpt2.qk_norm, gpt2.n_kv_heads, gpt2.norm_eps) == (Positions.LEARNED, False, 6, 1e-5)
    assert reshaped(gpt2, arch="llama") == ModelShape()
    assert reshaped(ModelShape(), n_heads=12).n_kv_heads == 12
    assert reshaped(ModelShape(n_kv_heads=2), n_heads=4).n_kv_heads == 2
    assert reshaped(ModelShape(), width=384).ffn_width == 1024
    assert reshaped(ModelShape(), width=384, ffn_width=100).ffn_width == 100
    with pytest.raises(UsageError, match="width 100 is not divisible by 6 heads"):
        reshaped(ModelShape(), width=100)


@given(
    arch=st.sampled_from(Architecture),
    heads=st.integers(1, 16),
    width=st.integers(1, 12),
    kv=st.sampled_from([1, 2, 6]),
)
def test_what_fits_can_always_be_reshaped(arch: Architecture, heads: int, width: int, kv: int) -> None:
    shape = reshaped(ModelShape(n_kv_heads=kv), arch=arch, n_heads=heads, width=2 * heads * width)
    assert shape.n_heads == heads and shape.width == 2 * heads * width and heads % shape.n_kv_heads == 0


@given(
    arch=st.sampled_from(Architecture),
    width=st.integers(1, 300),
    heads=st.integers(1, 16),
)
def test_a_width_that_is_proposed_fits(arch: Architecture, width: int, heads: int) -> None:
    try:
        reshaped(ModelShape(), arch=arch, width=width, n_heads=heads)
    except UsageError as error:
        proposed = int(str(error).partition("try --width ")[2])
        assert reshaped(ModelShape(), arch=arch, width=proposed, n_heads=heads).width == proposed
        assert abs(proposed - width) <= 2 * heads


def test_tuning_goes_on_with_the_model_it_is_given() -> None:
    start = replace(facts_at(5), path=Path("run/step-000005"), row_lengths=(32, 64))
    config = tuning(start, Path("out"), "talk.jsonl", steps=9, learning_rate=None)
    assert (config.shape, config.start_from, config.length) == (SHAPE, start.path, 64)
    assert (config.steps, config.epochs, config.loss_on, config.prompt_weight) == (9, None, LossOn.ASSISTANT, 0.0)
    assert config.pre_tokenizer is PreTokenizer.QWEN2
    gpt2 = replace(start, settings={"pre_tokenizer": "gpt-2"})
    assert tuning(gpt2, Path("out"), "talk.jsonl").pre_tokenizer is PreTokenizer.GPT2
    # Angles know no end, a table of positions does.
    assert tuning(start, Path("out"), "talk.jsonl", context=100).shape == replace(SHAPE, context=100)
    table = reshaped(SHAPE, arch="gpt2")
    assert tuning(replace(start, shape=table), Path("out"), "talk.jsonl", context=100).shape == table


def test_nothing_of_this_loads_pytorch() -> None:
    code = (
        "import sys\n"
        "import tui_chat.training.events, tui_chat.training.presets, tui_chat.training.estimate\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def pocket(**changes: Any) -> TrainConfig:
    return replace(PRESETS["pocket"].configure(Path("run")), **changes)


def test_rows_are_halved_until_they_fit() -> None:
    config = pocket()
    whole = portion(config, config.shape, 1, 0)
    assert (whole.rows_per_pass, whole.passes, whole.fits) == (12, 1, True)
    assert whole.n_bytes == config.shape.training_bytes(12, 256)
    half = portion(config, config.shape, 1, round(config.shape.training_bytes(6, 256) / 0.8) + 1)
    assert (half.rows_per_pass, half.passes, half.fits) == (6, 2, True)
    none = portion(config, config.shape, 1, 1000)
    assert (none.rows_per_pass, none.fits) == (1, False) and none.passes >= 12
    assert portion(config, config.shape, 5, 0).rows_per_pass == 3
    # Each further process takes memory before it computes anything.
    several = portion(config, config.shape, 3, 0)
    assert several.n_bytes - 3 * config.shape.training_bytes(4, 256) == pytest.approx(4e8)


def test_what_is_proposed_fits() -> None:
    config = pocket()
    text = remedy(config, config.shape, 12, 10**9)
    assert text == "try --batch 6 --accumulate 2 --context 512"
    assert remedy(config, config.shape, 1, 10**9) == "try --batch 1 --accumulate 12 --context 256"
    little = config.shape.training_bytes(1, 64)
    assert remedy(config, config.shape, 12, round(little / 0.8) + 1) == "try --batch 1 --accumulate 12 --context 64"
    assert "3,443,520 parameters are too many" in remedy(config, config.shape, 12, 10**7)
    # What was tried last is not proposed again, even if it should have fitted.
    smallest = pocket(batch=1, length=8, long_length=0, stride=8)
    assert "try a smaller --width, --layers" in remedy(smallest, smallest.shape, 1, 0)
    assert remedy(replace(smallest, batch=2), smallest.shape, 2, 0) == (
        "try --batch 1 --accumulate 2 --context 8, or a smaller --width or --layers"
    )


def test_memory_errors_are_told_from_others() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))


def test_quantities_have_three_digits() -> None:
    assert [counted(n, "layer") for n in (1, 2, 7500)] == ["1 layer", "2 layers", "7,500 layers"]
    assert [quantity(n) for n in (12, 999, 3_443_520, 2.5e9, 4.7e14)] == ["12 ", "999 ", "3.44 M", "2.5 G", "470 T"]
