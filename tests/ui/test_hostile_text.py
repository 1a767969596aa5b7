"""Output of a model is data: whatever it holds, it is shown and nothing else happens."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.events import Click
from textual.widgets.markdown import Markdown

from tests.ui.scripted import ScriptedWorker, make_app, make_token, ready, settle, type_in
from tests.ui.test_chat_screen import shown
from tui_chat.display.text import hex_bytes, one_line, piece_label, visible
from tui_chat.ui.app import TuiChatApp
from tui_chat.ui.widgets.token_strip import TokenStrip
from tui_chat.ui.widgets.turns import Notice

HOSTILE = {
    "markup": "[@click=app.quit]x[/] [b]bold[/b] [/] [red",
    "clear": "before\x1b[2Jafter\x1b[31mred",
    "title": "\x1b]0;title\x07\x1bP+q\x1b\\",
    "link": "[link](file:///etc/passwd) <https://x.example> https://y.example ![i](file:///a.png)",
    "html": "<script>alert(1)</script>\n\n<b>x</b> &lt; &#8238;abc",
    "bidi": "a\u202eb\u2066c\u2069d\u200e",
    "c1": "\x9b31m\x90\x85\x00\x7f",
    "long": "x" * 10_000,
    "wide": "漢字" * 60 + "👨‍👩‍👧‍👦 ｆｕｌｌ",
    "joiners": "a\u200bb\u200dc\u2060d\ufeffe",
    "rtl": "שלום עולם مرحبا بالعالم",
    "table": "| [@click=app.quit]x[/] | [/] |\n|---|---|\n| [/b] | \x1b[2J |\n",
    "fence": "```python\n[@click=app.quit]x[/]\x1b[2J\n```\n\n    indented [/]\n",
    "nested": "> " * 40 + "deep\n" + "- " * 40 + "deep\n",
    "heading": "# [@click=app.quit]x[/] `[/]`\n",
}
ACTIVE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def actions(app: TuiChatApp) -> list[object]:
    """All that a click anywhere in the transcript would run."""
    found = []
    for line in app.screen._compositor.render_strips():
        for segment in line:
            if segment.style is not None and segment.style.meta.get("@click"):
                found.append(segment.style.meta["@click"])
            if segment.style is not None and segment.style.link:
                found.append(segment.style.link)
    return found


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_hostile_answers_stay_inert(size: tuple[int, int]) -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        for name, text in HOSTILE.items():
            await type_in(pilot, "say it: " + text.replace("\n", " "))
            worker.begin()
            worker.say(text[: len(text) // 2], [make_token(0, text[:40].encode("utf-8", "replace"))])
            await pilot.pause(0.15)
            assert actions(app) == [], name
            worker.say(text[len(text) // 2 :], [make_token(1, b"\x1b[2J"), make_token(2, b"\xe2\x96")])
            worker.finish()
            await settle(pilot, lambda: "ended by" in shown(app), name)
            assert not ACTIVE.search(shown(app).replace("\n", "")), name
            assert actions(app) == [], name
            await pilot.click("Transcript", offset=(12, 3))
            assert app.is_running, name
            await type_in(pilot, "/new")
            await settle(pilot, lambda: "A glass-box chat" in shown(app), name)


async def test_links_are_shown_with_their_address_and_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    worker = ScriptedWorker()
    app = make_app(worker)
    monkeypatch.setattr(app, "open_url", lambda url, **_: opened.append(url))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await type_in(pilot, "link")
        worker.answer("See [this](file:///etc/passwd).")
        await settle(pilot, lambda: "ended by" in shown(app))
        assert "[this](file:///etc/passwd)" in shown(app)
        for block in app.chat.query(Markdown):
            block.post_message(Click(block, 5, 0, 0, 0, 1, False, False, False))
        await pilot.pause()
    assert opened == []


async def test_hostile_errors_and_model_names_stay_inert() -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await type_in(pilot, "/model [@click=app.quit]x[/]\x1b[2J.gguf")
        await settle(pilot, lambda: app.chat.query(Notice))
        await pilot.pause()
        assert actions(app) == []
        assert not ACTIVE.search(shown(app).replace("\n", ""))
        app.chat.say("[/]\x1b[2J")
        await pilot.pause()
        assert not ACTIVE.search(shown(app).replace("\n", ""))


async def test_tokens_of_control_bytes_are_readable() -> None:
    worker = ScriptedWorker()
    app = make_app(worker)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await type_in(pilot, "hi")
        worker.begin()
        worker.say("", [make_token(0, b"\xe2\x96"), make_token(1, b"<|im_end|>"), make_token(2, b" \n")])
        strip = app.chat.query_one(TokenStrip)
        await settle(pilot, lambda: len(strip.tokens) == 3)
        await pilot.pause()
        picture = shown(app)
        assert "⟨E2 96⟩<|im_end|>·⏎" in picture
        assert "20 0A" in picture


@given(st.text())
def test_visible_text_is_inert_and_keeps_its_lines(text: str) -> None:
    out = visible(text)
    assert not ACTIVE.search(out)
    assert out.count("\n") >= text.count("\n")
    assert not re.search("[\ud800-\udfff]", out)


@given(st.binary(max_size=24))
def test_every_piece_has_a_label_on_one_line(piece: bytes) -> None:
    label = piece_label(piece)
    assert label
    assert "\n" not in label
    assert not ACTIVE.search(label)


@pytest.mark.parametrize(
    ("piece", "label"),
    [
        (b" token", "·token"),
        (b"  ", "␣␣"),
        (b"\n", "⏎"),
        (b"\t", "⇥"),
        (b"\xe2\x96", "⟨E2 96⟩"),
        (b"a\xff b", "a⟨FF⟩·b"),
        ("é".encode(), "é"),
        (b"\x1b[2J", "␛[2J"),
        (b"<|im_end|>", "<|im_end|>"),
        (b"", "⟨empty⟩"),
    ],
)
def test_labels_of_pieces(piece: bytes, label: str) -> None:
    assert piece_label(piece) == label


def test_small_text_helpers() -> None:
    assert visible("a\r\nb\rc") == "a\nb␍c"
    assert visible("\u202e") == "⟨U+202E⟩"
    assert one_line("a\nb\tc") == "a⏎b⇥c"
    assert hex_bytes(b"\xe2\x96") == "E2 96"
