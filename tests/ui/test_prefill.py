"""`/prefill` and `/think` from composer to store: what the answer begins with, and what the template is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.ui.scripted import PIECES, FakeEngine, cut_into_tokens, settle, type_in
from tests.ui.test_session import Bench
from tests.ui.test_with_engine import real_app
from tui_chat.chat.conversation import Message, Role
from tui_chat.chat.store import Store
from tui_chat.config import InferenceSettings
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import GeneratedToken, GenerationRequest, SamplingParams
from tui_chat.errors import EngineError
from tui_chat.ui.requests import RequestBuilder
from tui_chat.ui.summary import sampling_line
from tui_chat.ui.widgets.report_card import ReportCard


def prefilling(
    engine: object, messages: Sequence[Message], params: SamplingParams, inference: object, prefill: str
) -> GenerationRequest:
    """Every word of the beginning is a token."""
    ids = tuple(PIECES.index(token.piece) for token in cut_into_tokens(prefill))
    return GenerationRequest(prompt_ids=(0, *ids), n_prefilled=len(ids), params=params)


@pytest.fixture
def bench() -> Bench:
    bench = Bench(build_request=prefilling)
    bench.load()
    return bench


def test_the_next_answer_begins_with_it_and_only_that_one(bench: Bench) -> None:
    session, worker = bench.session, bench.worker
    session.prefill = "A token is"
    assert sampling_line(session).startswith("begins “A token is” · ")
    session.send("hi")
    assert session.prefill == "" and "begins" not in sampling_line(session)
    request = worker.builds[-1](FakeEngine)
    assert request.n_prefilled == 3
    worker.begin(24)
    begun = [GeneratedToken(token.id, token.piece, None) for token in cut_into_tokens("A token is")]
    worker.say("A token is", begun)
    worker.say(" a piece")
    assert session.context == (24 + 2, 2048)
    worker.finish()
    answer = session.conversation.path[-1]
    assert answer.text == "A token is a piece"
    assert answer.ids is not None and answer.ids[:3] == tuple(token.id for token in begun)
    assert answer.settings["prefill"] == "A token is"
    assert bench.kept.saved[-1] == answer
    session.retry()
    assert worker.builds[-1](FakeEngine).n_prefilled == 0
    worker.answer("Other")
    assert "prefill" not in session.conversation.path[-1].settings


def test_it_is_there_again_when_the_answer_came_to_nothing(bench: Bench) -> None:
    bench.session.prefill = "A token"
    bench.session.send("hi")
    bench.worker.fail(EngineError("no"))
    assert bench.session.undo_answer() == "hi"
    assert bench.session.prefill == "A token"


def test_a_long_beginning_is_shortened_where_it_is_shown(bench: Bench) -> None:
    bench.session.prefill = "line\nand much more than there is room for"
    bench.session.set_value("enable_thinking", False)
    assert sampling_line(bench.session).startswith("begins “line⏎and much m…” · ")
    assert sampling_line(bench.session).endswith("think off")


@pytest.mark.parametrize(("state", "end"), [(None, "assistant\n"), (False, "</think>\n\n")])
def test_the_template_is_told_and_the_beginning_stands_behind_it(pocket: Engine, state: bool | None, end: str) -> None:
    builder = RequestBuilder(None, lambda _: None)
    messages = [Message(role=Role.USER, text="Hi")]
    inference = InferenceSettings(enable_thinking=state)
    request = builder(pocket, messages, SamplingParams(), inference, "Well")
    text = pocket.vocab.detokenize(request.prompt_ids).decode()
    assert text.endswith(end.rpartition("assistant\n")[2] + "Well")
    assert request.n_prefilled == len(pocket.vocab.tokenize("Well"))


async def test_in_the_app(home: Path) -> None:
    app = real_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot, lambda: app.session.model is not None and app.session.pieces, "the model")
        await type_in(pilot, '/prefill "A token is "')
        await type_in(pilot, "/think off")
        await type_in(pilot, "What is a token?")
        await settle(pilot, lambda: app.session.answer and not app.session.answering, "the answer")
        answer = app.session.conversation.path[-1]
        assert answer.text.startswith("A token is ") and answer.ids is not None
        assert b"".join(app.session.pieces[token] for token in answer.ids).decode() == answer.text
        assert (answer.settings["prefill"], answer.settings["enable_thinking"]) == ("A token is ", False)
        await type_in(pilot, "/template")
        await settle(pilot, lambda: document(app).get("text"), "the report")
        assert str(document(app)["text"]).endswith("<think>\n\n</think>\n\n")
        last = app.session.answer
        assert last is not None and last.usage is not None
        app._commands.log_answer()
        await settle(pilot, lambda: document(app).get("context"), "the log of the answer")
        used, n_ctx = last.usage.prompt + last.usage.generated, app.session.model.n_ctx  # type: ignore[union-attr]
        assert document(app)["context"] == {"used": used, "n_ctx": n_ctx} and app.session.context == (used, n_ctx)
        assert len(document(app)["prompt_ids"]) == last.usage.prompt  # type: ignore[arg-type]
        await type_in(pilot, "/temp")
        await settle(pilot, lambda: document(app).get("setting") == "temperature", "the next report")
        await pilot.press("ctrl+q")
    with Store(home / "data" / "conversations.db") as store:
        stored = store.load(store.conversations()[0].id).path[-1]
        assert (stored.text, stored.ids) == (answer.text, answer.ids)


def document(app: Any) -> dict[str, object]:
    """Of the newest report that is there."""
    reports = [card.report for card in app.chat.query(ReportCard) if card.report is not None]
    return dict(reports[-1].document) if reports else {}
