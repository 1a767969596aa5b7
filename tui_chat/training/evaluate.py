"""How good a model is on wordings it never saw, by greedy decoding.

An answer is right, where that can be decided (a sum, a capital, a name), when it contains the right thing; elsewhere it
must be *on topic*: closer to an answer of its own subject than to any of another, and close at all. Closeness is the
F1 score over words, and the subjects are those of the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tui_chat.training import skills
from tui_chat.training.checkpoint import Checkpoint
from tui_chat.training.dialogue import IM_END, THINK_CLOSE, Dialogue, Exchange, Thinking
from tui_chat.training.grammar import Grammar, normalised
from tui_chat.training.model import Decoder, KVCache
from tui_chat.training.sources import CORPUS_DIR, Sources, load_sources
from tui_chat.training.tokenizer import token_id

MAX_ANSWER_TOKENS = 160
"""An answer that is not complete by then counts as not stopping."""

_BATCH = 64

_CLOSE_ENOUGH = 0.5
"""F1 over words below which an answer is on no topic at all."""


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
class Evaluation:
    """All groups and the answers that were not right."""

    scores: tuple[Score, ...]
    wrong: tuple[Answer, ...]

    @property
    def total(self) -> Score:
        """All groups together."""
        return Score("all", *(sum(getattr(s, key) for s in self.scores) for key in ("n", "right", "stopped")))

    def table(self) -> str:
        """For a terminal."""
        lines = [f"{'held-out questions, greedy':<30}{'n':>6}{'right':>8}{'stops':>8}"]
        for score in (*self.scores, self.total):
            lines.append(f"{score.group:<30}{score.n:>6}{score.right / score.n:>8.3f}{score.stopped / score.n:>8.3f}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "scores": [asdict(score) for score in (*self.scores, self.total)],
            "wrong": [
                {"group": a.case.group, "intent": a.case.asked.intent, "user": a.case.asked.user, "answer": a.text}
                for a in self.wrong
            ],
        }


def evaluate(checkpoint: Checkpoint, *, seed: int = 0, cases: Sequence[Case] | None = None) -> Evaluation:
    """Ask the model of `checkpoint` every held-out question (or `cases`) and judge the answers."""
    sources = load_sources(CORPUS_DIR)
    grammar = Grammar(sources)
    asked = list(held_out_cases(grammar, Random(seed)) if cases is None else cases)
    replies = greedy(checkpoint.model(), checkpoint.tokenizer(), [case.dialogue.prompt() for case in asked])
    judge = Judge(sources)
    answers = []
    for case, (reply, stopped) in zip(asked, replies, strict=True):
        text = reply.split(THINK_CLOSE)[-1].strip()
        answers.append(Answer(case, text, stopped, judge.is_right(case.asked, text)))
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.case.group, []).append(answer)
    return Evaluation(
        tuple(
            Score(group, len(given), sum(a.right for a in given), sum(a.stopped for a in given))
            for group, given in groups.items()
        ),
        tuple(answer for answer in answers if not answer.right),
    )


def held_out_cases(grammar: Grammar, rng: Random) -> Iterator[Case]:
    """Every held-out wording of the topics, and a sample of each skill in held-out wordings."""
    sources = grammar.sources
    for group, topics in (("concepts", sources.concepts), ("program", sources.program)):
        for topic in topics:
            for ask in _two_own_and_two_framed(grammar, topic.id, rng):
                yield _case(group, Exchange(topic.id, ask, topic.answers[0]))
    for group, topics in (("small talk", sources.smalltalk), ("lists", sources.lists)):
        for topic in topics:
            for ask in topic.held_out:
                yield _case(group, Exchange(topic.id, ask, topic.answers[0]))
    for topic in sources.explained:
        first = Exchange(topic.id, rng.choice(topic.ask), rng.choice(topic.answers))
        for kind, answers in (("more", topic.more), ("example", topic.example)):
            ask = rng.choice(skills.ways(sources.frames, kind, held_out=True))
            yield _case("follow-ups", first, Exchange(f"{topic.id}.{kind}", ask, answers[0]))
    for _ in range(80):
        yield _case("unknown", *skills.unknown(sources, rng, True))
        yield _case("names recalled", *skills.name(sources, rng, True))
        yield _case("haiku", *skills.haiku(sources, rng, True))
        yield _case("stories", *skills.story(sources, rng, True))
    for _ in range(40):
        yield _case("counting", *skills.counting(sources, rng, True))
    for table in sources.facts:
        for pair in table.pairs:
            yield _case(f"{table.id}s", skills.look_up(table, rng.choice(table.held_out), pair, rng))
    for kind, group in (("sum", "sums to 20 + 20"), ("difference", "differences")):
        for _ in range(120):
            a, b = sorted((rng.randint(0, skills.MAX_OPERAND), rng.randint(0, skills.MAX_OPERAND)), reverse=True)
            ask = rng.choice(skills.ways(sources.numbers, kind, held_out=True))
            yield _case(group, skills.calculation(sources.numbers, kind, a, b, ask))
    talk = sources.smalltalk
    for topic in sources.concepts:
        before = [grammar.talk(rng.choice(talk), rng)[0] for _ in range(3)]
        yield _case("fourth turn", *before, Exchange(topic.id, topic.held_out[0], topic.answers[0]))
    for thinking in (Thinking.ON, Thinking.OFF):
        for topic in sources.concepts:
            exchange = Exchange(topic.id, topic.held_out[1], topic.answers[0])
            yield Case(f"thinking {thinking.value}", Dialogue((exchange,), None, thinking))


def _two_own_and_two_framed(grammar: Grammar, topic_id: str, rng: Random) -> list[str]:
    topic = next(t for t in grammar.sources.explained if t.id == topic_id)
    questions = grammar.topic_questions(topic, held_out=True)
    return questions[:2] + rng.sample(questions[2:], k=min(2, len(questions) - 2))


def _case(group: str, *exchanges: Exchange) -> Case:
    return Case(group, Dialogue(exchanges))


class Judge:
    """Decides whether an answer is right.

    Args:
        sources: Whose answers the answer is compared with.
    """

    def __init__(self, sources: Sources) -> None:
        self._haiku_lines = {theme.name: {*theme.first, *theme.second, *theme.third} for theme in sources.themes}
        self._heroes = [hero.name for hero in sources.heroes]
        self._known = [(intent, Counter(normalised(text).split())) for intent, text in _answers(sources)]

    def is_right(self, asked: Exchange, text: str) -> bool:
        """Whether `text` answers `asked`."""
        if asked.intent == "haiku":
            return self._is_haiku(asked, text)
        if not all(part.casefold() in text.casefold() for part in asked.must_contain):
            return False
        if asked.intent == "story":
            return text.count(".") >= 3 and any(hero in text for hero in self._heroes)
        if asked.must_contain:
            return True
        return asked.intent in self.nearest(text)

    def nearest(self, text: str) -> set[str]:
        """The subjects with the answer closest to `text`: more than one where they share it, none if all are far."""
        words = Counter(normalised(text).split())
        scores = [_f1(words, known) for _, known in self._known]
        best = max(scores)
        if best < _CLOSE_ENOUGH:
            return set()
        return {intent for (intent, _), score in zip(self._known, scores, strict=True) if score == best}

    def _is_haiku(self, asked: Exchange, text: str) -> bool:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        themes = [theme for theme in self._haiku_lines if f" {theme}" in asked.user]
        wanted = self._haiku_lines[themes[0]] if themes else set().union(*self._haiku_lines.values())
        return len(lines) == 3 and sum(line in wanted for line in lines) >= 2


def _answers(sources: Sources) -> Iterator[tuple[str, str]]:
    for topic in sources.explained + sources.talked:
        yield from ((topic.id, text) for text in topic.answers)
        yield from ((f"{topic.id}.more", text) for text in topic.more)
        yield from ((f"{topic.id}.example", text) for text in topic.example)
    yield from (("unknown", text) for text in sources.unknown["answers"])
    yield from (("name_not_known", text) for text in sources.names["not_known"])


def _f1(a: Counter[str], b: Counter[str]) -> float:
    common = (a & b).total()
    return 2 * common / max(1, a.total() + b.total())


def greedy(
    model: Decoder, tokenizer: Tokenizer, prompts: Iterable[str], max_tokens: int = MAX_ANSWER_TOKENS
) -> list[tuple[str, bool]]:
    """Most likely continuation of every prompt, and whether the model ended it by itself."""
    encoded = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    results: list[tuple[str, bool]] = [("", False)] * len(encoded)
    end = token_id(tokenizer, IM_END)
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(index)
    for same_length in by_length.values():
        for start in range(0, len(same_length), _BATCH):
            batch = same_length[start : start + _BATCH]
            replies = _continue(model, torch.tensor([encoded[i] for i in batch]), end, max_tokens)
            for index, ids in zip(batch, replies, strict=True):
                stopped = end in ids
                results[index] = (tokenizer.decode(ids[: ids.index(end)] if stopped else ids), stopped)
    return results


def _continue(model: Decoder, ids: Tensor, end: int, max_tokens: int) -> list[list[int]]:
    """Most likely tokens after each row of `ids` (B, T), until every row has ended."""
    cache, replies = KVCache(), torch.empty(len(ids), 0, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(max_tokens):
            ids = model(ids, cache)[:, -1].argmax(-1, keepdim=True)  # (B, 1)
            replies = torch.cat((replies, ids), dim=1)
            if bool((replies == end).any(dim=1).all()):
                break
    return [list(map(int, reply)) for reply in replies]
