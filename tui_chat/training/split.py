"""A corpus in two parts: what the model learns from, and what shows how it does on what it never saw.

Nothing stands in both. The same texts, or conversations with the same questions, go the same way together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from tui_chat.errors import UsageError
from tui_chat.training.chunks import cut_near
from tui_chat.training.dialogue import Dialogue
from tui_chat.training.sources import normalised

VALIDATION_SHARE = 0.1
"""Of the characters of a corpus, unless another share is asked for."""


@dataclass(frozen=True, slots=True)
class SplitDocuments:
    """Text in two parts."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    n_repeated: int
    """Documents that were there before and are left out."""


@dataclass(frozen=True, slots=True)
class SplitDialogues:
    """Conversations in two parts."""

    training: tuple[Dialogue, ...]
    validation: tuple[Dialogue, ...]


def split_documents(documents: Sequence[str], seed: int, share: float = VALIDATION_SHARE) -> SplitDocuments:
    """Keep whole documents for validation, chosen by the seed, or the end of the longest where none is small enough.

    Args:
        documents: Not empty.
        seed: Of the choice.
        share: Of all characters to keep for validation.

    Raises:
        UsageError: The share is not between 0 and 1, or there is no place to cut.
    """
    _check_share(share)
    first: dict[str, str] = {}
    for text in documents:
        # Case and white space do not make another text.
        first.setdefault(" ".join(text.split()).casefold(), text)
    different = list(first.values())
    n_repeated = len(documents) - len(different)
    sizes = [len(document) for document in different]
    chosen = _fitting(sizes, share * sum(sizes), seed)
    if 2 * sum(sizes[i] for i in chosen) >= share * sum(sizes):
        kept = tuple(document for i, document in enumerate(different) if i not in chosen)
        return SplitDocuments(kept, tuple(different[i] for i in sorted(chosen)), n_repeated)
    longest = max(range(len(different)), key=lambda i: sizes[i])
    begin, end = _cut(different[longest], share * sum(sizes))
    different[longest] = begin
    return SplitDocuments(tuple(different), (end,), n_repeated)


def split_dialogues(dialogues: Iterable[Dialogue], seed: int, share: float = VALIDATION_SHARE) -> SplitDialogues:
    """Keep conversations for validation whose questions no training conversation has in the same order.

    Args:
        dialogues: At least two different ones.
        seed: Of the choice.
        share: Of all characters to keep for validation; the smallest group of the same questions where that is more.

    Raises:
        UsageError: The share is not between 0 and 1, or all conversations are the same.
    """
    _check_share(share)
    given = list(dialogues)
    groups = _grouped(given, [tuple(normalised(e.user) for e in d.exchanges) for d in given])
    if len(groups) < 2:
        # The same question all through ("Write a haiku."): what must differ is the whole.
        groups = _grouped(given, [(normalised(d.text),) for d in given])
    if len(groups) < 2:
        raise UsageError(
            "all conversations of the corpus are the same: at least 2 different ones are needed, one to learn from "
            "and one to validate with"
        )
    sizes = [sum(len(dialogue.text) for dialogue in group) for group in groups]
    chosen = _fitting(sizes, share * sum(sizes), seed) or {min(range(len(groups)), key=lambda i: sizes[i])}
    parts: tuple[list[Dialogue], list[Dialogue]] = ([], [])
    for i, group in enumerate(groups):
        parts[i in chosen].extend(group)
    return SplitDialogues(tuple(parts[0]), tuple(parts[1]))


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise UsageError(f"a validation share of {share:g} leaves nothing to one side: use one between 0 and 1")


def _fitting(sizes: Sequence[int], room: float, seed: int) -> set[int]:
    """Some of the indices, by the seed, whose sizes together are at most `room`."""
    chosen: set[int] = set()
    for index in Random(seed).sample(range(len(sizes)), len(sizes)):
        if sizes[index] <= room:
            chosen.add(index)
            room -= sizes[index]
    return chosen


def _grouped(dialogues: Sequence[Dialogue], keys: Sequence[tuple[str, ...]]) -> list[list[Dialogue]]:
    groups: dict[tuple[str, ...], list[Dialogue]] = {}
    for dialogue, key in zip(dialogues, keys, strict=True):
        groups.setdefault(key, []).append(dialogue)
    return list(groups.values())


def _cut(document: str, size: float) -> tuple[str, str]:
    """`document` before and after a place between words, about `size` characters from its end."""
    place = max(1, len(document) - max(1, round(size)))
    # Text without any such place (one long line of a script without spaces) is cut where it is due.
    between = cut_near(document, place)
    if between > place + (len(document) - place) // 2:
        between = place
    if not document[between:].strip() or not document[:between].strip():
        raise UsageError("the text is too short to keep a part of it for validation: give more text")
    return document[:between], document[between:]
