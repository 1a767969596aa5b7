"""Dialogues made from the written corpus by a seeded grammar.

A dialogue is a system prompt (or none), one to six exchanges from one or more subjects, and a state of the thinking
switch. The user's words are varied (`wording.py`). What is kept out of the training is kept out after the variation
too: `normalised` decides whether two wordings are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from tui_chat.training import calculations, skills, structured
from tui_chat.training.dialogue import Dialogue, Exchange, Thinking
from tui_chat.training.sources import Language, Phrases, Sources, Topic, normalised, ways
from tui_chat.training.wording import first_sentence, vary

Skill = Callable[[Sources, Random, bool], list[Exchange]]

_SKILLS: tuple[tuple[Skill, float], ...] = (
    (calculations.arithmetic, 25),
    (calculations.counting, 4),
    (skills.fact, 7),
    (skills.name, 7),
    (skills.story, 3),
    (structured.json_answer, 10),
    (structured.repeat, 9),
)
"""What is spoken of in English only, with its share of the subjects."""

_EXPLAINED, _TALKED, _HAIKU, _UNKNOWN = 24.0, 12.0, 6.0, 12.0
"""Shares of what is spoken of in every language."""

_OPENINGS = 0.6
"""Share of the dialogues that only open an answer to one question. In how many wordings a topic is asked about is most
of what there is to learn, and this is the cheapest way to see them all."""

_THINK_FREELY = 0.04
"""Share of answers with a think block although nobody asked for one."""

_THINKING = (83, 7, 10)
"""Shares of dialogues with the switch at "free", "on" and "off"."""

_THINKING_NUMBERS = (48, 42, 10)
"""The same where something is calculated: thinking helps there."""

_LANGUAGE_SWITCH = 0.1
"""Chance that a subject of a dialogue is in English although the dialogue is not."""


class Grammar:
    """Makes exchanges and dialogues; the same seed makes the same ones.

    Args:
        sources: The written corpus.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.held_out = frozenset(normalised(text) for text in self._held_out_questions())
        """Normalised questions that no training dialogue may contain."""
        self._held_out_forms = re.compile(
            r"(.+ )?(" + "|".join(sorted(map(_form, filter(_has_slot, self._held_out_questions())))) + ")"
        )
        self._twins = {
            language.code: {topic.subject: topic for topic in language.topics} for language in sources.languages
        }

    # Exchanges

    def topic_questions(self, language: Language, topic: Topic, held_out: bool) -> list[str]:
        """Every wording for `topic`, its own first, then those made of the shared frames."""
        frames = language.frames
        questions = list(topic.held_out if held_out else topic.ask)
        for name in topic.one:
            bare = re.sub(r"^(a|an|the) ", "", name)
            questions += [frame.format(x=name, b=bare) for frame in ways(frames, "one", held_out)]
        for name in topic.many:
            questions += [frame.format(x=name) for frame in ways(frames, "many", held_out)]
        return [question[0].upper() + question[1:] for question in questions]

    def explain(
        self, language: Language, topic: Topic, rng: Random, answered: Language | None = None
    ) -> list[Exchange]:
        """A question about a topic, and perhaps "tell me more" or "an example?" after it.

        Args:
            language: Of the questions.
            topic: In that language.
            rng: Decides.
            answered: Language of the answers where it is another.
        """
        frames = language.frames
        source = topic if answered is None else self._twins[answered.code][topic.subject]
        own = rng.random() < 0.75 or not (topic.one or topic.many)
        ask = rng.choice(topic.ask) if own else rng.choice(self.topic_questions(language, topic, held_out=False))
        if not topic.more:
            return [Exchange(source.id, ask, rng.choice(source.answers), rng.choice(source.think))]
        thoughts = (answered or language).frames
        label = rng.choice(source.one + source.many)
        think = rng.choice(thoughts["think_topic"]).format(x=label)
        exchanges = [Exchange(source.id, ask, rng.choice(source.answers), think)]
        follow_ups = [("more", source.more), ("example", source.example)]
        rng.shuffle(follow_ups)
        for kind, answers in follow_ups[: rng.choice((0, 0, 1, 1, 2))]:
            think = rng.choice(thoughts[f"think_{kind}"]).format(x=label)
            exchanges.append(Exchange(f"{source.id}.{kind}", rng.choice(frames[kind]), rng.choice(answers), think))
        return exchanges

    def subject(self, language: Language, rng: Random) -> list[Exchange]:
        """Exchanges that belong together, on anything."""
        english = language is self.sources.english
        skills_share = sum(weight for _, weight in _SKILLS) if english else 0.0
        kind = rng.choices(
            ("explained", "talked", "haiku", "unknown", "skill"),
            (_EXPLAINED, _TALKED, _HAIKU, _UNKNOWN, skills_share),
        )[0]
        match kind:
            case "explained":
                return self.explain(language, rng.choice(language.explained), rng)
            case "talked":
                return self.explain(language, rng.choice(language.talked), rng)
            case "haiku":
                return skills.haiku(language, rng, held_out=False)
            case "unknown":
                return skills.unknown(self.sources, rng, held_out=False, language=language)
        skill = rng.choices([skill for skill, _ in _SKILLS], [weight for _, weight in _SKILLS])[0]
        return skill(self.sources, rng, False)

    # Dialogues

    def dialogue(self, rng: Random) -> Dialogue:
        """One training dialogue."""
        choice = rng.random()
        language = rng.choice(self.sources.others) if choice < 0.18 else self.sources.english
        system: str | None
        if 0.18 <= choice < 0.22:
            system, exchanges = self._in_a_language_asked_for(rng)
        else:
            system, exchanges = self._under_system_prompt(language, self._exchanges(language, rng), rng)
        calculated = any(exchange.intent in calculations.KINDS for exchange in exchanges)
        thinking = rng.choices(tuple(Thinking), _THINKING_NUMBERS if calculated else _THINKING)[0]
        return Dialogue(tuple(self._thought(exchanges, thinking, rng)), system, thinking)

    def opening(self, rng: Random) -> Dialogue:
        """One question about a topic, and how its answer begins."""
        language = rng.choice(self.sources.others) if rng.random() < 0.18 else self.sources.english
        talked = rng.random() < _TALKED / (_EXPLAINED + _TALKED)
        topic = rng.choice(language.talked if talked else language.explained)
        exchange = self._varied(language, self.explain(language, topic, rng)[0], rng)
        return Dialogue((replace(exchange, think=""),), opened=True)

    def dialogues(self, seed: int, count: int) -> Iterator[Dialogue]:
        """`count` different training dialogues; fewer if the grammar has no more to say."""
        rng = Random(seed)
        seen: set[int] = set()
        for _ in range(count * 3):
            if len(seen) == count:
                return
            dialogue = self.opening(rng) if rng.random() < _OPENINGS else self.dialogue(rng)
            key = hash((dialogue.system, dialogue.thinking, dialogue.exchanges))
            if key not in seen and dialogue.exchanges:
                seen.add(key)
                yield dialogue

    # Private

    def _held_out_questions(self) -> Iterator[str]:
        sources = self.sources
        for language in sources.languages:
            for topic in language.topics:
                yield from self.topic_questions(language, topic, held_out=True)
            yield from _kept_out(language.frames, language.haiku, language.unknown)
        yield from _kept_out(sources.stories, sources.names, sources.json, sources.repeat, sources.numbers)
        for table in sources.facts:
            yield from table.held_out

    def _exchanges(self, language: Language, rng: Random) -> list[Exchange]:
        n_exchanges = rng.choices((1, 2, 3, 4, 6), (30, 25, 20, 20, 5))[0]
        exchanges: list[Exchange] = []
        late: Exchange | None = None
        while len(exchanges) < n_exchanges:
            spoken = self.sources.english if rng.random() < _LANGUAGE_SWITCH else language
            subject = [self._varied(spoken, exchange, rng) for exchange in self.subject(spoken, rng)]
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
        return [e for e in exchanges if late is None or e.intent != "name_not_known"]

    def _in_a_language_asked_for(self, rng: Random) -> tuple[str, list[Exchange]]:
        """A system prompt that asks for a language, and answers in it whatever the questions are in."""
        answered = rng.choice(self.sources.others)
        known = self._twins[answered.code]
        exchanges: list[Exchange] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            language = rng.choice((self.sources.english, self.sources.english, answered))
            topics = [topic for topic in language.topics if topic.subject in known]
            subject = self.explain(language, rng.choice(topics), rng, answered)
            if rng.random() < 0.15:
                asked = skills.unknown(self.sources, rng, False, language)[0]
                subject = [skills.not_known(answered, rng, asked.user)]
            elif rng.random() < 0.1:
                ask = rng.choice(language.haiku["ask_any"])
                subject = [skills.haiku_on(answered, rng, rng.choice(answered.themes), ask)]
            exchanges += [self._varied(language, exchange, rng) for exchange in subject]
        return rng.choice(answered.frames["system_language"]), exchanges

    def _varied(self, language: Language, exchange: Exchange, rng: Random) -> Exchange:
        for _ in range(20):
            user = vary(exchange.user, language.frames, rng, freely=exchange.plain)
            if not self._is_kept_out(user):
                return replace(exchange, user=user)
        return exchange

    def _is_kept_out(self, user: str) -> bool:
        words = normalised(user)
        return words in self.held_out or self._held_out_forms.fullmatch(words) is not None

    def _under_system_prompt(
        self, language: Language, exchanges: list[Exchange], rng: Random
    ) -> tuple[str | None, list[Exchange]]:
        frames = language.frames
        choice = rng.random()
        if choice < 0.68:
            return None, exchanges
        if choice < 0.88 or language is not self.sources.english:
            return rng.choice(frames["system"]), exchanges
        if choice < 0.94:
            brief = [
                e if "\n" in e.answer or e.must_contain else replace(e, answer=first_sentence(e.answer))
                for e in exchanges
            ]
            return rng.choice(frames["system_brief"]), brief
        return self._under_a_name(skills.pseudo_word(self.sources, rng), exchanges, rng)

    def _under_a_name(self, name: str, exchanges: list[Exchange], rng: Random) -> tuple[str, list[Exchange]]:
        english = self.sources.english
        me = self._twins["en"]["who_are_you"]
        asked = Exchange(me.id, rng.choice(me.ask), "", rng.choice(me.think))
        exchanges = [e for e in exchanges if e.intent != me.id]
        exchanges.insert(rng.randint(0, len(exchanges)), self._varied(english, asked, rng))
        exchanges = [replace(e, answer=re.sub(r"\bpocket\b(?!\.)", name, e.answer)) for e in exchanges]
        named = [
            replace(e, answer=rng.choice(english.frames["name_answers"]).format(n=name), must_contain=(name,))
            if e.intent == me.id
            else e
            for e in exchanges
        ]
        return rng.choice(english.frames["system_name"]).format(n=name), named

    def _thought(self, exchanges: list[Exchange], thinking: Thinking, rng: Random) -> Iterator[Exchange]:
        for exchange in exchanges:
            user, think = exchange.user, exchange.think
            if thinking is Thinking.OFF:
                think = ""
            elif thinking is Thinking.FREE:
                if rng.random() < 0.03:
                    user = rng.choice(self.sources.english.frames["think_first"]) + user
                elif rng.random() >= _THINK_FREELY:
                    think = ""
            yield replace(exchange, user=user, think=think)


def _has_slot(text: str) -> bool:
    return "{" in text


def _form(template: str) -> str:
    """A pattern of all normalised texts that `template` gives, whatever is in its slots."""
    parts = (re.escape(normalised(part)) for part in re.split(r"\{\w+\}", template))
    return r"\s?(?:.+?)\s?".join(parts)


def _kept_out(*files: Phrases) -> Iterator[str]:
    for phrases in files:
        for key, texts in phrases.items():
            if key.endswith("held_out"):
                yield from texts
