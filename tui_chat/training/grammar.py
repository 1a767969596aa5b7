"""Dialogues made from the written corpus by a seeded grammar.

A dialogue is a system prompt (or none), one to six exchanges from one or more subjects, and a state of the thinking
switch. The user's words are varied: openings, lower case, lost full stops, a slip of the finger. What is kept out of
the training is kept out after the variation too: `normalised` decides whether two wordings are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from tui_chat.training import skills
from tui_chat.training.dialogue import Dialogue, Exchange, Thinking
from tui_chat.training.sources import Sources, Topic

Skill = Callable[[Sources, Random, bool], list[Exchange]]

_SKILLS: tuple[tuple[Skill, float], ...] = (
    (skills.arithmetic, 19),
    (skills.counting, 2),
    (skills.fact, 9),
    (skills.name, 6),
    (skills.haiku, 6),
    (skills.story, 4),
    (skills.unknown, 12),
)
_EXPLAINED_WEIGHT = 38.0
_TALKED_WEIGHT = 22.0

_THINK_FREELY = 0.05
"""Share of answers with a think block although nobody asked for one."""


def normalised(text: str) -> str:
    """The words alone: no case, no punctuation."""
    return " ".join(re.findall(r"[a-z0-9/+=-]+", text.casefold()))


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]


class Grammar:
    """Makes exchanges and dialogues; the same seed makes the same ones.

    Args:
        sources: The written corpus.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.held_out = frozenset(normalised(text) for text in self._held_out_questions())
        """Normalised questions that no training dialogue may contain."""

    # Exchanges

    def topic_questions(self, topic: Topic, held_out: bool) -> list[str]:
        """Every wording for `topic`, made of the shared frames and of its own."""
        frames = self.sources.frames
        questions = list(topic.held_out if held_out else topic.ask)
        for name in topic.one:
            bare = re.sub(r"^(a|an|the) ", "", name)
            questions += [frame.format(x=name, b=bare) for frame in skills.ways(frames, "one", held_out)]
        for name in topic.many:
            questions += [frame.format(x=name) for frame in skills.ways(frames, "many", held_out)]
        return [question[0].upper() + question[1:] for question in questions]

    def explain(self, topic: Topic, rng: Random, held_out: bool = False) -> list[Exchange]:
        """A question about a topic, and perhaps "tell me more" or "an example?" after it."""
        frames = self.sources.frames
        if held_out or rng.random() < 0.5:
            ask = rng.choice(self.topic_questions(topic, held_out))
        else:
            ask = rng.choice(topic.ask)
        label = rng.choice(topic.one + topic.many)
        think = rng.choice(frames["think_topic"]).format(x=label)
        exchanges = [Exchange(topic.id, ask, rng.choice(topic.answers), think)]
        follow_ups = [("more", topic.more), ("example", topic.example)]
        rng.shuffle(follow_ups)
        for kind, answers in follow_ups[: rng.choice((0, 0, 1, 1, 2))]:
            ask = rng.choice(skills.ways(frames, kind, held_out))
            think = rng.choice(frames[f"think_{kind}"]).format(x=label)
            exchanges.append(Exchange(f"{topic.id}.{kind}", ask, rng.choice(answers), think))
        return exchanges

    def talk(self, topic: Topic, rng: Random, held_out: bool = False) -> list[Exchange]:
        """Small talk: a remark and a reply."""
        ask = rng.choice(topic.held_out if held_out else topic.ask)
        return [Exchange(topic.id, ask, rng.choice(topic.answers), rng.choice(topic.think))]

    def subject(self, rng: Random, held_out: bool = False) -> list[Exchange]:
        """Exchanges that belong together, on anything."""
        skill_weight = sum(weight for _, weight in _SKILLS)
        choice = rng.random() * (skill_weight + _EXPLAINED_WEIGHT + _TALKED_WEIGHT)
        if choice < _EXPLAINED_WEIGHT:
            return self.explain(rng.choice(self.sources.explained), rng, held_out)
        if choice < _EXPLAINED_WEIGHT + _TALKED_WEIGHT:
            return self.talk(rng.choice(self.sources.talked), rng, held_out)
        skill = rng.choices([skill for skill, _ in _SKILLS], [weight for _, weight in _SKILLS])[0]
        return skill(self.sources, rng, held_out)

    # Dialogues

    def dialogue(self, rng: Random) -> Dialogue:
        """One training dialogue."""
        n_exchanges = rng.choices((1, 2, 3, 4, 6), (30, 25, 20, 20, 5))[0]
        exchanges: list[Exchange] = []
        late: Exchange | None = None
        while len(exchanges) < n_exchanges:
            subject = self.subject(rng)
            if subject[0].intent == "name_told" and any(e.intent == "name_told" for e in exchanges):
                continue
            if len(subject) == 2 and subject[1].intent == "name_known" and rng.random() < 0.6 and late is None:
                late = subject.pop()
            exchanges += subject
        exchanges = exchanges[:n_exchanges]
        if late is not None:
            exchanges.append(late)
        elif any(e.intent == "name_told" for e in exchanges):
            # A name that was told is known: no later answer may deny it.
            exchanges = [e for e in exchanges if e.intent != "name_not_known"]
        exchanges = [e for e in exchanges if late is None or e.intent != "name_not_known"]
        exchanges = [self._varied(e, rng) for e in exchanges]
        system, exchanges = self._under_system_prompt(exchanges, rng)
        thinking = rng.choices((Thinking.FREE, Thinking.ON, Thinking.OFF), (80, 11, 9))[0]
        return Dialogue(tuple(self._thought(exchanges, thinking, rng)), system, thinking)

    def dialogues(self, seed: int, count: int) -> Iterator[Dialogue]:
        """`count` different training dialogues; fewer if the grammar has no more to say."""
        rng = Random(seed)
        seen: set[int] = set()
        for _ in range(count * 3):
            if len(seen) == count:
                return
            dialogue = self.dialogue(rng)
            key = hash((dialogue.system, dialogue.thinking, dialogue.exchanges))
            if key not in seen and dialogue.exchanges:
                seen.add(key)
                yield dialogue

    # Private

    def _held_out_questions(self) -> Iterator[str]:
        sources = self.sources
        for topic in sources.explained + sources.talked:
            yield from self.topic_questions(topic, held_out=True)
        for phrases in (sources.frames, sources.haiku, sources.stories, sources.names, sources.unknown):
            for key, texts in phrases.items():
                if key.endswith("held_out"):
                    yield from texts

    def _varied(self, exchange: Exchange, rng: Random) -> Exchange:
        for _ in range(20):
            user = vary(exchange.user, self.sources, rng, freely=exchange.plain)
            if normalised(user) not in self.held_out:
                return replace(exchange, user=user)
        return exchange

    def _under_system_prompt(self, exchanges: list[Exchange], rng: Random) -> tuple[str | None, list[Exchange]]:
        frames = self.sources.frames
        choice = rng.random()
        if choice < 0.7:
            return None, exchanges
        if choice < 0.9:
            return rng.choice(frames["system"]), exchanges
        if choice < 0.95:
            brief = [
                e if "\n" in e.answer or e.must_contain else replace(e, answer=first_sentence(e.answer))
                for e in exchanges
            ]
            return rng.choice(frames["system_brief"]), brief
        name = skills.pseudo_word(self.sources, rng)
        me = next(topic for topic in self.sources.smalltalk if topic.id == "who_are_you")
        asked = Exchange(me.id, rng.choice(me.ask), "", rng.choice(me.think))
        exchanges = [e for e in exchanges if e.intent != me.id]
        exchanges.insert(rng.randint(0, len(exchanges)), self._varied(asked, rng))
        exchanges = [replace(e, answer=re.sub(r"\bpocket\b(?!\.)", name, e.answer)) for e in exchanges]
        named = [
            replace(e, answer=rng.choice(frames["name_answers"]).format(n=name)) if e.intent == me.id else e
            for e in exchanges
        ]
        return rng.choice(frames["system_name"]).format(n=name), named

    def _thought(self, exchanges: list[Exchange], thinking: Thinking, rng: Random) -> Iterator[Exchange]:
        for exchange in exchanges:
            user, think = exchange.user, exchange.think
            if thinking is Thinking.OFF:
                think = ""
            elif thinking is Thinking.FREE:
                if rng.random() < 0.03:
                    user = rng.choice(self.sources.frames["think_first"]) + user
                elif rng.random() >= _THINK_FREELY:
                    think = ""
            yield replace(exchange, user=user, think=think)


def vary(text: str, sources: Sources, rng: Random, *, freely: bool = True) -> str:
    """The same words as somebody else might type them.

    Args:
        text: What the user says.
        sources: For openings and closings.
        rng: Decides.
        freely: Also change letters and case; off where a name or a number must stay as it is.
    """
    if rng.random() < 0.08 and not text.startswith("/"):
        opening = rng.choice(sources.frames["opening"])
        text = opening + (text if text.startswith(("I ", "I'")) or not freely else text[0].lower() + text[1:])
    if rng.random() < 0.05 and text.endswith(("?", ".")):
        text += rng.choice(sources.frames["closing"])
    if rng.random() < 0.3:
        text = text.rstrip("?.!")
    if not freely:
        return text
    if rng.random() < 0.3:
        text = text.lower()
    elif rng.random() < 0.02:
        text = text.upper()
    if rng.random() < 0.04:
        text = _slip(text, rng)
    if rng.random() < 0.02:
        text += rng.choice(("?", "!", " ", "..", "??", " :)"))
    return text or "?"


def _slip(text: str, rng: Random) -> str:
    """Two neighbouring letters swapped, or one left out."""
    places = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + (text[i] if rng.random() < 0.6 else "") + text[i + 2 :]
