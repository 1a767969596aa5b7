"""The same words as somebody else might type them: openings, lower case, lost marks, a slip of the finger."""

from __future__ import annotations

import re
import unicodedata
from random import Random

from tui_chat.training.sources import Phrases

_FILLERS = frozenset(
    {"a", "an", "the", "is", "are", "do", "does", "please", "can", "you", "me", "to", "of", "i", "it"}
    | {"el", "la", "los", "las", "un", "una", "es", "de", "por", "favor", "o", "os", "as", "um", "uma", "é"}
)
"""Words a hurried user leaves out."""

_COMMANDS = re.compile(
    r"(add|answer|calculate|compute|convert|copy|count|define|describe|echo|explain|format|give|help|list|make"
    r"|multiply|name|put|recite|repeat|return|say|show|spell|start|subtract|take|teach|tell|turn|work|write)\b"
    r"(?! more| it again)",
    re.IGNORECASE,
)
"""How an order begins that can be made a request: "Tell me ..." and "Could you tell me ...?\""""


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]


def vary(text: str, frames: Phrases, rng: Random, *, freely: bool = True) -> str:
    """`text` as it might be typed.

    Args:
        text: What the user says.
        frames: For openings and closings.
        rng: Decides.
        freely: Also change letters and case; off where a name or a number must stay as it is.
    """
    if rng.random() < 0.3 and "request" in frames and _COMMANDS.match(text):
        text = rng.choice(frames["request"]).format(t=text[0].lower() + text[1:].rstrip(".!" if freely else ""))
    elif rng.random() < 0.14 and not text.startswith("/"):
        opening = rng.choice(frames["opening"])
        text = opening + (text if text.startswith(("I ", "I'")) or not freely else text[0].lower() + text[1:])
    if rng.random() < 0.05 and text.endswith(("?", ".")):
        text += rng.choice(frames["closing"])
    if rng.random() < 0.3:
        text = text.rstrip("?.!")
    if not freely:
        return text
    if rng.random() < 0.12:
        text = _hurried(text, rng)
    if rng.random() < 0.3:
        text = text.lower()
    elif rng.random() < 0.02:
        text = text.upper()
    if rng.random() < 0.3:
        text = _plain_letters(text)
    if rng.random() < 0.04:
        text = _slip(text, rng)
    if rng.random() < 0.02:
        text += rng.choice(("?", "!", " ", "..", "??", " :)"))
    return text or "?"


def _hurried(text: str, rng: Random) -> str:
    """Without one to all of its filling words, if at least two others stay."""
    words = text.split()
    fillers = [i for i, word in enumerate(words) if word.casefold().strip("¿?.,!") in _FILLERS]
    if len(words) - len(fillers) < 2 or not fillers:
        return text
    left_out = set(rng.sample(fillers, k=rng.randint(1, len(fillers))))
    return " ".join(word for i, word in enumerate(words) if i not in left_out)


def _plain_letters(text: str) -> str:
    """Without accents and opening marks, as typed on a keyboard that has none."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return bare.lstrip("¿¡")


def _slip(text: str, rng: Random) -> str:
    """Two neighbouring letters swapped, or one left out."""
    places = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + (text[i] if rng.random() < 0.6 else "") + text[i + 2 :]
