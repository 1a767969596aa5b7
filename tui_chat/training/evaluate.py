"""How good a model is on wordings it never saw, by greedy decoding, and what temperature does to its haiku."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Protocol

from tui_chat.training import calculations, skills, structured
from tui_chat.training.dialogue import THINK_CLOSE, Dialogue, Exchange, Thinking
from tui_chat.training.grammar import Grammar
from tui_chat.training.judge import Judge, is_three_lines, parsed
from tui_chat.training.sources import CORPUS_DIR, Language, Topic, load_sources, ways
from tui_chat.training.wording import first_sentence

MAX_ANSWER_TOKENS = 200
"""An answer that is not complete by then counts as not stopping."""

HAIKU_TEMPERATURES = (0.7, 1.5, 2.0)
_HAIKU_DRAWS = 10


class Written(Protocol):
    """What a model wrote after a prompt."""

    @property
    def text(self) -> str:
        """Without the token that ended it."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the model ended it by itself."""
        ...


class Writer(Protocol):
    """Something that continues texts: PyTorch with a checkpoint, or the engine with a GGUF file."""

    def __call__(
        self, prompts: Sequence[str], max_tokens: int, *, temperature: float = 0.0, seed: int = 0
    ) -> Sequence[Written]:
        """One continuation of every prompt; at temperature 0 the most likely tokens, otherwise drawn from all."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One question put to the model; the answer to the last exchange is what counts."""

    group: str
    dialogue: Dialogue

    @property
    def asked(self) -> Exchange:
        """The exchange the model has to answer."""
        return self.dialogue.exchanges[-1]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said."""

    case: Case
    text: str
    stopped: bool
    right: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Answers of one group."""

    group: str
    n: int
    right: int
    stopped: int


@dataclass(frozen=True, slots=True)
class HaikuScore:
    """Haiku drawn at one temperature, without truncation. All but the temperature are shares of `n`."""

    temperature: float
    n: int
    three_lines: float
    on_theme: float
    distinct: float
    """Different ones among ten of the same theme."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All groups and the answers that were not right."""

    scores: tuple[Score, ...]
    wrong: tuple[Answer, ...]
    json_parses: float | None = None
    """Share of the JSON answers that can be read as JSON, right or not."""
    haiku: tuple[HaikuScore, ...] = ()

    @property
    def total(self) -> Score:
        """All groups together."""
        return Score("all", *(sum(getattr(s, key) for s in self.scores) for key in ("n", "right", "stopped")))

    def table(self) -> str:
        """For a terminal."""
        lines = [f"{'held-out questions, greedy':<34}{'n':>6}{'right':>8}{'stops':>8}"]
        for score in (*self.scores, self.total):
            lines.append(f"{score.group:<34}{score.n:>6}{score.right / score.n:>8.3f}{score.stopped / score.n:>8.3f}")
        if self.json_parses is not None:
            lines.append(f"{'JSON answers that parse':<34}{'':>6}{self.json_parses:>8.3f}")
        if self.haiku:
            lines.append(f"\n{'haiku at temperature':<34}{'n':>6}{'3 lines':>8}{'theme':>8}{'distinct':>9}")
        for s in self.haiku:
            lines.append(f"{s.temperature:<34}{s.n:>6}{s.three_lines:>8.3f}{s.on_theme:>8.3f}{s.distinct:>9.3f}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "scores": [asdict(score) for score in (*self.scores, self.total)],
            "json_parses": self.json_parses,
            "haiku": [asdict(score) for score in self.haiku],
            "wrong": [
                {"group": a.case.group, "intent": a.case.asked.intent, "user": a.case.asked.user, "answer": a.text}
                for a in self.wrong
            ],
        }


