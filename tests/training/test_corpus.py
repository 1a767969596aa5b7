"""What the built-in model reads must be right, complete, and kept apart from what it is measured with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest

from tui_chat.errors import UsageError
from tui_chat.training import calculations, skills, structured
from tui_chat.training.dialogue import Dialogue, Exchange, Thinking
from tui_chat.training.grammar import Grammar
from tui_chat.training.prepare import validation_split
from tui_chat.training.sources import N_HELD_OUT, Language, Phrases, Sources, Topic, load_sources, normalised
from tui_chat.training.wording import first_sentence, vary


def exchanges(dialogues: list[Dialogue]) -> list[Exchange]:
    return [exchange for dialogue in dialogues for exchange in dialogue.exchanges]


def topics(sources: Sources) -> list[tuple[Language, Topic]]:
    return [(language, topic) for language in sources.languages for topic in language.topics]


def test_every_topic_has_what_it_needs(sources: Sources) -> None:
    for language in sources.languages:
        for topic in language.explained:
            assert topic.one or topic.many, topic.id
            assert topic.more and topic.example and len(topic.answers) >= 2, topic.id
        for topic in language.smalltalk:
            assert len(topic.ask) >= 20, topic.id
            assert len(topic.answers) >= 3 and topic.think, topic.id
        for topic in language.topics:
            assert len(topic.ask) >= 12 and len(topic.held_out) == N_HELD_OUT, topic.id


def test_the_corpus_is_as_large_as_it_says(sources: Sources) -> None:
    assert len(sources.english.topics) >= 150
    assert len(sources.english.themes) >= 40
    for language in sources.others:
        assert len(language.concepts) >= 25 and len(language.themes) >= 20, language.code
        assert {topic.subject for topic in language.topics} <= {topic.subject for topic in sources.english.topics}


def test_topic_ids_are_unique(sources: Sources) -> None:
    ids = [topic.id for _, topic in topics(sources)] + [table.id for table in sources.facts]
    assert len(set(ids)) == len(ids)


def test_texts_hold_no_template_marks(sources: Sources) -> None:
    for _, topic in topics(sources):
        for text in topic.ask + topic.held_out + topic.answers + topic.more + topic.example:
            assert "{" not in text and "<|" not in text, text
            assert text == text.strip() and text, topic.id


def test_the_plainest_questions_are_always_taught(sources: Sources) -> None:
    greeting = next(topic for topic in sources.english.smalltalk if topic.id == "greeting")
    assert greeting.ask[:3] == ("Hello", "Hi", "Hey")


def test_no_question_is_both_trained_and_held_out(grammar: Grammar, sources: Sources) -> None:
    for language, topic in topics(sources):
        trained = {normalised(text) for text in grammar.topic_questions(language, topic, held_out=False)}
        held_out = {normalised(text) for text in grammar.topic_questions(language, topic, held_out=True)}
        assert not trained & held_out, topic.id


def test_no_held_out_frame_is_trained(sources: Sources) -> None:
    files: list[Phrases] = [sources.stories, sources.names, sources.numbers, sources.json, sources.repeat]
    for language in sources.languages:
        files += [language.frames, language.haiku, language.unknown]
    n_checked = 0
    for phrases in files:
        for key in [key for key in phrases if key.endswith("_held_out")]:
            trained = {normalised(text) for text in phrases[key.removesuffix("_held_out")]}
            assert not trained & {normalised(text) for text in phrases[key]}, key
            n_checked += 1
    assert n_checked > 40


def test_no_held_out_question_is_in_a_dialogue(grammar: Grammar, made: list[Dialogue]) -> None:
    assert not [e.user for e in exchanges(made) if normalised(e.user) in grammar.held_out]


SHARED = {"eos", "what does eos mean"}
"""Either subject's answer is right: the end token is a special token."""


def test_one_question_has_one_subject(grammar: Grammar, sources: Sources) -> None:
    for language in sources.languages:
        owner: dict[str, str] = {}
        for topic in language.topics:
            for held_out in (False, True):
                for text in grammar.topic_questions(language, topic, held_out):
                    key = normalised(text) or text
                    assert owner.setdefault(key, topic.id) == topic.id or key in SHARED, text


