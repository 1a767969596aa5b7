"""A small model of noise with a byte-level vocabulary: enough for everything that does not depend on what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_chat.models.geometry import Geometry, Vocabulary, write_model

NOISE = Geometry("noise", "qwen3", 2, 64, 2, 1, 32, 128, 600, True, 1e6)

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def byte_vocabulary() -> Vocabulary:
    """Ids 0 to 255 are the bytes; then " t", "he", " the", and the ChatML and think tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    words = ("Ġt", "he", "Ġthe")
    special = {"<|im_start|>": CONTROL, "<|im_end|>": CONTROL, "<think>": USER_DEFINED, "</think>": USER_DEFINED}
    tokens = (*(letter[byte] for byte in range(256)), *words, *special)
    return Vocabulary(
        tokens=tokens,
        types=(*[NORMAL] * (256 + len(words)), *special.values()),
        merges=("Ġ t", "h e", "Ġt he"),
        pre="qwen2",
        eos_id=tokens.index("<|im_end|>"),
        template="{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )


@pytest.fixture(scope="session")
def noise_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole GGUF file of 600 tokens and random weights."""
    path = tmp_path_factory.mktemp("noise") / "noise.gguf"
    write_model(path, NOISE, byte_vocabulary())
    return path
