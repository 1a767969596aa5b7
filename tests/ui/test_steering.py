"""Forks, forced tokens, lanes and traces on the screen, with a scripted worker and with the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.scripted import ScriptedWorker, make_app, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tests.ui.test_with_engine import real_app
from tui_chat.chat.conversation import Message, Role
from tui_chat.engine.types import (
    FinishReason,
    GenerationRequest,
    GenerationStarted,
)
from tui_chat.models.resolve import builtin_path
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.composer import MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.lanes_card import LanesCard
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.steering import CandidateChosen
from tui_chat.ui.widgets.step_panel import StepPanel
from tui_chat.ui.widgets.turns import AnswerTurn

needs_model = pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")


def words(app: TuiChatApp) -> str:
    return " ".join(shown(app).split())


def panel(app: TuiChatApp) -> StepPanel:
    return app.chat.query_one(StepPanel)


async def real(pilot: Pilot[Any]) -> TuiChatApp:
    app = pilot.app
    assert isinstance(app, TuiChatApp)
    session = app.session
    await settle(pilot, lambda: session.model and len(session.pieces) == session.model.n_vocab, "the model")
    return app


async def ended(pilot: Pilot[Any], app: TuiChatApp, text: str) -> Message:
    def foot() -> str:
        turns = list(app.chat.query(AnswerTurn))
        return turns[-1].footer or "" if turns else ""

    await settle(pilot, lambda: not app.session.answering and text in foot(), text)
    tip = app.session.conversation.tip
    assert tip is not None and app.session.answer is not None and app.session.answer.error is None
    return tip


async def command(pilot: Pilot[Any], app: TuiChatApp, line: str) -> None:
    app.chat.query_one(MessageInput).focus()
    await pilot.pause()
    await type_in(pilot, line)


async def test_a_candidate_of_an_earlier_answer_and_the_text_commands() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await type_in(pilot, "/fork 2")
        await settle(pilot, lambda: "there is no answer to go on from yet" in words(app), "the refusal")
        await type_in(pilot, "What is a token?")
        worker.answer("A token is a small piece of text")
        first = await ended(pilot, app, "ended by the model")
        await type_in(pilot, "/fork 99")
        await settle(pilot, lambda: "choose 1 to 9" in words(app), "the refusal")
        await type_in(pilot, '/fork 3 " piece"')
        await settle(pilot, lambda: app.session.answering, "the fork")
        tip = app.session.conversation.tip
        assert tip is not None and (tip.forked_from, tip.n_kept) == (first.id, 2)
        assert len(worker.requests) == 2
        # While it is written, a candidate of it is taken: it stops, and another one goes on.
        worker.report(GenerationStarted(worker.requests[-1], GenerationRequest(prompt_ids=tuple(range(24)))))
        worker.say("A token piece of")
        await settle(pilot, lambda: "A token piece of" in words(app), "the stream")
        inspector = app.chat.query_one(Inspector)
        inspector.select(1)
        inspector.post_message(CandidateChosen(inspector, 9))
        await settle(pilot, lambda: len(worker.requests) == 3, "the fork of the fork")
        newest = app.session.conversation.tip
        assert newest is not None and (newest.forked_from, newest.n_kept) == (tip.id, 1)
        assert worker.cancelled_ids == [worker.requests[1]]
        stopped = app.session.conversation[tip.id]
        assert stopped.finished and stopped.finish_reason is FinishReason.CANCELLED


@needs_model
async def test_forks_forced_texts_and_siblings_with_the_built_in_model() -> None:
    app = real_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await real(pilot)
        await type_in(pilot, "What is a token?")
        first = await ended(pilot, app, "ended by the model")
        trace = app.session.tokens_of[first.id][4].trace
        assert first.ids is not None and trace is not None
        put = next(token for token, _ in trace.top if token != trace.id)
        inspector = app.chat.query_one(Inspector)
        inspector.select(4)
        inspector.post_message(CandidateChosen(inspector, put))
        fork = await ended(pilot, app, "‹ 2/2 › · forked at token 5")
        assert fork.ids is not None and fork.ids[:5] == (*first.ids[:4], put)
        assert fork.usage is not None and fork.usage.prompt - fork.usage.reused == 1
        inspector.select(2)
        inspector.post_message(CandidateChosen(inspector, put, goes_on=False))
        forced = await ended(pilot, app, "‹ 3/3 › · forked at token 3")
        assert forced.ids == (*fork.ids[:2], put)
        await type_in(pilot, '/force " green grass"')
        longer = await ended(pilot, app, "‹ 4/4 › · forked at token 4")
        assert longer.text == forced.text + " green grass"
        await pilot.press("alt+left", "alt+left")
        await settle(pilot, lambda: "‹ 2/4 ›" in words(app), "the sibling")
        assert app.session.conversation.tip == fork
        # A token of the prompt: the message is said again with another one.
        await type_in(pilot, "And a model?")
        await settle(pilot, lambda: len(app.session.conversation.path) == 4, "the second turn")
        await ended(pilot, app, "tokens")
        app.chat.query_one(Inspector).post_message(Inspector.Wanted(inspector, "prompt"))
        await settle(pilot, lambda: inspector.token and inspector.token.id != fork.ids[-1], "the prompt")  # type: ignore[index]
        strip = list(inspector.query_one("#tokens").tokens)  # type: ignore[attr-defined]
        place = max(index for index, token in enumerate(strip) if token.piece == b" model")
        other = app.session.pieces.index(b" token")
        n = len(app.session.conversation)
        inspector.select(place)
        inspector.post_message(CandidateChosen(inspector, other))
        await settle(pilot, lambda: len(app.session.conversation) == n + 2 and not app.session.answering, "the answer")
        asked = app.session.conversation.last(Role.USER)
        assert asked is not None and asked.text == "And a token?"


@needs_model
async def test_a_candidate_of_any_token_of_any_message_goes_on_from_there() -> None:
    app = real_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await real(pilot)
        session, inspector = app.session, app.chat.query_one(Inspector)
        session.set_system("Be brief.")
        await type_in(pilot, "What is a token?")
        first = await ended(pilot, app, "ended by the model")
        await type_in(pilot, "What is a token?")
        await settle(pilot, lambda: len(session.conversation.path) == 5, "the second turn")
        second = await ended(pilot, app, "tokens")
        asked = session.conversation[first.parent_id or ""]

        async def chosen(place: int, token: int, done: Any, *, goes_on: bool = True) -> None:
            inspector.select(place)
            await pilot.pause()
            inspector.post_message(CandidateChosen(inspector, token, goes_on=goes_on))
            await settle(pilot, done, "what comes of it")

        # In the view of tokens, the first of two messages that say the same.
        await app.chat.set_view(True, focus=True)
        view = app.chat._text_of(asked.id)
        assert view is not None
        view.focus()
        await settle(pilot, lambda: app.chat.inspected_id == asked.id and view.tokens[-1].trace, "the figures")
        await settle(pilot, lambda: not session.answering, "the end")
        place = next(index for index, token in enumerate(view.tokens) if token.piece == b" token")
        n = len(session.conversation)
        model = session.pieces.index(b" model")
        await chosen(place, model, lambda: len(session.conversation) == n + 2 and not session.answering)
        said = session.conversation.last(Role.USER)
        assert said is not None and (said.text, said.parent_id) == ("What is a model?", asked.parent_id)
        assert said.ids is not None and model in said.ids

        # In the prompt of the second answer: a token of the first one, of the system text, and of the template.
        session.conversation.select(second.id, descend=False)
        await app.chat.rebuild()
        await pilot.press("f3", "p")
        await settle(pilot, lambda: app.chat.prompt_tokens, "the prompt")
        prompt = [token.id for token in app.chat.prompt_tokens or ()]
        await chosen(0, model, lambda: "this token is the template's" in words(app))
        pieces = [session.pieces[token] for token in prompt]
        system = next(at for at in range(len(pieces)) if b"".join(pieces[at:]).startswith(b"Be brief."))
        await chosen(system, model, lambda: "/system changes that" in words(app))
        assert first.ids is not None
        at = next(at for at in range(len(prompt)) if prompt[at : at + len(first.ids)] == list(first.ids))
        await chosen(at + 3, model, lambda: session.conversation.tip is not second and not session.answering)
        fork = session.conversation.tip
        assert fork is not None and fork.ids is not None
        assert (fork.forked_from, fork.n_kept, fork.ids[:4]) == (first.id, 3, (*first.ids[:3], model))

        # A token that ends an answer ends the message.
        await pilot.press("f3", "p")
        await settle(pilot, lambda: app.chat.prompt_tokens, "the prompt")
        prompt = [token.id for token in app.chat.prompt_tokens or ()]
        assert session.model is not None
        end = min(session.model.eog_ids)
        place = [session.pieces[token] for token in prompt].index(b" token")
        n = len(session.conversation)
        await chosen(place, end, lambda: len(session.conversation) == n + 1, goes_on=False)
        tip = session.conversation.tip
        assert tip is not None and tip.text == "What is a"
        await pilot.press("ctrl+q")


@needs_model
async def test_lanes_are_compared_and_one_is_kept() -> None:
    app = real_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await real(pilot)
        await type_in(pilot, "What is a token?")
        first = await ended(pilot, app, "ended by the model")
        await type_in(pilot, "/compare seed=1 seed=3,temp=2.5")
        await settle(pilot, lambda: list(app.chat.query(LanesCard)), "the card")
        card = app.chat.query_one(LanesCard)
        await settle(pilot, lambda: card.comparison.ended and card.report and card.report.document, "the lanes")
        assert card.report is not None
        lanes: Any = card.report.document["lanes"]
        assert tuple(lanes[0]["ids"]) == first.ids, "a lane is what an answer alone would be"
        assert card.report.document["diverged_at"] is not None and "◆" in card.text and "KL from lane 1" in card.text
        card.focus()
        writer, card.comparison.model = card.comparison.model, "another"
        await pilot.press("2")
        await settle(pilot, lambda: "another wrote these lanes: load it to keep one" in words(app), "the refusal")
        card.comparison.model = writer
        await pilot.press("4")
        await pilot.press("2")
        kept = await ended(pilot, app, "‹ 2/2 ›")
        assert kept.parent_id == first.parent_id and list(kept.ids or ()) == lanes[1]["ids"]
        assert kept.settings["seed"] == 3 and kept.settings["temperature"] == 2.5
        assert card.folded
        # It is an answer like any other: it can be gone on from, and made again.
        await type_in(pilot, "/replay")
        await settle(pilot, lambda: "every id, every draw" in words(app), "the replay")
        await type_in(pilot, "/fork 3")
        fork = await ended(pilot, app, "forked at token 3")
        assert fork.ids is not None and kept.ids is not None and fork.ids[:2] == kept.ids[:2]
        await type_in(pilot, "/compare temp=1 temp=2 temp=3 temp=4 temp=5")
        await settle(pilot, lambda: "compare 2 to 4 lanes, not 5" in words(app), "the refusal")


@needs_model
async def test_a_trace_is_saved_read_and_replayed(home: Path, tmp_path: Path) -> None:
    app = real_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await real(pilot)
        await type_in(pilot, "/trace")
        await settle(pilot, lambda: "there is no answer on show" in words(app), "the refusal")
        await type_in(pilot, "What is a token?")
        answer = await ended(pilot, app, "ended by the model")
        file = tmp_path / "my answer.jsonl"
        await type_in(pilot, f"/trace save '{file}'")
        await settle(pilot, file.is_file, "the file")
        await type_in(pilot, "/trace save")
        await settle(pilot, lambda: list((home / "data" / "traces").glob("*.trace.jsonl")), "the kept file")
        (kept,) = (home / "data" / "traces").glob("*.trace.jsonl")
        await type_in(pilot, f"/trace {kept.name}")
        await settle(pilot, lambda: len(list(app.chat.query(ReportCard))) == 3, "the card")
        report = list(app.chat.query(ReportCard))[-1].report
        assert report is not None and tuple(report.document["ids"]) == answer.ids  # type: ignore[arg-type]
        await type_in(pilot, f"/replay '{file}'")
        await settle(pilot, lambda: "every id, every draw" in words(app), "the replay")
        file.write_text("no trace\n")
        await type_in(pilot, f"/trace '{file}'")
        await settle(pilot, lambda: "is no trace" in words(app), "the problem")
