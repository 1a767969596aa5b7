"""An engine on the model of noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tui_chat.engine.engine import Engine
from tui_chat.engine.types import LoadOptions


@pytest.fixture
def engine(noise_path: Path) -> Iterator[Engine]:
    """A fresh engine on the noise model: context of 256 tokens, prefill chunks of 32, exact KV cache."""
    with Engine.load(noise_path, LoadOptions(n_ctx=256, n_batch=32, type_k="f32", type_v="f32")) as loaded:
        yield loaded
