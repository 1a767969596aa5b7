"""A small model of noise with a byte-level vocabulary: enough for everything that does not depend on what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.byte_vocabulary import byte_vocabulary
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import LoadOptions
from tui_chat.models.geometry import Geometry, write_model

NOISE = Geometry("noise", "qwen3", 2, 64, 2, 1, 32, 128, 600, True, 1e6)


@pytest.fixture(scope="session")
def noise_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole GGUF file of 600 tokens and random weights."""
    path = tmp_path_factory.mktemp("noise") / "noise.gguf"
    write_model(path, NOISE, byte_vocabulary())
    return path


@pytest.fixture
def engine(noise_path: Path) -> Iterator[Engine]:
    """A fresh engine on the noise model: context of 256 tokens, prefill chunks of 32, exact KV cache."""
    with Engine.load(noise_path, LoadOptions(n_ctx=256, n_batch=32, type_k="f32", type_v="f32")) as loaded:
        yield loaded