def test_a_haiku_line_belongs_to_one_theme(sources: Sources) -> None:
    owner: dict[str, str] = {}
    for language in sources.languages:
        for theme in language.themes:
            assert min(len(theme.first), len(theme.second), len(theme.third)) >= 5, theme.name
            for line in theme.first + theme.second + theme.third:
                assert owner.setdefault(line, f"{language.code} {theme.name}") == f"{language.code} {theme.name}", line


def test_a_fifth_of_the_answers_is_thought_about(dialogues: list[Dialogue]) -> None:
    share = sum(bool(e.think) for e in exchanges(dialogues)) / len(exchanges(dialogues))
    assert 0.17 < share < 0.25
    assert not [e for d in dialogues if d.thinking is Thinking.OFF for e in d.exchanges if e.think]


def test_a_language_asked_for_is_spoken(dialogues: list[Dialogue], sources: Sources) -> None:
    for language in sources.others:
        wanted = [d for d in dialogues if d.system in language.frames["system_language"]]
        intents = [e.intent for d in wanted for e in d.exchanges]
        assert len(intents) > 30
        assert all(intent.startswith(f"{language.code}.") or intent == "haiku" for intent in intents)


def test_dialogues_have_no_empty_parts(dialogues: list[Dialogue]) -> None:
    for exchange in exchanges(dialogues):
        assert exchange.user.strip() and exchange.answer.strip(), exchange
    assert all(1 <= len(dialogue.exchanges) <= 8 for dialogue in dialogues)


def test_dialogues_differ_and_follow_from_the_seed(
    grammar: Grammar, made: list[Dialogue], dialogues: list[Dialogue]
) -> None:
    assert len(set(made)) == len(made) == 10_000
    assert len({dialogue.text for dialogue in dialogues}) == len(dialogues)
    assert list(grammar.dialogues(seed=3, count=50)) == made[:50]
    assert list(grammar.dialogues(seed=4, count=50)) != made[:50]


def test_most_dialogues_only_open_an_answer_to_one_question(made: list[Dialogue], grammar: Grammar) -> None:
    opened = [dialogue for dialogue in made if dialogue.opened]
    assert len(opened) / len(made) == pytest.approx(0.6, abs=0.02)
    intents = {topic.id for language in grammar.sources.languages for topic in language.topics}
    for dialogue in opened:
        (exchange,) = dialogue.exchanges
        assert exchange.intent in intents and not exchange.think and dialogue.system is None


def test_answers_hold_what_a_right_answer_must(dialogues: list[Dialogue]) -> None:
    for exchange in exchanges(dialogues):
        for part in exchange.must_contain:
            assert part.casefold() in exchange.answer.casefold(), exchange


def test_calculations_are_right(dialogues: list[Dialogue]) -> None:
    n_checked = 0
    signs = {"+": "sum", "-": "difference", "x": "product"}
    for exchange in exchanges(dialogues):
        if exchange.intent in signs.values():
            found = re.fullmatch(r"(\d+) ([+x-]) (\d+) = \*\*(-?\d+)\*\*", exchange.answer)
            assert found, exchange.answer
            a, b, result = int(found[1]), int(found[3]), int(found[4])
            assert signs[found[2]] == exchange.intent
            assert result == calculations.compute(exchange.intent, a, b) <= calculations.MAX_RESULT
            assert not calculations.is_kept_out(exchange.intent, a, b)
            assert {found[1], found[3]} <= set(re.findall(r"\d+", exchange.user)), exchange
            n_checked += 1
    assert n_checked > 300


def test_some_large_pairs_are_kept_out_and_no_small_one() -> None:
    pairs = [(a, b) for a in range(101) for b in range(101 - a)]
    kept_out = [pair for pair in pairs if calculations.is_kept_out("sum", *pair)]
    assert 0.05 < len(kept_out) / len(pairs) < 0.15
    assert all(sum(pair) > calculations.SMALL for pair in kept_out)


