"""Two parts of a corpus: nothing is lost, nothing stands in both, the same seed gives the same parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_chat.errors import UsageError
from tui_chat.training.dialogue import Dialogue, Exchange
from tui_chat.training.sources import normalised
from tui_chat.training.split import split_dialogues, split_documents

WORDS = " ".join(f"word{n}" for n in range(1_000))


def dialogue(question: str, answer: str) -> Dialogue:
    return Dialogue((Exchange("", question, answer),))


def test_one_document_gives_its_end() -> None:
    parts = split_documents([WORDS], seed=1)
    (training,), (validation,) = parts.training, parts.validation
    assert training + validation == WORDS
    assert len(validation) / len(WORDS) == pytest.approx(0.1, abs=0.01)
    # Between two words.
    assert validation.startswith(" word")


@given(st.lists(st.text("ab \n", min_size=1).filter(str.strip), min_size=20, max_size=60), st.integers(0, 5))
def test_many_documents_go_whole_and_to_one_side(documents: list[str], seed: int) -> None:
    documents = [*documents, *("c" * n for n in range(1, 200))]
    parts = split_documents(documents, seed)
    together = [*parts.training, *parts.validation]
    assert parts == split_documents(documents, seed)
    assert len(together) + parts.n_repeated == len(documents)
    assert set(together) <= set(documents)
    known = {" ".join(text.split()).casefold() for text in parts.training}
    assert known.isdisjoint(" ".join(text.split()).casefold() for text in parts.validation)
    share = sum(map(len, parts.validation)) / sum(map(len, together))
    assert 0.05 <= share <= 0.1


def test_two_large_documents_lose_the_end_of_one() -> None:
    parts = split_documents([WORDS, WORDS.upper() + " and more"], seed=1)
    assert len(parts.training) == 2
    assert parts.training[1] + parts.validation[0] == WORDS.upper() + " and more"


def test_another_seed_chooses_other_documents() -> None:
    documents = [f"{n} {WORDS}" for n in range(30)]
    assert len({split_documents(documents, seed).validation for seed in range(5)}) > 1


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from((0.05, 0.1, 0.5)),
)
def test_no_question_is_on_both_sides(pairs: list[tuple[str, str]], seed: int, share: float) -> None:
    dialogues = [dialogue(question, answer) for question, answer in [("One?", "1"), ("Two?", "2"), *pairs]]
    parts = split_dialogues(dialogues, seed, share)
    assert sorted(map(repr, parts.training + parts.validation)) == sorted(map(repr, dialogues))
    assert parts.training
    assert parts.validation
    known = {normalised(d.exchanges[0].user) for d in parts.training}
    assert known.isdisjoint(normalised(d.exchanges[0].user) for d in parts.validation)


def test_one_question_all_through_is_split_by_its_answers() -> None:
    parts = split_dialogues([dialogue("Write a haiku.", f"Haiku number {n:02}") for n in range(20)], seed=1, share=0.12)
    assert len(parts.training) == 18
    assert len(parts.validation) == 2


def test_what_cannot_be_split_says_so() -> None:
    with pytest.raises(UsageError, match="all conversations of the corpus are the same"):
        split_dialogues([dialogue("Hi", "Hello"), dialogue("hi!", "hello")], seed=1)
    with pytest.raises(UsageError, match="too short to keep a part of it"):
        split_documents(["x"], seed=1)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            split_documents([WORDS], 1, share)
