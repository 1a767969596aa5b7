"""The facts of a training as people read them."""

from __future__ import annotations

from tui_chat.display.training_facts import training_facts


def test_every_kind_of_value_is_readable() -> None:
    facts = {
        "seconds": 0.47536309599672677,
        "tokens_per_s": 20031.5,
        "learning_rate": 0.0005491678983489373,
        "rope_base": 1e6,
        "loss": float("inf"),
        "n_tokens": 1234567,
        "seed": 12345,
        "tied": True,
        "corpus_sha256": "0123456789abcdef" * 4,
        "row_lengths": [256, 512],
        "sample_prompts": ["One, two", "x"],
        "epochs": None,
        "preset": "",
        "shape": {"arch": "llama", "vocab_size": 4096, "start": None},
    }
    assert dict(training_facts(facts)) == {
        "seconds": "0.48 s",
        "tokens_per_s": "20,032 tok/s",
        "learning_rate": "0.0005492",
        "rope_base": "1,000,000",
        "loss": "inf",
        "n_tokens": "1,234,567",
        "seed": "12345",
        "tied": "yes",
        "corpus_sha256": "0123456789abcdef…",
        "row_lengths": "256, 512",
        "sample_prompts": '"One, two", "x"',
        "shape": "arch llama · vocab size 4,096",
    }


def test_the_settings_in_a_file_are_read_as_what_they_are() -> None:
    text = '{"batch": 8, "shape": {"width": 32}, "epochs": null}'
    assert dict(training_facts({"settings": text})) == {"settings": "batch 8 · shape (width 32)"}
    for odd in ("no JSON", "[1]", "[" * 100_000):
        assert dict(training_facts({"settings": odd})) == {"settings": odd}
