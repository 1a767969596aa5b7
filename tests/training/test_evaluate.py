"""The judge must find the corpus' own answers right, and greedy decoding must not depend on the batch."""

from __future__ import annotations

from random import Random

import pytest
from tokenizers import Tokenizer

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tui_chat.checkpoints.shape import ModelShape  # noqa: E402 (after the check for PyTorch)
from tui_chat.training.continuation import continue_texts  # noqa: E402
from tui_chat.training.dialogue import Dialogue, Exchange  # noqa: E402
from tui_chat.training.evaluate import Case, held_out_cases  # noqa: E402
from tui_chat.training.grammar import Grammar  # noqa: E402
from tui_chat.training.judge import Judge  # noqa: E402
from tui_chat.training.models import Model, build_model  # noqa: E402
from tui_chat.training.sources import Sources, normalised  # noqa: E402


@pytest.fixture(scope="module")
def cases(grammar: Grammar) -> list[Case]:
    return list(held_out_cases(grammar, Random(0)))


def test_the_judge_knows_every_right_answer(sources: Sources, cases: list[Case]) -> None:
    judge = Judge(sources)
    for case in cases[::3]:
        assert judge.is_right(case.asked, case.asked.answer), case.asked


def test_the_judge_refuses_the_answer_to_another_question(sources: Sources, cases: list[Case]) -> None:
    judge = Judge(sources)
    for case, other in list(zip(cases, cases[40:] + cases[:40], strict=True))[::3]:
        same = case.asked.intent == other.asked.intent or case.asked.answer == other.asked.answer
        if not same and other.asked.answer not in _answers_of(sources, case.asked):
            assert not judge.is_right(case.asked, other.asked.answer), (case.asked, other.asked)


def _answers_of(sources: Sources, asked: Exchange) -> set[str]:
    topics = {topic.id: topic for language in sources.languages for topic in language.topics}
    topic_id, _, kind = asked.intent.rpartition(".")
    if kind in ("more", "example"):
        return set(topics[topic_id].more + topics[topic_id].example)
    return set(topics[asked.intent].answers) if asked.intent in topics else set()


def test_no_case_was_in_the_training(cases: list[Case], dialogues: list[Dialogue]) -> None:
    drawn = ("unknown", "es.unknown", "pt.unknown", "haiku")
    trained = {normalised(e.user) for d in dialogues for e in d.exchanges if e.intent not in drawn}
    unseen = [c for c in cases if c.asked.intent not in drawn and c.asked.plain]
    assert len(unseen) > 1_000
    assert not [case.asked.user for case in unseen if normalised(case.asked.user) in trained]


def test_calculations_never_seen_are_asked_apart(cases: list[Case], dialogues: list[Dialogue]) -> None:
    trained = {e.answer for d in dialogues for e in d.exchanges if e.intent in ("sum", "difference")}
    unseen = [case for case in cases if "never seen" in case.group]
    assert len(unseen) == 400
    assert not [case.asked.answer for case in unseen if case.asked.answer in trained]


def small_model() -> Model:
    shape = ModelShape(vocab_size=512, width=32, n_layers=1, n_heads=2, n_kv_heads=2, ffn_width=64)
    return build_model(shape, seed=2).eval()


def test_greedy_does_not_depend_on_the_batch(tiny_tokenizer: Tokenizer) -> None:
    model = small_model()
    prompts = ["a", "What is a token?", "Hello there, this is a longer prompt with more words", "3 + 4"]
    together = continue_texts(model, tiny_tokenizer, prompts, max_tokens=12)
    assert together == [continue_texts(model, tiny_tokenizer, [prompt], max_tokens=12)[0] for prompt in prompts]


def test_draws_follow_from_the_seed(tiny_tokenizer: Tokenizer) -> None:
    model = small_model()

    def drawn(seed: int) -> str:
        return continue_texts(model, tiny_tokenizer, ["a"], 12, temperature=1.0, seed=seed)[0].text

    assert drawn(1) == drawn(1) != drawn(2)
