"""The corpus read once, and a tiny tokenizer."""

from __future__ import annotations

import os

import pytest
from tokenizers import Tokenizer

from tui_chat.training.dialogue import Dialogue
from tui_chat.training.grammar import Grammar
from tui_chat.training.sources import Sources, load_sources
from tui_chat.training.tokenizer import train_tokenizer

# Threads that wait for each other on shared cores make these small computations many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def sources() -> Sources:
    return load_sources()


@pytest.fixture(scope="session")
def grammar(sources: Sources) -> Grammar:
    return Grammar(sources)


@pytest.fixture(scope="session")
def made(grammar: Grammar) -> list[Dialogue]:
    """Training dialogues as they come."""
    return list(grammar.dialogues(seed=3, count=10_000))


@pytest.fixture(scope="session")
def dialogues(made: list[Dialogue]) -> list[Dialogue]:
    """Those that are whole."""
    return [dialogue for dialogue in made if not dialogue.opened]


@pytest.fixture(scope="session")
def tiny_tokenizer(dialogues: list[Dialogue]) -> Tokenizer:
    return train_tokenizer((dialogue.text for dialogue in dialogues[:1_000]), 512)
