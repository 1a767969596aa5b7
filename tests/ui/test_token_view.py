"""The messages as tokens on the screen: where one stands, what follows, and what streams."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input

from tests.ui.scripted import PIECES, ScriptedWorker, cut_into_tokens, make_app, make_token, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tests.ui.test_snapshots import SIZES, at_rest, one_turn
from tests.ui.test_with_engine import real_app
from tui_chat import paths
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.store import Store
from tui_chat.config import LoadedSettings, Settings
from tui_chat.engine.types import FinishReason, GeneratedToken
from tui_chat.models.resolve import builtin_path
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.app import make_app as make_real_app
from tui_chat.ui.archive import STORE_NAME
from tui_chat.ui.resuming import newest_conversation
from tui_chat.ui.tints import Measure
from tui_chat.ui.widgets.composer import Composer, MessageInput
from tui_chat.ui.widgets.inspector import Inspector
from tui_chat.ui.widgets.token_map import TokenMap
from tui_chat.ui.widgets.token_text import TokenText
from tui_chat.ui.widgets.transcript import Transcript

ODD = [
    b"\xe6\x97\xa5\xe6\x9c\xac", b" \xf0\x9f\x98\x80", b"\xe2\x96", b"\x81", b"\t\tx", b"\n\n", b"<|im_end|>",
    b"[@click=app.quit]", b"\x1b[31m", b"\xcc\x81", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"    ", b"", b" end",
]  # fmt: skip
"""Wide characters, bytes of one, tabs, line ends, a control token, markup, an escape, a lone accent, and so on."""


def texts(app: TuiChatApp) -> list[TokenText]:
    return list(app.chat.query(TokenText))


async def in_tokens(pilot: Pilot[Any], worker: ScriptedWorker) -> TuiChatApp:
    """One turn, seen as tokens, with the focus on the answer."""
    app = await one_turn(pilot, worker)
    await pilot.press("ctrl+o")
    await settle(pilot, lambda: isinstance(app.focused, TokenText), "the tokens")
    return app


def answered(app: TuiChatApp, n: int) -> bool:
    return len(app.session.tokens_of) == n and not app.session.answering


def vocabulary_known(app: TuiChatApp) -> bool:
    model = app.session.model
    return model is not None and len(app.session.pieces) == model.n_vocab


def figures_known(text: TokenText) -> bool:
    return all(token.trace for token in text.tokens[1:])


def legend_has(app: TuiChatApp, name: str) -> bool:
    return any(f"m {name} " in line for line in shown(app).splitlines())


async def test_the_legend_names_its_key_only_where_it_acts() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await in_tokens(pilot, worker)
        await settle(pilot, lambda: legend_has(app, "probability"), "the key")
        await pilot.press("f2")
        await settle(pilot, lambda: not legend_has(app, "probability"), "the legend without its key")
        assert "probability ≥90%" in shown(app) and isinstance(app.focused, MessageInput)
        await pilot.press("shift+tab")
        await settle(pilot, lambda: legend_has(app, "probability"), "the key again")


@pytest.mark.parametrize("size", ["narrow", "two"])
async def test_the_key_changes_the_view_and_the_inspector_follows(size: str) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES[size]) as pilot:
        await in_tokens(pilot, worker)
        assert len(texts(app)) == 2, "the message of the user has tokens too"
        assert app.chat.query_one(TokenMap).display
        answer = texts(app)[-1]
        assert app.focused is answer
        await pilot.press("home", "right")
        inspector = app.chat.query_one(Inspector)
        await settle(pilot, lambda: inspector.selected == 1 and answer.selected == 1)
        await pilot.press("down")
        await settle(pilot, lambda: (inspector.selected or 0) > 3 and inspector.selected == answer.selected)
        await pilot.press("end")
        await settle(pilot, lambda: inspector.selected is None and answer.selected is None)
        await pilot.press("v")
        await settle(pilot, lambda: not texts(app) and isinstance(app.focused, MessageInput), "the text")
        assert "small piece of text" in shown(app)
        assert not app.chat.query_one(TokenMap).display
        await pilot.press("v")
        assert app.chat.query_one(Composer).text == "v", "where one writes it is a letter"


async def test_up_leads_into_the_message_before_and_its_figures_are_read() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        asked, answer = texts(app)
        await pilot.press("home", "up")
        await settle(pilot, lambda: app.focused is asked and asked.active and not answer.active)
        await settle(pilot, lambda: all(token.trace for token in asked.tokens[1:]), "the figures of the prompt")
        assert asked.tokens[0].trace is None, "nothing stands before the first token of all"
        inspector = app.chat.query_one(Inspector)
        assert app.chat.inspected_id == app.session.conversation.path[0].id
        await settle(pilot, lambda: inspector.token is not None and inspector.token.trace is not None)
        await pilot.press("end", "right")
        await settle(pilot, lambda: app.focused is answer and answer.selected == 0)


async def test_selecting_in_the_inspector_moves_in_the_message() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        await pilot.press("f3", "left", "left")
        answer = texts(app)[-1]
        await settle(pilot, lambda: answer.selected == len(answer.tokens) - 3)
        await pilot.press("v")
        await settle(pilot, lambda: not texts(app), "the text: v acts in the inspector as well")


async def test_a_click_selects_and_the_strip_jumps() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        answer = texts(app)[-1]
        await pilot.click(answer, offset=(1, 0))
        await settle(pilot, lambda: answer.selected == 0 and app.chat.query_one(Inspector).selected == 0)
        await pilot.click(TokenMap, offset=(12, 0))
        await settle(pilot, lambda: answer.selected == 10)
        await pilot.press("5")
        await settle(pilot, lambda: answer.selected == len(answer.tokens) // 2)


async def test_surprising_tokens_are_gone_through() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        answer = texts(app)[-1]
        await pilot.press("home", "s")
        await settle(pilot, lambda: answer.selected == 4)
        await pilot.press("s")
        await settle(pilot, lambda: answer.selected == 10)
        await pilot.press("S")
        await settle(pilot, lambda: answer.selected == 4)


async def test_search() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await in_tokens(pilot, worker)
        answer = texts(app)[-1]
        await pilot.press("home", "slash")
        await settle(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press(*"TOKENS")
        await settle(pilot, lambda: "“TOKENS” 2 places" in shown(app))
        await pilot.press("enter")
        await settle(pilot, lambda: "tokens" in answer.tokens[answer.selected or 0].piece.decode())
        first = answer.selected
        assert "1/2" in shown(app)
        await pilot.press("n")
        await settle(pilot, lambda: answer.selected != first and "2/2" in shown(app))
        await pilot.press("n")
        await settle(pilot, lambda: answer.selected == first)
        await pilot.press("slash", "escape")
        await settle(pilot, lambda: app.focused is answer and "places" not in shown(app))
        await pilot.press("escape")
        await settle(pilot, lambda: isinstance(app.focused, MessageInput))


async def test_it_streams_and_stops() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await ready(pilot)
        await type_in(pilot, "/view tokens by rank")
        await type_in(pilot, "go on")
        worker.begin()
        worker.say("The first words")
        await settle(pilot, lambda: len(texts(app)) == 2 and "first¹words" in shown(app))
        answer = texts(app)[-1]
        assert answer.measure is Measure.RANK
        lines_before = answer.n_lines
        worker.say(" and more" * 60)
        await settle(pilot, lambda: len(answer.tokens) == 123 and answer.n_lines > lines_before + 5)
        assert answer.current == 122, "the newest is followed"
        await settle(pilot, lambda: app.chat.query_one(Transcript).is_vertical_scroll_end)
        await pilot.press("escape")
        worker.finish(FinishReason.CANCELLED)
        await settle(pilot, lambda: "stopped by you" in shown(app), "the footer")
        await type_in(pilot, "/view reading")
        await settle(pilot, lambda: not texts(app) and "and more and more" in shown(app))


async def test_changing_the_view_in_mid_stream() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await ready(pilot)
        await type_in(pilot, "go on")
        worker.begin()
        worker.say("The first words")
        await settle(pilot, lambda: "The first words" in shown(app))
        await pilot.press("ctrl+o")
        await settle(pilot, lambda: len(texts(app)) == 2)
        worker.say(" and these")
        await settle(pilot, lambda: len(texts(app)[-1].tokens) == 5)
        await pilot.press("ctrl+o")
        await settle(pilot, lambda: not texts(app) and "The first words and these" in shown(app))
        worker.say(" too")
        worker.finish()
        await settle(pilot, lambda: "these too" in shown(app) and "ended by" in shown(app))


async def test_an_older_answer_is_looked_at_while_a_new_one_streams() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        await pilot.press("escape")
        await type_in(pilot, "more")
        worker.begin(40)
        worker.say("Another answer")
        await settle(pilot, lambda: len(texts(app)) == 4)
        old = texts(app)[1]
        await pilot.click(old, offset=(1, 0))
        inspector = app.chat.query_one(Inspector)
        await settle(pilot, lambda: inspector.selected == 0 and inspector.token is old.tokens[0])
        worker.say(" goes on")
        await settle(pilot, lambda: len(texts(app)[3].tokens) == 4)
        assert inspector.token is old.tokens[0]
        worker.finish()
        await settle(pilot, lambda: not app.session.answering)
        assert app.chat.inspected_id == app.session.conversation.path[1].id


@pytest.mark.parametrize("measure", [Measure.PROBABILITY, Measure.TIME])
async def test_odd_tokens_are_readable_and_inert(measure: Measure) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await ready(pilot)
        await type_in(pilot, f"/view tokens by {measure}")
        await type_in(pilot, "odd")
        worker.begin()
        worker.say("odd", [make_token(index, piece, (0.95, 0.3)[index % 2]) for index, piece in enumerate(ODD)])
        worker.finish()
        await settle(pilot, lambda: "ended by" in shown(app))
        picture = shown(app)
        for text in ("日本", "😀", "⟨E2 96⟩", "⟨81⟩", "⇥⇥x", "⏎", "<|im_end|>", "[@click=app.quit]", "␛[31m", "◌",
                     "⟨U+202E⟩", "␣␣␣␣", "⟨empty⟩", "end"):  # fmt: skip
            assert text in picture, text
        assert all(strip.cell_length == 80 for strip in app.screen._compositor.render_strips())
        answer = texts(app)[-1]
        answer.focus()
        await pilot.press("home", *["right"] * (len(ODD) - 1))
        await settle(pilot, lambda: answer.selected == len(ODD) - 1)


async def test_what_would_come_out_differently_is_marked() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        answer_id = app.session.conversation.path[-1].id
        app.chat.mark_tokens(answer_id, {3, 5})
        await settle(pilot, lambda: shown(app).count("≠") == 2)
        app.chat.mark_tokens(answer_id, ())
        await settle(pilot, lambda: "≠" not in shown(app))


async def test_the_measures_go_round() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await in_tokens(pilot, worker)
        for name in ("surprisal, nats", "entropy, nats", "rank", "time", "probability"):
            await pilot.press("m")
            await settle(pilot, partial(legend_has, app, name))
        await pilot.press("M")
        await settle(pilot, partial(legend_has, app, "time"))
        await pilot.press("slash", *"zebra", "enter")
        await settle(pilot, lambda: "“zebra” 0 places" in shown(app) and isinstance(app.focused, TokenText), "the miss")
        await pilot.press("m")
        await settle(pilot, partial(legend_has, app, "probability"))


@pytest.mark.parametrize("line", ["/view sideways", "/view reading by rank", "/view rank time"])
async def test_a_view_that_is_none_is_refused(line: str) -> None:
    app = make_app()
    async with app.run_test(size=SIZES["narrow"]) as pilot:
        await ready(pilot)
        await type_in(pilot, line)
        await settle(pilot, lambda: "problem" in shown(app))
        assert app.chat.view == "reading"


async def test_stored_answers_have_their_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_CHAT_HOME", str(tmp_path))
    tokens = cut_into_tokens("the first answer")
    conversation = Conversation()
    asked = conversation.append(Role.USER, "hi")
    ids = tuple(token.id for token in tokens)
    first = conversation.add(
        Message(
            role=Role.ASSISTANT,
            text="the first answer",
            parent_id=asked.id,
            ids=ids,
            model="pocket",
            prompt_ids=tuple(range(20)),
        )
    )
    conversation.append(Role.USER, "on")
    with Store(paths.ensure_dir(paths.data_dir()) / STORE_NAME) as store:
        store.write(conversation, *conversation.path)
        store.add_traces(first.id, [token.trace for token in tokens if token.trace])
    app = make_app(conversation=conversation)
    async with app.run_test(size=SIZES["two"]) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+o")
        await settle(pilot, lambda: len(texts(app)) == 2 and texts(app)[1].tokens, "the tokens from the store")
        assert list(texts(app)[1].tokens) == tokens


@pytest.mark.skipif(not builtin_path().is_file(), reason="the built-in model is not there")
async def test_a_resumed_conversation_with_the_built_in_model(home: Path) -> None:
    first = real_app()
    async with first.run_test(size=SIZES["narrow"]) as pilot:
        await settle(pilot, lambda: first.session.pieces, "the model")
        for number in (1, 2):
            await type_in(pilot, "What is a token?")
            await settle(pilot, partial(answered, first, number), "an answer")
        told = [list(first.session.tokens_of[message.id]) for message in first.session.conversation.path[1::2]]
        await pilot.press("ctrl+q")
    resumed = newest_conversation()
    settings = Settings.model_validate({"inference": {"seed": 1, "max_length": 48}, "llm": {"n_ctx": 512}})
    app = make_real_app(
        LoadedSettings(settings, {}, None),
        model="builtin",
        conversation=resumed.conversation,
        tokens_of=resumed.tokens_of,
    )
    async with app.run_test(size=SIZES["two"]) as pilot:
        await settle(pilot, lambda: vocabulary_known(app), "the model")
        await pilot.press("ctrl+o")
        await settle(pilot, lambda: len(texts(app)) == 4, "all messages")
        asked, answer, again, last = texts(app)
        assert [list(answer.tokens), list(last.tokens)] == told, "the first answer too was read back, with its figures"
        assert asked.tokens[0].piece == b"<|im_start|>"
        assert again.tokens[0].piece == b"<|im_end|>", "what closes the answer is what the model was given next"
        for text in (asked, again):
            text.focus()
            await settle(pilot, partial(figures_known, text), "the figures")
            assert "What is a token?" in b"".join(token.piece for token in text.tokens).decode()
        assert all(token.trace for token in again.tokens)


async def test_five_thousand_tokens_are_set_in_parts_and_reached_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    many: list[GeneratedToken] = [make_token(index, PIECES[3 + index % 20]) for index in range(5_000)]
    async with app.run_test(size=SIZES["two"]) as pilot:
        await ready(pilot)
        await type_in(pilot, "/view tokens")
        await type_in(pilot, "go on")
        worker.begin()
        worker.say("x", many)
        await settle(pilot, lambda: len(texts(app)) == 2 and texts(app)[1].n_lines > 300, "all lines")
        answer = texts(app)[1]
        drawn: list[int] = []
        original = answer.render_line

        def render_line(y: int) -> Strip:
            drawn.append(y)
            return original(y)

        monkeypatch.setattr(answer, "render_line", render_line)
        answer.focus()
        await pilot.press("5")
        await settle(pilot, lambda: answer.selected == 2_500)
        await at_rest(pilot)
        assert len(set(drawn)) < 100, "only what can be seen is drawn"
        y = answer.line_region(2_500).y + answer.region.y
        assert app.chat.query_one(Transcript).region.contains(10, y)


@pytest.mark.parametrize("size", ["narrow", "two"])
def test_picture(snap_compare: Any, size: str) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        app = await in_tokens(pilot, worker)
        await pilot.press("4")
        app.chat.mark_tokens(app.session.conversation.path[-1].id, {12, 30})
        await at_rest(pilot)

    assert snap_compare(make_app(worker), terminal_size=SIZES[size], run_before=play)


@pytest.mark.parametrize("theme", ["tui-chat-light", "high-contrast", "darkroom"])
def test_picture_in_theme(snap_compare: Any, theme: str) -> None:
    worker = ScriptedWorker()

    async def play(pilot: Pilot[Any]) -> None:
        await in_tokens(pilot, worker)
        await pilot.press("m", "slash")
        await settle(pilot, lambda: isinstance(pilot.app.focused, Input))
        pilot.app.screen.query_one("#token-search", Input).cursor_blink = False
        await pilot.press(*"tok")
        await at_rest(pilot)

    assert snap_compare(make_app(worker, theme=theme), terminal_size=SIZES["narrow"], run_before=play)
