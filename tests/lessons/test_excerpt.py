"""A text longer than the context: the part that is used, that it is the same in the app, and that it is said."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.commands.recorder import Recorder
from tests.lessons.contracts import check
from tui_chat.chat.conversation import Role
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import Limits
from tui_chat.errors import PromptTooLongError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.excerpt import Excerpt, document, end_of_text, part_of_message, warning
from tui_chat.lessons.report import Report
from tui_chat.lessons.scene import Scene

LONG = " ".join(f"number {n} is a small word," for n in range(120)) + " and so the model ends with the word"


def drawn(report: Report) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, 200))


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("n", [1, 9, 10, 11, 40])
def test_a_text_to_continue_keeps_its_end_behind_the_first_token(n: int, *, add_bos: bool) -> None:
    words = list(range(100, 100 + n))
    vocab = SimpleNamespace(
        add_bos=add_bos, bos_id=1, tokenize=lambda text, **_options: [1, *words] if add_bos else words
    )
    engine = cast("Engine", SimpleNamespace(vocab=vocab, context=SimpleNamespace(n_ctx=11)))
    ids, used = end_of_text(engine, "text")
    if n + add_bos < 11:
        assert (list(ids), used) == ([1, *words] if add_bos else words, None)
        return
    assert used == Excerpt(n - 9 + add_bos, n, n, 11)
    assert list(ids) == ([1] if add_bos else []) + words[used.first - 1 :] and len(ids) == 10


@pytest.mark.parametrize("beginning", [False, True])
@pytest.mark.parametrize("reserve", [1, 100, 5000])
def test_a_message_keeps_as_much_as_leaves_room(pocket: Engine, reserve: int, *, beginning: bool) -> None:
    text = "héllo 👍👍 ñandú " * 200
    scene = Scene(limits=Limits(max_tokens=reserve)).asking(text, "Answer in one sentence.")
    shorter, used = part_of_message(pocket, scene, reserve=reserve, beginning=beginning)
    system, said = shorter.messages
    total = len(pocket.vocab.tokenize(text))
    assert used is not None and used.total == total and system == scene.messages[0]
    assert (used.first == 1) == beginning and (used.last == total) != beginning
    assert said.text and (text.startswith(said.text) if beginning else text.endswith(said.text))
    room = 512 - min(reserve, 256)
    n = len(shorter.fitted(pocket).ids)
    assert room - 8 < n <= room
    assert abs(len(pocket.vocab.tokenize(said.text)) - (used.last - used.first + 1)) <= 3


def test_what_has_room_stays_whole_and_a_conversation_is_refused_as_in_the_chat(pocket: Engine) -> None:
    scene = Scene().asking("What is a token?")
    assert part_of_message(pocket, scene, reserve=400) == (scene, None)
    assert (warning(None), document(None)) == ((), None)
    long = Scene().asking(LONG).messages[0]
    answered = replace(scene, messages=(*scene.messages, replace(long, role=Role.ASSISTANT), long))
    assert part_of_message(pocket, answered, reserve=1) == (answered, None)
    with pytest.raises(PromptTooLongError):
        answered.fitted(pocket)
    with pytest.raises(PromptTooLongError):
        part_of_message(pocket, Scene().asking(LONG, LONG), reserve=1)


def test_the_command_line_and_the_app_use_the_same_part(pocket: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logits", LONG, "--n-ctx", "512", "--json"]) == 0
    there = check("logits", capsys.readouterr().out)
    app = Recorder(engine=pocket)
    default_registry().execute(f'/logits "{LONG}"', app)
    here = check("logits", app.reports[0].document)
    ids = pocket.vocab.tokenize(LONG, add_special=True, parse_special=True)
    assert there["excerpt"] == here["excerpt"] == {"first": len(ids) - 510, "last": len(ids), "of": len(ids)}
    assert there["prompt_ids"] == here["prompt_ids"] == ids[-511:]
    assert there["top"][0]["id"] == here["top"][0]["id"] == int(pocket.logits(ids[-511:]).argmax())
    text = (
        f"The text has {len(ids):,} tokens and the context holds 512: only its end is used, tokens {len(ids) - 510:,}"
    )
    assert text in drawn(app.reports[0])


@pytest.mark.parametrize(
    ("words", "contract"),
    [
        (["logits", LONG, "--chat"], "logits"),
        (["explain", LONG, "--max-tokens", "3", "--temperature", "0"], "explain"),
        (["why", "entropy", "--prompt", LONG], "why"),
        (["haiku", LONG], "haiku"),
    ],
)
def test_each_lesson_says_which_part(words: list[str], contract: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*words, "--n-ctx", "256"]
    assert run([*line, "--json"]) == 0
    found: dict[str, Any] = check(contract, capsys.readouterr().out)
    used = found["excerpt"]
    assert used["of"] > 256 and 1 <= used["first"] < used["last"] <= used["of"]
    assert (used["first"] == 1) == (contract == "haiku") and (used["last"] == used["of"]) == (contract != "haiku")
    if contract == "haiku":
        assert found["prompt"].startswith("Write a haiku")
    elif contract == "explain":
        assert "number 1 is" not in found["template"]["text"]
    else:
        assert "with the word" in found["prompt"] and "number 1 is" not in found["prompt"]
    assert run(line) == 0
    part = "beginning" if contract == "haiku" else "end"
    assert f"only its {part} is used" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("line", ["/explain {}", "/haiku {}"])
def test_the_slash_commands_say_it_too(pocket: Engine, line: str) -> None:
    app = Recorder(engine=pocket)
    app.limits["max_tokens"] = 3
    default_registry().execute(line.format(LONG), app)
    assert " is used, tokens " in drawn(app.reports[0]) and app.reports[0].document["excerpt"]
