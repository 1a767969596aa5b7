"""Checkpoints of random weights, made without PyTorch, and run folders around them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.engine.tiny_gguf import byte_tokens
from tui_chat.checkpoints.facts import TOKENIZER, WEIGHTS, CheckpointFacts, Progress
from tui_chat.checkpoints.shape import ModelShape
from tui_chat.checkpoints.tensors import parameter_shapes
from tui_chat.checkpoints.vocabulary import PRE_TOKENIZERS

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISIBLE = ("<think>", "</think>")
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "a"))
N_TOKENS = 256 + len(SPECIAL) + len(VISIBLE) + len(MERGES)

QWEN3 = ModelShape(vocab_size=N_TOKENS, width=64, n_layers=2, n_heads=4, n_kv_heads=4, ffn_width=96, context=128)


def tokenizer_json(pre_tokenizer: str = "qwen2", **changes: object) -> dict[str, Any]:
    """A byte-level BPE with a few merges, in the form the library writes."""
    patterns = next(patterns for patterns, name in PRE_TOKENIZERS.items() if name == pre_tokenizer)
    own = [*SPECIAL, *VISIBLE]
    words = [*own, *byte_tokens(), *("".join(pair) for pair in MERGES)]
    steps: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": text, "special": text in SPECIAL, **flags} for index, text in enumerate(own)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: index for index, text in enumerate(words)},
            "merges": [list(pair) for pair in MERGES],
        },
        **changes,
    }


def make_checkpoint(
    path: Path,
    *,
    shape: ModelShape = QWEN3,
    step: int = 250,
    train_loss: float = 2.5,
    validation_loss: float | None = 2.0,
    kind: str = "chat",
    seed: int = 7,
    **more: Any,
) -> CheckpointFacts:
    """Write a whole checkpoint, some 400 KB, into `path`."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    weights = {
        name: (rng.normal(1 if name.endswith("norm.weight") else 0, 0.1, sizes)).astype(np.float32)
        for name, sizes in parameter_shapes(shape)
    }
    save_file(weights, path / WEIGHTS)
    (path / TOKENIZER).write_text(json.dumps(tokenizer_json()), encoding="utf-8")
    progress = Progress(
        step=step,
        n_steps=1000,
        n_tokens=step * 4096,
        train_loss=train_loss,
        validation_loss=validation_loss,
        learning_rate=1e-3,
        tokens_per_s=9000.0,
        seconds=61.5,
    )
    facts = CheckpointFacts(path=path, shape=shape, progress=progress, kind=kind, seed=seed, **more)
    facts.write(path)
    return facts


def write_record(run: Path, events: Iterable[dict[str, Any]], tail: bytes = b"") -> None:
    """Write `progress.jsonl`, with `tail` as the start of a line that is not written whole yet."""
    run.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (run / "progress.jsonl").write_bytes(lines.encode() + tail)


def progress_event(step: int, loss: float = 2.0, **more: Any) -> dict[str, Any]:
    """A line of progress with the least that must be there."""
    return {"event": "progress", "step": step, "n_steps": 100, "n_tokens": step * 10, "train_loss": loss, **more}
