"""Ids to text as it streams: whole characters only, stop strings across token borders, reasoning set apart."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns token bytes into text, holding back the bytes of a character that is not whole yet."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, piece: bytes) -> str:
        """The text that `piece` completes; bytes that can never be UTF-8 give U+FFFD."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character cut off."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Finds the first stop string in streamed text and holds back what may become one.

    Args:
        stops: The strings; empty ones are ignored.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string came (it and all after it are dropped)."""
        if not self._stops:
            return text, False
        held = self._held + text
        found = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held = ""
            return held[: min(found)], True
        keep = max(_overlap(held, stop) for stop in self._stops)
        cut = len(held) - keep
        self._held = held[cut:]
        return held[:cut], False

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


def split_reasoning(text: str) -> tuple[str, str]:
    """The reasoning block at the start of an answer, and the answer proper.

    Works on unfinished text: before the closing tag came, all is reasoning. A closing tag alone counts too, for
    templates that write the opening one into the prompt.
    """
    head, closed, tail = text.partition(THINK_CLOSE)
    stripped = head.lstrip()
    if stripped.startswith(THINK_OPEN):
        return stripped.removeprefix(THINK_OPEN).strip(), tail.lstrip()
    if closed:
        return stripped.strip(), tail.lstrip()
    return "", text