def evaluate(write: Writer, *, seed: int = 0, cases: Sequence[Case] | None = None) -> Evaluation:
    """Ask a model every held-out question (or `cases`) and judge the answers."""
    sources = load_sources(CORPUS_DIR)
    grammar, judge = Grammar(sources), Judge(sources)
    asked = list(held_out_cases(grammar, Random(seed)) if cases is None else cases)
    replies = write([case.dialogue.prompt() for case in asked], MAX_ANSWER_TOKENS)
    answers = [_judged(judge, case, reply) for case, reply in zip(asked, replies, strict=True)]
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.case.group, []).append(answer)
    json_texts = [answer.text for answer in answers if answer.case.asked.intent == "json"]
    return Evaluation(
        scores=tuple(
            Score(group, len(given), sum(a.right for a in given), sum(a.stopped for a in given))
            for group, given in groups.items()
        ),
        wrong=tuple(answer for answer in answers if not answer.right),
        json_parses=sum(parsed(text) is not None for text in json_texts) / len(json_texts) if json_texts else None,
        haiku=() if cases is not None else tuple(_haiku_at(t, grammar, judge, write) for t in HAIKU_TEMPERATURES),
    )


def _judged(judge: Judge, case: Case, reply: Written) -> Answer:
    text = reply.text.split(THINK_CLOSE)[-1].strip()
    right = judge.is_right(case.asked, text)
    if case.group == "told to be brief":
        right = right and text == first_sentence(text)
    return Answer(case, text, reply.stopped, right)


def held_out_cases(grammar: Grammar, rng: Random) -> Iterator[Case]:
    """Every held-out wording of the topics, and a sample of each skill in held-out wordings."""
    sources, english = grammar.sources, grammar.sources.english
    yield from _topic_cases(grammar, english, english.concepts, "language models", rng)
    yield from _topic_cases(grammar, english, english.program, "this program", rng)
    yield from _topic_cases(grammar, english, english.smalltalk, "small talk", rng)
    yield from _topic_cases(grammar, english, english.lists, "lists", rng)
    for language in sources.others:
        yield from _topic_cases(grammar, language, language.concepts, f"language models, {language.code}", rng)
        yield from _topic_cases(grammar, language, language.smalltalk, f"small talk, {language.code}", rng)
    for language in sources.languages:
        for topic in language.explained:
            first = Exchange(topic.id, rng.choice(topic.ask), rng.choice(topic.answers))
            for kind, answers in (("more", topic.more), ("example", topic.example)):
                ask = rng.choice(ways(language.frames, kind, held_out=True))
                yield _case("follow-ups", first, Exchange(f"{topic.id}.{kind}", ask, answers[0]))
        for _ in range(120 if language is english else 40):
            yield _case("not known", *skills.unknown(sources, rng, True, language))
        for _ in range(80 if language is english else 40):
            yield _case("haiku", *skills.haiku(language, rng, True))
    for _ in range(120):
        yield _case("names recalled", *skills.name(sources, rng, True))
        yield _case("JSON", *structured.json_answer(sources, rng, True))
        yield _case("repeat after me", *structured.repeat(sources, rng, True))
    for _ in range(60):
        yield _case("stories", *skills.story(sources, rng, True))
        yield _case("counting", *calculations.counting(sources, rng, True))
    for table in sources.facts:
        for pair in table.pairs:
            yield _case(f"{table.id}s", skills.look_up(table, rng.choice(table.held_out), pair, rng))
    yield from _calculation_cases(grammar, rng)
    yield from _circumstances(grammar, rng)


def _topic_cases(
    grammar: Grammar, language: Language, topics: Sequence[Topic], group: str, rng: Random
) -> Iterator[Case]:
    """The held-out questions of every topic, and two of the held-out frames around its names."""
    for topic in topics:
        questions = grammar.topic_questions(language, topic, held_out=True)
        own, framed = questions[: len(topic.held_out)], questions[len(topic.held_out) :]
        for ask in own + rng.sample(framed, k=min(2, len(framed))):
            yield _case(group, Exchange(topic.id, ask, topic.answers[0]))


