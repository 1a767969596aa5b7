"""The judge must find the corpus' own answers right, and greedy decoding must not depend on the batch."""

from __future__ import annotations

from random import Random

import pytest
from tokenizers import Tokenizer

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tests.training.conftest import SHIPPED_CHECKPOINT  # noqa: E402 (after the check for PyTorch)
from tui_chat.training.checkpoint import load_checkpoint  # noqa: E402
from tui_chat.training.dialogue import Dialogue, Exchange  # noqa: E402
from tui_chat.training.evaluate import Case, Judge, evaluate, greedy, held_out_cases  # noqa: E402
from tui_chat.training.grammar import Grammar, normalised  # noqa: E402
from tui_chat.training.model import Decoder, ModelConfig  # noqa: E402
from tui_chat.training.sources import Sources  # noqa: E402


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
    topic_id, _, kind = asked.intent.partition(".")
    return {
        text
        for topic in sources.explained + sources.talked
        if topic.id == topic_id
        for text in {"more": topic.more, "example": topic.example}.get(kind, topic.answers)
    }


def test_no_case_was_in_the_training(cases: list[Case], dialogues: list[Dialogue]) -> None:
    trained = {normalised(e.user) for d in dialogues for e in d.exchanges if e.intent not in ("unknown", "haiku")}
    unseen = [c for c in cases if c.asked.intent not in ("unknown", "haiku")]
    assert len(unseen) > 500
    assert not [case.asked.user for case in unseen if normalised(case.asked.user) in trained]


def test_greedy_does_not_depend_on_the_batch(tiny_tokenizer: Tokenizer) -> None:
    model = Decoder(ModelConfig(vocab_size=512, width=32, n_layers=1, n_heads=2, ffn_width=64), seed=2).eval()
    prompts = ["a", "What is a token?", "Hello there, this is a longer prompt with more words", "3 + 4"]
    together = greedy(model, tiny_tokenizer, prompts, max_tokens=12)
    assert together == [greedy(model, tiny_tokenizer, [prompt], max_tokens=12)[0] for prompt in prompts]


def test_the_built_in_model_answers_and_stops(grammar: Grammar) -> None:
    """Greetings and every concept in one wording of each it never saw; the whole evaluation is a stage of its own."""
    talk = [t for t in grammar.sources.smalltalk if t.id in ("greeting", "who_are_you", "thanks", "what_can_you_do")]
    asked = [(topic, ask) for topic in talk for ask in topic.held_out]
    asked += [(topic, f"What is meant by {(*topic.one, *topic.many)[0]}?") for topic in grammar.sources.concepts]
    chosen = [Case(t.id, Dialogue((Exchange(t.id, ask, t.answers[0]),))) for t, ask in asked]
    assert {normalised(ask) for _, ask in asked} <= grammar.held_out
    result = evaluate(load_checkpoint(SHIPPED_CHECKPOINT), cases=chosen)
    assert result.total.stopped == len(chosen) > 60
    assert result.total.right >= 0.9 * len(chosen), result.table()
    assert "greeting" in result.table()
    assert result.as_json()["scores"]
