"""Whether an answer is right.

Where that can be decided (a sum, a capital, a name, JSON), an answer is right when it says the right thing; elsewhere
it must be *on topic*: closer to an answer of its own subject than to any of another, and close at all. Closeness is
the F1 score over words, and the subjects are those of the corpus in all its languages.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tui_chat.training.dialogue import Exchange
from tui_chat.training.sources import Sources, normalised
from tui_chat.training.wording import first_sentence

_CLOSE_ENOUGH = 0.5
"""F1 over words below which an answer is on no topic at all."""


class Judge:
    """Decides whether an answer is right.

    Args:
        sources: Whose answers the answer is compared with.
    """

    def __init__(self, sources: Sources) -> None:
        self._haiku_lines = {
            theme.name: {*theme.first, *theme.second, *theme.third}
            for language in sources.languages
            for theme in language.themes
        }
        self._heroes = [hero.name for hero in sources.heroes]
        known = [(intent, Counter(normalised(text).split())) for intent, text in _answers(sources)]
        self._intents = [intent for intent, _ in known]
        self._columns = {word: i for i, word in enumerate(sorted({word for _, words in known for word in words}))}
        # (n_answers, n_words): how often an answer has a word
        self._counts = np.zeros((len(known), len(self._columns)), dtype=np.int16)
        for row, (_, words) in enumerate(known):
            for word, count in words.items():
                self._counts[row, self._columns[word]] = count
        self._lengths = self._counts.sum(axis=1)

    def is_right(self, asked: Exchange, text: str) -> bool:
        """Whether `text` answers `asked`."""
        match asked.intent:
            case "haiku":
                return is_three_lines(text) and self.is_on_theme(asked, text)
            case "json":
                return parsed(text) == parsed(asked.answer) is not None
            case "repeat":
                return normalised(text) == normalised(asked.answer)
        if not all(part.casefold() in text.casefold() for part in asked.must_contain):
            return False
        if asked.intent == "story":
            return text.count(".") >= 3 and any(hero in text for hero in self._heroes)
        return bool(asked.must_contain) or asked.intent in self.nearest(text)

    def nearest(self, text: str) -> set[str]:
        """The subjects with the answer closest to `text`: more than one where they share it, none if all are far."""
        words = Counter(normalised(text).split())
        shared = [(self._columns[word], count) for word, count in words.items() if word in self._columns]
        columns, counts = [column for column, _ in shared], np.array([count for _, count in shared], dtype=np.int16)
        common = np.minimum(self._counts[:, columns], counts).sum(axis=1)
        f1 = 2 * common / np.maximum(1, self._lengths + words.total())
        best = f1.max()
        if best < _CLOSE_ENOUGH:
            return set()
        return {self._intents[row] for row in np.flatnonzero(f1 == best)}

    def is_on_theme(self, asked: Exchange, text: str) -> bool:
        """Whether two lines or more of a haiku are such of the theme asked for (of any where none was)."""
        themes = [theme for theme in self._haiku_lines if f" {theme}" in asked.user or f": {theme}" in asked.user]
        wanted = self._haiku_lines[max(themes, key=len)] if themes else set().union(*self._haiku_lines.values())
        return sum(line.strip() in wanted for line in text.splitlines()) >= 2


def is_three_lines(text: str) -> bool:
    """Whether `text` has the outer form of a haiku."""
    return len([line for line in text.splitlines() if line.strip()]) == 3


def parsed(text: str) -> object:
    """`text` read as JSON; None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _answers(sources: Sources) -> Iterator[tuple[str, str]]:
    for language in sources.languages:
        for topic in language.topics:
            yield from ((topic.id, text) for text in topic.answers)
            yield from ((topic.id, first_sentence(text)) for text in topic.answers)
            yield from ((f"{topic.id}.more", text) for text in topic.more)
            yield from ((f"{topic.id}.example", text) for text in topic.example)
        intent = "unknown" if language is sources.english else f"{language.code}.unknown"
        yield from ((intent, text) for text in language.unknown["answers"])
    yield from (("name_not_known", text) for text in sources.names["not_known"])
