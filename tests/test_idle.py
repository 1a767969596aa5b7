"""Which settings do nothing, against the sampler itself: what is named there changes no draw."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from tui_chat.config import InferenceSettings
from tui_chat.config.idle import STAGE_FIELDS, idle, is_greedy
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.types import DEFAULT_ORDER
from tui_chat.errors import SamplingError

VALUES: dict[str, tuple[Any, ...]] = {
    "temperature": (0.0, 0.5, 1.0, 2.0),
    "dynatemp_range": (0.0, 0.4),
    "dynatemp_exponent": (0.5, 1.0, 2.0),
    "top_k": (0, 1, 3, 10),
    "top_p": (0.3, 0.8, 1.0),
    "min_p": (0.0, 0.1, 0.5),
    "typical_p": (0.3, 0.8, 1.0),
    "top_n_sigma": (-1.0, 0.5, 2.0),
    "xtc_probability": (0.0, 0.5, 1.0),
    "xtc_threshold": (0.05, 0.2, 0.7),
    "repeat_penalty": (0.5, 1.0, 1.8),
    "repeat_last_n": (0, 2, -1),
    "frequency_penalty": (0.0, 2.0),
    "presence_penalty": (0.0, -3.0),
    "dry_multiplier": (0.0, 3.0),
    "dry_base": (0.5, 1.75),
    "dry_allowed_length": (1, 2),
    "dry_penalty_last_n": (0, 4, -1),
    "mirostat": (0, 1, 2),
    "mirostat_tau": (0.5, 5.0),
    "mirostat_eta": (0.1, 0.9),
    "adaptive_target": (-1.0, 0.1, 0.6),
    "adaptive_decay": (0.1, 0.9),
    "seed": (1, 2, 3),
}
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def drawn(settings: InferenceSettings, logits: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    sampler = Sampler(settings.sampling_params(settings.seed or 0), len(logits), n_ctx=64, history=[1, 2, 3, 1, 2])
    try:
        out: list[Any] = []
        for position in range(3):
            choice = sampler.choose(logits.copy(), position)
            out.append((choice.id, sorted(zip(choice.ids.tolist(), np.round(choice.p, 9).tolist(), strict=True))))
            sampler.accept(choice.id)
        return tuple(out)
    finally:
        sampler.close()


def test_what_is_dimmed_does_nothing() -> None:
    chance, seen = random.Random(5), set[str]()
    for _ in range(500):
        order = list(DEFAULT_ORDER)
        if chance.random() < 0.6:
            chance.shuffle(order)
        names = chance.sample(sorted(VALUES), chance.randint(2, 9))
        values = {**OFF, "seed": 1, **{name: chance.choice(VALUES[name]) for name in names}}
        if not values.get("mirostat") and chance.random() < 0.4:
            order = order[: chance.randint(3, 13)]
        if values.get("mirostat") and "mirostat" not in order:
            order.append("mirostat")
        settings = InferenceSettings(order=tuple(order), **values)
        logits = np.random.default_rng(chance.randint(0, 9)).normal(0, 2, 24).astype(np.float32)
        reference = drawn(settings, logits)
        for name, reason in idle(settings).items():
            assert len(reason) <= 20
            if name not in VALUES:
                continue
            other = settings.model_copy(update={name: chance.choice(VALUES[name])})
            try:
                result = drawn(other, logits)
            except SamplingError:
                assert name == "mirostat" and "mirostat" not in order
                continue
            if name == "seed" or is_greedy(settings):
                # Which candidates are left may differ there; the token is the same.
                assert [one[0] for one in result] == [one[0] for one in reference], (name, reason, settings)
            else:
                assert result == reference, (name, reason, settings)
            seen.add(name)
    assert seen == set(VALUES)


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ({"mirostat": 2}, "top_p", "mirostat replaces it"),
        ({"mirostat": 2}, "xtc_probability", "mirostat replaces it"),
        ({}, "mirostat_tau", "mirostat is off"),
        ({}, "xtc_threshold", "XTC never acts"),
        ({"xtc_threshold": 0.6, "xtc_probability": 1}, "xtc_probability", "threshold above 0.5"),
        ({"temperature": 0}, "top_p", "T 0 takes the best"),
        ({"temperature": 0}, "seed", "T 0 draws nothing"),
        ({"temperature": 0, "mirostat": 1}, "mirostat_tau", "T 0 leaves one token"),
        ({"order": ("top_k", "temperature")}, "top_p", "not in the order"),
        ({}, "repeat_last_n", "no penalty is set"),
        ({"repeat_penalty": 1.2, "repeat_last_n": 0}, "repeat_penalty", "last n tokens is 0"),
        ({}, "dry_base", "DRY is off"),
        ({}, "dynatemp_exponent", "temperature is fixed"),
        ({}, "adaptive_decay", "adaptive-p is off"),
    ],
)
def test_reasons(values: dict[str, Any], name: str, reason: str) -> None:
    assert idle(InferenceSettings(**values))[name] == reason


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "top_p"),
        ({}, "seed"),
        ({"temperature": 0}, "repeat_penalty"),
        # XTC takes the best away before the temperature would choose it, by a draw of the seed.
        ({"temperature": 0, "xtc_probability": 0.5}, "seed"),
        ({"temperature": 0, "xtc_probability": 0.5}, "xtc_threshold"),
        ({"temperature": 0, "typical_p": 0.5}, "top_k"),
        ({"temperature": 0, "dynatemp_range": 0.5}, "top_p"),
        ({"temperature": 0, "order": ("top_k", "penalties", "temperature"), "repeat_penalty": 1.5}, "top_k"),
        ({"temperature": 0}, "ban"),
        ({"temperature": 0}, "max_length"),
        # It would end the truncation that takes the best away.
        ({"temperature": 0, "typical_p": 0.5}, "mirostat"),
    ],
)
def test_what_does_something_is_not_dimmed(values: dict[str, Any], name: str) -> None:
    assert name not in idle(InferenceSettings(**values))


def test_every_setting_of_the_chain_belongs_to_a_stage() -> None:
    assert set(STAGE_FIELDS) == set(DEFAULT_ORDER)
    fields = [name for names in STAGE_FIELDS.values() for name in names]
    assert len(fields) == len(set(fields)) and set(fields) < set(InferenceSettings.model_fields)
