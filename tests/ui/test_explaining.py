"""From a figure on the screen to its formula: the key on the tokens, a click, settings that did not stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.ui.scripted import INFO, ScriptedWorker, make_app, make_token, ready, settle, type_in
from tests.ui.test_chat_screen import NARROW, WIDE, shown
from tests.ui.test_with_engine import real_app
from tui_chat.chat.conversation import Role
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import GeneratedToken, SettingsChanged
from tui_chat.models.resolve import builtin_path
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.commanding import AppCommands
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.token_facts import TokenFacts
from tui_chat.ui.widgets.token_strip import TokenStrip

needs_model = pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")


def card_text(app: TuiChatApp) -> str:
    return app.chat.query(ReportCard).last().text


def cut_to(top_k: int, token: GeneratedToken) -> GeneratedToken:
    """The token as if top-k had left so many."""
    trace = token.trace
    assert trace is not None
    stages = tuple(replace(stage, survivors=min(top_k, stage.survivors)) for stage in trace.stages)
    return replace(token, trace=replace(trace, stages=stages))


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_the_key_explains_the_selected_token(size: tuple[int, int]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await type_in(pilot, "What is a token?")
        await pilot.press("f3", "question_mark")
        assert not app.chat.query(ReportCard)
        worker.answer("A token is a small piece of text.")
        await settle(pilot, lambda: len(app.chat.query_one(TokenStrip).tokens) == 8, "the tokens")
        await pilot.press("f3", "home", "right", "question_mark")
        await settle(pilot, lambda: "/why probability" in shown(app), "the card")
        assert "token 2 of 8 of the answer:  ·token" in card_text(app)
        assert "e^(−0.4780 − 0.0000) = e^(−0.4780) = 0.6200" in card_text(app)


async def test_a_click_on_a_figure_explains_it() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "What is a token?")
        worker.answer("A token is a small piece of text.")
        facts = app.chat.query_one(TokenFacts)
        await settle(pilot, lambda: "surprisal" in shown(app), "the figures")
        places = {place.figure: place for place in facts._places}
        assert list(places) == [
            *("probability", "rank", "u", "first-token", "surprisal", "entropy"),
            *("top-k", "top-p", "min-p"),
        ]
        for count, place in enumerate((places["entropy"], places["top-p"]), start=1):
            await pilot.click(TokenFacts, offset=(place.start + facts.gutter.left, place.y + facts.gutter.top))
            await settle(pilot, lambda count=count: len(app.chat.query(ReportCard)) == count, place.figure)  # type: ignore[misc]
            assert app.chat.query(ReportCard).last()._title == f"/why {place.figure}"
        await pilot.click(TokenFacts, offset=(facts.gutter.left, facts.gutter.top))
        await pilot.pause()
        assert len(app.chat.query(ReportCard)) == 2
        assert "token 8 of 8" in card_text(app) and "selected token" in shown(app)


async def test_an_example_is_explained_before_anything_was_asked() -> None:
    app = real_app()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        for line, words in (("/why entropy", "H = Σ p(t)"), ("/why", "perplexity"), ("/why kv", "bytes a token")):
            n = len(app.chat.query(ReportCard))
            await type_in(pilot, line)
            await settle(pilot, lambda n=n: len(app.chat.query(ReportCard)) > n, "the card")  # type: ignore[misc]
            await settle(pilot, lambda: app.chat.query(ReportCard).last().report is not None, "the report")
            assert words in card_text(app) and "nothing was answered" not in card_text(app)
            assert ("an answer to “What is a token?”" in card_text(app)) == (line != "/why kv")
        assert not app.session.conversation.path
        await pilot.press("ctrl+q")


async def test_while_an_answer_streams_figures_are_explained_at_once() -> None:
    worker = ScriptedWorker()
    app = make_app(worker, inference=InferenceSettings(seed=7, top_k=40))
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await type_in(pilot, "What is a token?")
        worker.begin()
        worker.say("A token is")
        await settle(pilot, lambda: len(app.chat.query_one(TokenStrip).tokens) == 3, "the tokens")
        await type_in(pilot, "/top-k 7")
        await type_in(pilot, "/why top-k")
        await settle(pilot, lambda: "/why top-k" in shown(app), "the card")
        assert "min(40, 64) = 40" in card_text(app)
        worker.report(SettingsChanged(worker.requests[-1], 3, worker.params[-1]))
        later = [cut_to(7, make_token(3 + at, piece, 0.02)) for at, piece in enumerate((b" a", b" small", b" piece"))]
        worker.say(" a small piece", later)
        await settle(pilot, lambda: len(app.chat.query_one(TokenStrip).tokens) == 6, "more tokens")
        await type_in(pilot, "/why top-k")
        await settle(pilot, lambda: len(app.chat.query(ReportCard)) == 2, "another card")
        assert "min(7, 64) = 7" in card_text(app)
        worker.finish()
        await settle(pilot, lambda: not app.session.answering, "the end")
        await type_in(pilot, "/why top-k")
        await settle(pilot, lambda: len(app.chat.query(ReportCard)) == 3, "the card of the answer that is kept")
        assert "min(7, 64) = 7" in card_text(app)


async def test_what_is_inspected_is_known_to_commands() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        commands = AppCommands(app)
        nothing = commands.inspected()
        assert (nothing.token, nothing.model) == (None, INFO)
        await type_in(pilot, "What is a token?")
        worker.answer("A token is a small piece of text.")
        await settle(pilot, lambda: len(app.chat.query_one(TokenStrip).tokens) == 8, "the tokens")
        seen = commands.inspected()
        assert seen.index == 4 and "most surprising" in seen.note and seen.prompt_ids == tuple(range(24))
        assert seen.setting("seed") == 7 and seen.usage is not None and seen.written_by == "pocket"
        assert seen.label(4) == "·token"
        offered = commands.complete("/why entr").suggestions
        assert offered[0].text == "/why entropy" and "1.830 nats" in offered[0].hint


@needs_model
async def test_tokens_that_nobody_drew_are_not_said_to_be_of_the_answer() -> None:
    app = real_app()
    async with app.run_test(size=WIDE) as pilot:
        session = app.session
        await settle(pilot, lambda: session.model and len(session.pieces) == session.model.n_vocab, "the model")
        await type_in(pilot, "What is a token?")
        await settle(pilot, lambda: session.answer and not session.answering, "the answer")
        answer = session.answer
        assert answer is not None
        n = len(answer.prompt_ids)

        async def explained(*keys: str) -> str:
            cards = len(app.chat.query(ReportCard))
            await pilot.press(*keys)
            await settle(pilot, lambda: len(app.chat.query(ReportCard)) > cards, "the card")
            return " ".join(card_text(app).split())

        await pilot.press("f3", "p")
        await settle(pilot, lambda: f"the prompt · {n} tokens" in shown(app), "the prompt")
        text = await explained("home", "right", "question_mark")
        assert f"token 2 of {n} of the prompt:" in text and "answer" not in text
        composer = app.chat.query_one(Composer)
        composer.begin("/why top-k")
        composer.focus_input()
        text = await explained("enter")
        assert "nothing drew this token: the model was given it" in text
        composer.begin("/why perplexity")
        text = await explained("enter")
        assert f"of a prompt of {n} tokens" in text and "1 token is left out" in text
        await pilot.press("f3", "home")
        text = await explained("question_mark")
        assert "the model has not read this token yet, or nothing stands before it" in text
        # The same tokens as those of the user's message, in the view of tokens.
        await app.chat.set_view(True, focus=True)
        asked = session.conversation.last(Role.USER)
        assert asked is not None
        view = app.chat._text_of(asked.id)
        assert view is not None
        view.focus()
        await settle(pilot, lambda: view.tokens and view.tokens[-1].trace, "the figures")
        text = await explained("home", "right", "question_mark")
        assert f"token 2 of {len(view.tokens)} of the message, its template included:" in text
        assert app.chat.inspected_id == asked.id
        await pilot.press("ctrl+q")
