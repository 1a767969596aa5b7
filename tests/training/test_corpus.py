"""What the built-in model reads must be right, complete, and kept apart from what it is measured with."""

from __future__ import annotations

import re
from random import Random

import pytest

from tui_chat.errors import UsageError
from tui_chat.training import skills
from tui_chat.training.dialogue import Dialogue, Exchange
from tui_chat.training.grammar import Grammar, first_sentence, normalised, vary
from tui_chat.training.prepare import validation_split
from tui_chat.training.sources import Sources, load_sources


def exchanges(dialogues: list[Dialogue]) -> list[Exchange]:
    return [exchange for dialogue in dialogues for exchange in dialogue.exchanges]


def test_every_topic_has_what_it_needs(sources: Sources) -> None:
    for topic in sources.explained:
        assert topic.one or topic.many, topic.id
        assert topic.more and topic.example and len(topic.answers) >= 2, topic.id
    for topic in sources.smalltalk:
        assert len(topic.ask) >= 30, topic.id
        assert topic.think, topic.id
    for topic in sources.explained + sources.talked:
        assert len(topic.held_out) == 2, topic.id
    assert len(sources.explained) >= 40
    assert len(sources.themes) >= 20


def test_topic_ids_are_unique(sources: Sources) -> None:
    ids = [topic.id for topic in sources.explained + sources.talked] + [table.id for table in sources.facts]
    assert len(set(ids)) == len(ids)


def test_texts_hold_no_template_marks(sources: Sources) -> None:
    for topic in sources.explained + sources.talked:
        for text in topic.ask + topic.held_out + topic.answers + topic.more + topic.example:
            assert "{" not in text and "<|" not in text, text
            assert text == text.strip() and text, topic.id


def test_no_question_is_both_trained_and_held_out(grammar: Grammar, sources: Sources) -> None:
    for topic in sources.explained + sources.talked:
        trained = {normalised(text) for text in grammar.topic_questions(topic, held_out=False)}
        held_out = {normalised(text) for text in grammar.topic_questions(topic, held_out=True)}
        assert not trained & held_out, topic.id


def test_no_held_out_question_is_in_a_dialogue(grammar: Grammar, dialogues: list[Dialogue]) -> None:
    assert not [e.user for e in exchanges(dialogues) if normalised(e.user) in grammar.held_out]


def test_one_question_has_one_subject(sources: Sources) -> None:
    owner: dict[str, str] = {}
    for topic in sources.explained + sources.talked:
        for text in topic.ask + topic.held_out:
            assert owner.setdefault(normalised(text) or text, topic.id) == topic.id, text


def test_dialogues_have_no_empty_parts(dialogues: list[Dialogue]) -> None:
    for exchange in exchanges(dialogues):
        assert exchange.user.strip() and exchange.answer.strip(), exchange
    assert all(1 <= len(dialogue.exchanges) <= 8 for dialogue in dialogues)


def test_dialogues_differ_and_follow_from_the_seed(grammar: Grammar, dialogues: list[Dialogue]) -> None:
    assert len({dialogue.text for dialogue in dialogues}) == len(dialogues) == 3_000
    assert list(grammar.dialogues(seed=3, count=50)) == dialogues[:50]
    assert list(grammar.dialogues(seed=4, count=50)) != dialogues[:50]


def test_answers_hold_what_a_right_answer_must(dialogues: list[Dialogue]) -> None:
    for exchange in exchanges(dialogues):
        for part in exchange.must_contain:
            assert part.casefold() in exchange.answer.casefold(), exchange


def test_calculations_are_right(dialogues: list[Dialogue]) -> None:
    n_checked = 0
    for exchange in exchanges(dialogues):
        if exchange.intent in ("sum", "difference"):
            found = re.fullmatch(r"(\d+) ([+-]) (\d+) = \*\*(-?\d+)\*\*", exchange.answer)
            assert found, exchange.answer
            a, b, result = int(found[1]), int(found[3]), int(found[4])
            assert result == (a + b if found[2] == "+" else a - b)
            assert {found[1], found[3]} <= set(re.findall(r"\d+", exchange.user)), exchange
            n_checked += 1
    assert n_checked > 100


def test_think_block_of_a_sum_adds_up(sources: Sources) -> None:
    for a in range(skills.MAX_OPERAND + 1):
        for b in range(skills.MAX_OPERAND + 1):
            think = skills.calculation(sources.numbers, "sum", a, b, "{a} + {b}").think
            *_, ones, tens, result = (int(number) for number in re.findall(r"\d+", think))
            assert ones + tens == result == a + b


def test_haiku_have_three_lines_of_the_theme(sources: Sources) -> None:
    rng = Random(0)
    for _ in range(200):
        for exchange in skills.haiku(sources, rng, held_out=False):
            lines = exchange.answer.split("  \n")
            assert len(lines) == 3
            assert any(
                lines[0] in theme.first and lines[1] in theme.second and lines[2] in theme.third
                for theme in sources.themes
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
    rng = Random(5)
    for _ in range(300):
        assert "12 + 7" in vary("What is 12 + 7?", sources, rng, freely=False)
        assert "Korali" in vary("My name is Korali.", sources, rng, freely=False)
        assert vary("Hi", sources, rng).strip()


def test_first_sentence() -> None:
    assert first_sentence("A token is small. It has an id.") == "A token is small."
    assert first_sentence("**llama.cpp** runs the model. It is fast.") == "**llama.cpp** runs the model."
    assert first_sentence("One only.") == "One only."


def test_broken_corpus_is_a_usage_error(tmp_path: object, sources: Sources) -> None:
    from pathlib import Path

    with pytest.raises(UsageError, match=r"haiku\.yaml"):
        load_sources(Path(str(tmp_path)))
