"""Forks in a conversation, with the real engine and the built-in model: exact ids, shared figures, all of it stored."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ui.scripted import NoDownloads
from tui_chat import paths
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.fork import continuation_ids
from tui_chat.chat.store import Store
from tui_chat.config import Settings
from tui_chat.engine.types import FinishReason, GeneratedToken
from tui_chat.engine.worker import EngineWorker
from tui_chat.errors import SamplingError, TraceError, UsageError
from tui_chat.lessons.compare import Comparison, LaneSettings
from tui_chat.lessons.recording import recorded_message
from tui_chat.lessons.replay import compare
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch
from tui_chat.models.resolve import builtin_path
from tui_chat.ui.archive import STORE_NAME, StoreArchive
from tui_chat.ui.forking import said_at
from tui_chat.ui.progress import Answer
from tui_chat.ui.requests import RequestBuilder
from tui_chat.ui.resuming import newest_conversation
from tui_chat.ui.session import Session
from tui_chat.ui.written import text_of_answer

pytestmark = pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")


class Desk:
    """A session on a real engine; the test is its screen."""

    def __init__(self, conversation: Conversation | None = None, tokens_of: Any = None, **inference: object) -> None:
        self.news: queue.Queue[Any] = queue.Queue()
        settings = Settings.model_validate(
            {"inference": {"seed": 5, "max_length": 40, **inference}, "llm": {"n_ctx": 1024, "n_threads": 1}}
        )
        self.archive = StoreArchive(paths.data_dir() / STORE_NAME, self.news.put)
        self.session = Session(
            settings,
            EngineWorker(self.news.put),
            build_request=RequestBuilder(None, self.news.put),
            archive=self.archive,
            downloads=NoDownloads(),
            report=self.news.put,
            conversation=conversation,
            tokens_of=tokens_of,
        )
        self.session.start("builtin")
        self.until(lambda: self.session.model is not None and len(self.session.pieces) == self.session.model.n_vocab)

    def until(self, done: Callable[[], object]) -> None:
        """Takes in news until something holds.

        Raises:
            queue.Empty: it does not come to hold.
        """
        while not done():
            self.session.handle(self.news.get(timeout=30))

    def finish(self) -> Message:
        answer = self.session.answer
        assert answer is not None
        self.until(lambda: not answer.running)
        assert answer.error is None, answer.error
        return self.session.conversation[answer.message_id]

    def say(self, text: str) -> Message:
        self.session.send(text)
        return self.finish()

    def fork(self, *arguments: Any, **more: Any) -> Message:
        self.session.fork(*arguments, **more)
        return self.finish()

    def tokens(self, message: Message) -> list[GeneratedToken]:
        return self.session.tokens_of[message.id]

    def close(self) -> None:
        self.session.close(10)
        assert self.archive._thread is not None
        self.archive._thread.join(10)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def other_than(token: GeneratedToken) -> int:
    assert token.trace is not None
    return next(candidate for candidate, _ in token.trace.top if candidate != token.id)


def test_a_fork_is_a_sibling_that_shares_what_it_kept(desk: Desk) -> None:
    first = desk.say("What is a token?")
    assert first.ids is not None and len(first.ids) > 6
    put = other_than(desk.tokens(first)[4])
    fork = desk.fork(first.id, 4, (put,))
    assert fork.ids is not None
    assert fork.ids[:5] == (*first.ids[:4], put)
    assert (fork.parent_id, fork.forked_from, fork.n_kept, fork.forced) == (first.parent_id, first.id, 4, (4,))
    assert fork.prompt_ids == first.prompt_ids
    assert desk.session.conversation.tip is fork
    assert fork.usage is not None and fork.usage.prompt - fork.usage.reused == 1
    for mine, theirs in zip(desk.tokens(fork)[:4], desk.tokens(first)[:4], strict=True):
        assert mine is theirs
    forced = desk.tokens(fork)[4]
    assert forced.forced and forced.trace is not None
    old = desk.tokens(first)[4].trace
    assert old is not None
    assert (forced.trace.u, forced.trace.top, forced.trace.logit) == (None, old.top, dict(old.top)[put])
    assert forced.trace.rank == 1 + [token for token, _ in old.top].index(put)
    spelled = b"".join(token.piece for token in desk.tokens(fork)).decode()
    assert fork.text == spelled
    assert first.text == b"".join(token.piece for token in desk.tokens(first)).decode()


def test_a_fork_of_nothing_draws_the_same_again_and_a_fork_of_a_fork_goes_on(desk: Desk) -> None:
    first = desk.say("Tell me a story.")
    assert first.ids is not None
    again = desk.fork(first.id, 3)
    assert (again.ids, again.text, again.finish_reason) == (first.ids, first.text, first.finish_reason)
    put = other_than(desk.tokens(first)[6])
    fork = desk.fork(first.id, 6, (put,))
    deeper = desk.fork(fork.id, 9)
    assert (deeper.ids, deeper.forced, deeper.n_kept) == (fork.ids, (6,), 9)
    assert desk.tokens(deeper)[6].forced
    assert len(desk.session.conversation.siblings(first.id)) == 4
    assert first.finish_reason is FinishReason.LENGTH
    longer = desk.fork(first.id, 40)
    assert longer.ids is not None and len(longer.ids) > 40 and longer.ids[:40] == first.ids


def test_a_fork_in_the_middle_of_an_answer_stops_it_and_goes_on(desk: Desk) -> None:
    desk.session.set_value("max_length", 400)
    desk.session.set_value("logit_bias", ())
    desk.session.send("Tell me a long story.")
    answer = desk.session.answer
    assert answer is not None
    desk.until(lambda: len(answer.tokens) >= 3)
    put = other_than(answer.tokens[2])
    fork = desk.fork(answer.message_id, 2, (put,))
    stopped = desk.session.conversation[answer.message_id]
    assert stopped.finished and stopped.ids is not None and fork.ids is not None
    assert fork.ids[:3] == (*stopped.ids[:2], put)
    assert fork.parent_id == stopped.parent_id
    alone = desk.fork(stopped.id, 2, (put,))
    assert alone.ids == fork.ids


def test_force_without_going_on_and_going_on_later(desk: Desk) -> None:
    first = desk.say("What is a token?")
    put = other_than(desk.tokens(first)[2])
    forced = desk.fork(first.id, 2, (put,), goes_on=False)
    assert first.ids is not None and forced.ids == (*first.ids[:2], put)
    assert (forced.finish_reason, forced.finished) == (FinishReason.CANCELLED, True)
    assert desk.fork(forced.id, 3).ids == desk.fork(first.id, 2, (put,)).ids


def test_typed_text_becomes_tokens_that_go_on_what_stands_there(desk: Desk) -> None:
    first = desk.say("What is a token?")
    ids = desk.session.ask(lambda engine: continuation_ids(" a small piece", engine.vocab)).result(10)
    fork = desk.fork(first.id, 3, " a small piece")
    assert first.ids is not None and fork.ids is not None
    assert fork.ids[: 3 + len(ids)] == (*first.ids[:3], *ids)
    assert fork.forced == tuple(range(3, 3 + len(ids)))
    assert " a small piece" in fork.text
    named = desk.fork(first.id, 1, "<|im_end|>", goes_on=False)
    assert named.text.endswith("<|im_end|>") and named.ids is not None and len(named.ids) > 2
    desk.session.fork(first.id, 1, "")
    answer: Answer | None = desk.session.answer
    assert answer is not None
    desk.until(lambda: not answer.running)
    assert isinstance(answer.error, UsageError)
    desk.session.undo_answer()
    assert desk.session.conversation.tip is named


def test_a_forced_end_token_ends_the_answer_there(desk: Desk) -> None:
    first = desk.say("What is a token?")
    model = desk.session.model
    assert model is not None and model.eos_id is not None
    short = desk.fork(first.id, 4, (model.eos_id,))
    assert first.ids is not None
    assert (short.ids, short.finish_reason) == (first.ids[:4], FinishReason.EOS)
    # And in place of the end, something else may come.
    longer = desk.fork(first.id, len(first.ids), " And", goes_on=False)
    assert longer.text == first.text + " And"


def test_a_message_of_the_user_is_said_again_with_exact_tokens(desk: Desk) -> None:
    desk.say("What is a token?")
    asked = desk.session.conversation.path[0]
    ids = desk.session.ask(lambda engine: tuple(engine.vocab.tokenize("What is a model?"))).result(10)
    desk.session.respell(asked.id, ids)
    again = desk.finish()
    said = desk.session.conversation.path[0]
    assert (said.text, said.ids) == ("What is a model?", ids)
    assert again.prompt_ids is not None and ids == again.prompt_ids[3 : 3 + len(ids)]
    assert len(desk.session.conversation.siblings(asked.id)) == 2
    with pytest.raises(UsageError):
        desk.session.respell(again.id, ids)
    with pytest.raises(UsageError):
        desk.session.fork(asked.id, 1)
    with pytest.raises(UsageError):
        desk.session.fork(again.id, 10_000)
    for call in (lambda: desk.session.fork("gone", 1), lambda: desk.session.respell("gone", (1,))):
        with pytest.raises(UsageError, match="another conversation"):
            call()
    part = desk.session.pieces.index(b"\xe2")
    for tokens, words in (((*ids, part), "part of a character"), ((), "nothing would be left")):
        with pytest.raises(UsageError, match=words):
            desk.session.respell(said.id, tokens)
    assert desk.session.conversation.path[0] is said


def test_a_message_that_cannot_be_said_again_stops_no_answer(desk: Desk) -> None:
    desk.say("What is a token?")
    desk.session.set_value("max_length", 400)
    asked = desk.session.send("Tell me a long story.")
    answer = desk.session.answer
    assert answer is not None
    with pytest.raises(UsageError):
        desk.session.respell(asked.id, (10**9,))
    assert answer.running
    desk.finish()


def test_a_later_turn_after_a_fork_goes_in_as_its_tokens(desk: Desk) -> None:
    first = desk.say("What is a token?")
    put = other_than(desk.tokens(first)[3])
    fork = desk.fork(first.id, 3, (put,))
    later = desk.say("And a model?")
    assert fork.ids is not None and fork.prompt_ids is not None and later.prompt_ids is not None
    start = len(fork.prompt_ids)
    assert later.prompt_ids[: start + len(fork.ids)] == (*fork.prompt_ids, *fork.ids)
    assert later.usage is not None and later.usage.reused >= start + len(fork.ids) - 1


def test_siblings_are_stored_and_forked_after_a_restart() -> None:
    desk = Desk(seed=None)
    first = desk.say("What is a token?")
    put = other_than(desk.tokens(first)[4])
    fork = desk.fork(first.id, 4, (put,))
    kept = list(desk.tokens(fork))
    typed = desk.fork(first.id, 1, " green grass")
    desk.close()
    with Store(paths.data_dir() / STORE_NAME) as store:
        (summary,) = store.conversations()
        stored = store.load(summary.id)[fork.id]
        assert (stored.ids, stored.prompt_ids, stored.forced) == (fork.ids, fork.prompt_ids, fork.forced)
        assert (stored.forked_from, stored.n_kept, stored.usage) == (first.id, 4, fork.usage)
        assert store.traces(fork.id) == tuple(bare(token).trace for token in kept)
    resumed = newest_conversation()
    assert resumed.conversation is not None
    assert list(resumed.tokens_of[fork.id]) == [bare(token) for token in kept]
    # Of what was put in as text, only the ids are kept: the bytes come with the model.
    put_in = resumed.tokens_of[typed.id][2]
    assert (put_in.piece, put_in.trace) == (b"", None)
    again = Desk(resumed.conversation, resumed.tokens_of, seed=None)
    assert b"".join(token.piece for token in again.tokens(typed)).decode() == typed.text
    assert again.fork(fork.id, 7).ids == fork.ids
    assert again.fork(first.id, 0).ids == first.ids
    again.close()


def bare(token: GeneratedToken) -> GeneratedToken:
    """The token as the store keeps it."""
    from tui_chat.chat.trace_codec import pack_trace, unpack_trace

    assert token.trace is not None
    return GeneratedToken(token.id, token.piece, unpack_trace(pack_trace(token.trace)), token.forced)


def test_a_lane_that_was_kept_is_the_same_after_a_restart() -> None:
    desk = Desk(grammar="list", logit_bias=((7, "-inf"),), max_length=24)
    asked = desk.session.send("Name some things.")
    desk.finish()
    inference = desk.session.inference
    hot = inference.model_copy(update={"temperature": 1.4, "dynatemp_range": 0.3})
    lanes = (LaneSettings("a", inference, 5), LaneSettings("b", hot, 6))
    scene = Scene(messages=desk.session.conversation.path, biased=inference, limits=inference.limits())
    comparison = Comparison(scene, lanes)
    desk.session.ask(lambda engine: comparison.run(engine, Watch())).result(30)
    kept = desk.session.adopt(asked.id, hot, comparison.events(1))
    tokens, model = list(desk.tokens(kept)), desk.session.model
    assert model is not None and kept.usage is not None and kept.prompt_ids is not None
    assert sum(size * count for size, count in kept.usage.chunks) == len(kept.prompt_ids)
    stages = {stage.name: stage for token in tokens if token.trace is not None for stage in token.trace.stages}
    assert stages["grammar"].lost is not None and stages["temperature"].note
    before = text_of_answer(desk.session, kept.id)
    desk.close()
    resumed = newest_conversation()
    assert resumed.conversation is not None
    written = json.loads(json.dumps(dict(kept.settings), allow_nan=False))
    assert resumed.conversation.tip == replace(kept, settings=written)
    assert list(resumed.tokens_of[kept.id]) == tokens
    again = Desk(resumed.conversation, resumed.tokens_of)
    text = text_of_answer(again.session, kept.id)
    assert before is not None and text is not None
    assert (text.before, text.tokens, text.ran) == (before.before, before.tokens, before.ran)
    trace = recorded_message(model, kept, again.tokens(kept))
    outcome = again.session.ask(lambda engine: compare(engine, trace, Watch())).result(30)
    assert outcome.difference is None
    again.session.close(10)


def test_steps_back_are_taken_out_of_the_message_and_the_store(desk: Desk) -> None:
    plain = desk.say("What is a token?")
    desk.session.stepping.turn(on=True)
    session = desk.session
    session.retry()
    answer, steps = session.answer, session.stepping.control
    assert answer is not None and steps is not None
    for order in (steps.draw, steps.draw, steps.draw, steps.back, steps.back, lambda: steps.pick(400), steps.run):
        desk.until(lambda: answer.pending is not None)
        answer.pending = None
        while not order():  # the event is here before the engine thread sleeps, never after it
            pass
    done = desk.finish()
    assert plain.ids is not None and done.ids is not None
    assert done.ids[:2] == (plain.ids[0], 400) and done.forced == (1,)
    assert [token.id for token in desk.tokens(done)] == list(done.ids)


def test_every_answer_of_a_conversation_can_be_replayed(desk: Desk) -> None:
    first = desk.say("What is a token?")
    fork = desk.fork(first.id, 4, (other_than(desk.tokens(first)[4]),))
    later = desk.say("And a model?")
    desk.session.set_value("temperature", 1.3)
    forced = desk.fork(later.id, 5, " so")
    model = desk.session.model
    assert model is not None
    for message, given in ((first, 0), (fork, 5), (later, 0), (forced, len(forced.forced) + 5)):
        trace = recorded_message(model, message, desk.tokens(message))
        assert trace.n_given == given

        def again(engine: Any, trace: Any = trace) -> Any:
            with engine.aside() as aside:
                return compare(aside, trace, Watch(), tolerance=0.0)

        outcome = desk.session.ask(again).result(30)
        assert outcome.difference is None, outcome.difference
        assert outcome.largest == 0.0
        assert outcome.compared == len(trace.tokens) - given
    with pytest.raises(TraceError):
        recorded_message(model, desk.session.conversation.path[0], ())


@pytest.mark.parametrize("mirostat", [0, 2])
def test_a_setting_changed_in_the_middle_is_in_the_trace(desk: Desk, mirostat: int) -> None:
    desk.session.set_value("max_length", 300)
    desk.session.set_value("mirostat", mirostat)
    desk.session.stepping.turn(on=True)
    desk.session.send("Tell me a story.")
    answer, steps = desk.session.answer, desk.session.stepping.control
    assert answer is not None and steps is not None
    for step in range(6):
        desk.until(lambda: answer.pending is not None)
        if step == 3:
            desk.session.set_value("temperature", 1.2)
            answer.pending = None
            desk.until(lambda: answer.pending is not None)
        pending, answer.pending = answer.pending, None
        assert pending is not None
        if step == 4:
            steps.pick(other_than(pending.token))
        else:
            steps.draw() if step < 5 else steps.run()
    message = desk.finish()
    model = desk.session.model
    assert model is not None
    trace = recorded_message(model, message, desk.tokens(message))
    assert [(first, params.temperature) for first, params in trace.periods] == [(0, 0.7), (3, 1.2)]
    outcome = desk.session.ask(lambda engine: compare(engine, trace, Watch())).result(30)
    assert outcome.difference is None and outcome.largest == 0.0
    assert (outcome.given, outcome.compared) == (1, len(trace.tokens) - 1)


def test_settings_that_cannot_be_take_the_fork_back(desk: Desk) -> None:
    first = desk.say("What is a token?")
    with pytest.raises(SamplingError, match="no token 1000000"):
        desk.session.set_value("logit_bias", ((1_000_000, 1.0),))
    desk.session.tuning.present = desk.session.inference.model_copy(update={"logit_bias": ((1_000_000, 1.0),)})
    desk.session.fork(first.id, 2)
    answer = desk.session.answer
    assert answer is not None
    desk.until(lambda: not answer.running)
    assert isinstance(answer.error, SamplingError)
    desk.session.undo_answer()
    assert desk.session.conversation.tip is first


def test_another_model_does_not_take_the_tokens_for_its_own(desk: Desk, noise_path: Path) -> None:
    from tui_chat.models.resolve import ModelSpec

    first = desk.say("What is a token?")
    desk.session.switch_model(ModelSpec("path", path=noise_path))
    desk.until(lambda: desk.session.loading is None)
    desk.session.fork(first.id, 2)
    answer = desk.session.answer
    assert answer is not None
    desk.until(lambda: not answer.running)
    assert "another model wrote this answer" in str(answer.error)


def test_a_token_of_a_prompt_is_found_in_the_message_it_belongs_to() -> None:
    def tokens(*pieces: str) -> list[GeneratedToken]:
        return [GeneratedToken(index, piece.encode(), None) for index, piece in enumerate(pieces)]

    conversation = Conversation()
    first = conversation.append(Role.USER, "a b")
    conversation.append(Role.ASSISTANT, "c")
    second = conversation.append(Role.USER, "a b")
    prompt = tokens("<user>", "a", " b", "<end>", "c", "<user>", "a", " b", "<end>", "<model>")
    path = conversation.path
    assert said_at(prompt, path, 1) == (first, (1, 2), 0)
    assert said_at(prompt, path, 2) == (first, (1, 2), 1)
    assert said_at(prompt, path, 7) == (second, (6, 7), 1)
    for index in (0, 3, 4, 5, 8, 9):
        assert said_at(prompt, path, index) is None
    # The tokens of an answer and of the system text are known as theirs.
    answer = conversation.update(replace(conversation.path[1], text="c d", ids=(9, 10)))
    numbered = [GeneratedToken(token, b"x", None) for token in (0, 9, 10, 3, 9, 4)]
    assert said_at(numbered, conversation.path, 2) == (answer, (9, 10), 1)
    assert said_at(numbered, conversation.path, 4) is None
    conversation.set_system("be brief")
    found = said_at(tokens("<system>", "be", " brief", "<end>", "<user>", "a", " b"), conversation.path, 2)
    assert found is not None and (found[0].role, found[1:]) == (Role.SYSTEM, ((1, 2), 1))
    # Where the template and the text share a token, that one stays.
    assert said_at(tokens("<user> a", " b", "<end>"), path, 0) is None
    assert said_at(tokens("<user>", "other", "<end>"), path, 1) is None