@pytest.mark.parametrize("kind", ["sum", "difference"])
def test_every_equation_of_a_think_block_is_true(sources: Sources, kind: str) -> None:
    for a in range(0, 101, 3):
        for b in range(101 - a if kind == "sum" else a + 11):
            think = calculations.calculation(sources.numbers, kind, a, b, "{a} {b}").think
            equations = [tuple(map(int, e)) for e in re.findall(r"(-?\d+) [+-] (\d+) = (-?\d+)", think)]
            assert equations and think.count("=") == len(equations)
            assert all(result == (x + y if kind == "sum" else x - y) for x, y, result in equations)
            assert equations[-1][2] == calculations.compute(kind, a, b)


def test_json_answers_hold_what_was_asked(sources: Sources) -> None:
    rng = Random(2)
    for _ in range(300):
        (exchange,) = structured.json_answer(sources, rng, held_out=False)
        value = json.loads(exchange.answer)
        said = list(value.values()) if isinstance(value, dict) else value
        if isinstance(value, dict) and "name" in value:
            assert all(str(item) in exchange.user for item in said), exchange
        assert said and "  " not in exchange.user


def test_words_come_back_as_they_were_said(sources: Sources) -> None:
    rng = Random(2)
    for _ in range(200):
        for exchange in structured.repeat(sources, rng, held_out=False):
            assert exchange.answer in exchange.user


def test_haiku_have_three_lines_of_the_theme(sources: Sources) -> None:
    rng = Random(0)
    for _ in range(200):
        language = rng.choice(sources.languages)
        for exchange in skills.haiku(language, rng, held_out=False):
            lines = exchange.answer.split("  \n")
            assert len(lines) == 3
            assert any(
                lines[0] in theme.first and lines[1] in theme.second and lines[2] in theme.third
                for theme in language.themes
            )


def test_a_name_is_recalled_as_it_was_told(dialogues: list[Dialogue]) -> None:
    n_recalled = 0
    for dialogue in dialogues:
        told = [e for e in dialogue.exchanges if e.intent == "name_told"]
        known = [e for e in dialogue.exchanges if e.intent == "name_known"]
        denied = [e for e in dialogue.exchanges if e.intent == "name_not_known"]
        assert len(told) <= 1 and not (told and denied)
        for exchange in known:
            assert exchange.must_contain == told[0].must_contain
            assert told[0].must_contain[0].strip("*") in told[0].user
            n_recalled += 1
    assert n_recalled > 50


def test_a_name_in_the_system_prompt_is_used(dialogues: list[Dialogue]) -> None:
    named = [d for d in dialogues if d.system and (found := re.search(r"(?:name is|You are) ([A-Z]\w+)", d.system))]
    assert named
    for dialogue in named:
        found = re.search(r"(?:name is|You are) ([A-Z]\w+)", dialogue.system or "")
        assert found
        assert any(f"**{found[1]}**" in e.answer for e in dialogue.exchanges if e.intent == "who_are_you")


def test_validation_has_no_dialogue_of_the_training(grammar: Grammar, dialogues: list[Dialogue]) -> None:
    kept, n_leaks = validation_split(grammar, dialogues, seed=3, count=200)
    assert n_leaks > 0, "the same seed must find its own dialogues again"
    known = {tuple(normalised(e.user) for e in d.exchanges) for d in dialogues}
    assert not [d for d in kept if tuple(normalised(e.user) for e in d.exchanges) in known]


def test_vary_keeps_numbers_and_names(sources: Sources) -> None:
    rng, frames = Random(5), sources.english.frames
    for _ in range(300):
        assert "12 + 7" in vary("What is 12 + 7?", frames, rng, freely=False)
        assert "Korali" in vary("My name is Korali.", frames, rng, freely=False)
        assert vary("Hi", frames, rng).strip()


def test_vary_leaves_out_accents_and_filling_words(sources: Sources) -> None:
    rng, frames = Random(5), sources.others[0].frames
    ways = {vary("¿Qué es la temperatura?", frames, rng) for _ in range(400)}
    assert {"Que es la temperatura?", "¿Qué temperatura?"} <= ways


def test_first_sentence() -> None:
    assert first_sentence("A token is small. It has an id.") == "A token is small."
    assert first_sentence("**llama.cpp** runs the model. It is fast.") == "**llama.cpp** runs the model."
    assert first_sentence("One only.") == "One only."


def test_broken_corpus_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stories\.yaml"):
        load_sources(tmp_path)
