"""Compares the tokenizer inside a model file with the `tokenizer.json` it should be the same as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_chat.errors import ModelFileError, ModelNotFoundError

PROBE = (
    "Hello, world! It's 12,345.67 km from here; don't ask why.\n\n"
    "  def f(x):\n\treturn x**2  # indented\n"
    "Grüße, naïve café · Привет мир · 你好，世界 · مرحبا · नमस्ते · 안녕하세요\n"
    "emoji: 👩‍💻 🏳️‍🌈 e\u0301 ﬁ … “quotes” — dash\r\n"
    "aaaaaaaaaaaaaaaaaaaa 1111111111 ________ \u00a0\u200b|"
)
"""A text that tokenizers with different rules split differently: numbers, space, scripts, joined emoji."""

Tokenize = Callable[[str], Sequence[int]]
"""Text to token ids, without special tokens around it."""


@dataclass(frozen=True, slots=True)
class TokenizerComparison:
    """What two tokenizers make of the same text."""

    n_model: int
    """Tokens by the model's own tokenizer."""
    n_reference: int
    """Tokens by the reference."""
    first_difference: int | None
    """Index of the first token that differs; None where all are equal."""
    model_id: int | None = None
    """The model's token there; None where it has no more."""
    reference_id: int | None = None
    """The reference's token there; None where it has no more."""

    @property
    def equal(self) -> bool:
        """Whether all ids are equal."""
        return self.first_difference is None

    def __str__(self) -> str:
        """One sentence for people."""
        if self.equal:
            return f"the tokenizers agree on all {self.n_model} tokens of the probe text"
        return (
            f"the tokenizers differ from token {self.first_difference} of the probe text on: the model has "
            f"{_shown(self.model_id)}, the tokenizer file {_shown(self.reference_id)}; the model's own is used"
        )


def compare_tokenizers(model: Tokenize, reference: Tokenize, text: str = PROBE) -> TokenizerComparison:
    """Tokenize the text both ways.

    Args:
        model: The model's own tokenizer.
        reference: What it should be the same as.
        text: What to tokenize.
    """
    ours, theirs = list(model(text)), list(reference(text))
    for index, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            return TokenizerComparison(len(ours), len(theirs), index, a, b)
    if len(ours) == len(theirs):
        return TokenizerComparison(len(ours), len(theirs), None)
    index = min(len(ours), len(theirs))
    return TokenizerComparison(
        len(ours),
        len(theirs),
        index,
        ours[index] if index < len(ours) else None,
        theirs[index] if index < len(theirs) else None,
    )


def compare_with_hub(
    model: Tokenize, repo: str, file: str, *, branch: str = "main", offline: bool = False
) -> TokenizerComparison:
    """Compare a model's tokenizer with one on the Hub, which is fetched through the cache.

    Args:
        model: The model's own tokenizer.
        repo: `owner/name`.
        file: The `tokenizer.json` in it.
        branch: Branch, tag or commit.
        offline: Take it from the cache only.

    Raises:
        DownloadError: It is neither to be had nor in the cache.
        ModelFileError: It is no such file.
    """
    from tui_chat.models.hub import fetch

    return compare_tokenizers(model, load_tokenizer(fetch(repo, file, branch, offline=offline).path))


def load_tokenizer(path: Path) -> Tokenize:
    """The tokenizer in a `tokenizer.json`.

    Raises:
        ModelNotFoundError: Nothing is at `path`.
        ModelFileError: It is not such a file.
    """
    from tokenizers import Tokenizer  # 30 ms, and few need it

    if not path.exists():
        raise ModelNotFoundError(f"{path}: no such file; set tokenizer.file to a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise ModelFileError(
            f"not a tokenizer.json that can be read ({error}): set tokenizer.file", path=path
        ) from error

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return tokenize


def _shown(token: int | None) -> str:
    return "no more" if token is None else str(token)