def _calculation_cases(grammar: Grammar, rng: Random) -> Iterator[Case]:
    numbers = grammar.sources.numbers

    def ask(kind: str, a: int, b: int) -> Exchange:
        return calculations.calculation(numbers, kind, a, b, rng.choice(ways(numbers, kind, held_out=True)))

    for a in range(10):
        for b in range(10):
            yield _case("sums of single digits", ask("sum", a, b))
    for kind in ("sum", "difference"):
        for kept_out in (False, True):
            for _ in range(100):
                a, b = calculations.operands(kind, rng)
                while max(a, b) < 10 or calculations.is_kept_out(kind, a, b) is not kept_out:
                    a, b = calculations.operands(kind, rng)
                exchange = ask(kind, a, b)
                group = f"{kind}s to 100" + (", pairs never seen" if kept_out else "")
                yield _case(group, exchange)
                yield Case(f"{group}, thinking", Dialogue((exchange,), None, Thinking.ON))
    for _ in range(60):
        yield _case("products to 10 x 10", ask("product", *calculations.operands("product", rng)))


def _circumstances(grammar: Grammar, rng: Random) -> Iterator[Case]:
    """The same questions in other places: as the fourth turn, thinking, under a system prompt."""
    sources, english = grammar.sources, grammar.sources.english
    frames = english.frames
    for topic in english.concepts:
        exchange = Exchange(topic.id, topic.held_out[0], topic.answers[0])
        before = [grammar.explain(english, rng.choice(english.smalltalk), rng)[0] for _ in range(3)]
        yield _case("as first turn", exchange)
        yield _case("the same as fourth turn", *before, exchange)
        yield Case("the same, thinking", Dialogue((exchange,), None, Thinking.ON))
        yield Case("the same, not thinking", Dialogue((exchange,), None, Thinking.OFF))
        if any(first_sentence(answer) != answer for answer in topic.answers):
            brief = replace(exchange, answer=first_sentence(topic.answers[0]))
            yield Case("told to be brief", Dialogue((brief,), rng.choice(frames["system_brief"])))
    for language in sources.others:
        known = {topic.subject: topic for topic in language.concepts}
        for topic in english.concepts:
            if topic.subject in known:
                exchange = Exchange(known[topic.subject].id, topic.held_out[0], known[topic.subject].answers[0])
                system = rng.choice(language.frames["system_language"])
                yield Case("told to use a language", Dialogue((exchange,), system))
    me = next(topic for topic in english.smalltalk if topic.id == "who_are_you")
    for _ in range(60):
        name = skills.pseudo_word(sources, rng)
        answer = rng.choice(frames["name_answers"]).format(n=name)
        exchange = Exchange(me.id, rng.choice(me.held_out), answer, must_contain=(name,))
        yield Case("told its name", Dialogue((exchange,), rng.choice(frames["system_name"]).format(n=name)))


def _haiku_at(temperature: float, grammar: Grammar, judge: Judge, write: Writer) -> HaikuScore:
    """Ten haiku on every English theme."""
    english = grammar.sources.english
    ask = ways(english.haiku, "ask", held_out=True)[0]
    asked = [Exchange("haiku", ask.format(theme=theme.name), "") for theme in english.themes]
    prompts = [Dialogue((exchange,)).prompt() for exchange in asked for _ in range(_HAIKU_DRAWS)]
    replies = write(prompts, MAX_ANSWER_TOKENS, temperature=temperature)
    texts = [reply.text.split(THINK_CLOSE)[-1].strip() for reply in replies]
    groups = [texts[i : i + _HAIKU_DRAWS] for i in range(0, len(texts), _HAIKU_DRAWS)]
    on_theme = sum(judge.is_on_theme(e, text) for e, group in zip(asked, groups, strict=True) for text in group)
    return HaikuScore(
        temperature=temperature,
        n=len(texts),
        three_lines=sum(map(is_three_lines, texts)) / len(texts),
        on_theme=on_theme / len(texts),
        distinct=sum(len(set(group)) for group in groups) / len(texts),
    )


def _case(group: str, *exchanges: Exchange) -> Case:
    return Case(group, Dialogue(exchanges))
