"""Going on with the conversation that was written last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui.scripted import cut_into_tokens
from tui_chat.chat.conversation import Conversation, Role
from tui_chat.chat.store import Store
from tui_chat.cli.program import run
from tui_chat.ui.resuming import newest_conversation


def write(home: Path, *lines: str) -> Conversation:
    conversation = Conversation()
    for index, line in enumerate(lines):
        conversation.append(Role.ASSISTANT if index % 2 else Role.USER, line)
    with Store(home / "data" / "conversations.db") as store:
        store.write(conversation, *conversation)
        last = conversation.last(Role.ASSISTANT)
        if last is not None:
            store.add_traces(last.id, [token.trace for token in cut_into_tokens(last.text) if token.trace])
    return conversation


def test_the_newest_comes_with_the_figures_of_its_last_answer(home: Path) -> None:
    write(home, "old", "older answer")
    newest = write(home, "new", "the last answer")
    silent = Conversation()
    silent.set_system("be brief")
    with Store(home / "data" / "conversations.db") as store:
        store.write(silent, *silent)
    found = newest_conversation()
    assert found.note is None
    assert found.conversation is not None
    assert found.conversation.path == newest.path
    (tokens,) = found.tokens_of.values()
    assert tokens == cut_into_tokens("the last answer")


def test_without_one_it_is_said(home: Path) -> None:
    assert newest_conversation().conversation is None
    assert "new one" in str(newest_conversation().note)
    assert not home.exists()
    with Store(home / "data" / "conversations.db"):
        pass
    assert "new one" in str(newest_conversation().note)


def test_a_store_that_cannot_be_read_is_said(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "conversations.db").write_text("not a database, but long enough to be taken for a file of one")
    assert "not a database" in str(newest_conversation().note)


@pytest.mark.parametrize("arguments", [["--continue"], ["chat", "--continue"], ["--continue", "chat"], ["chat"], []])
def test_the_flag(home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    newest = write(home, "new", "the last answer")
    seen: list[dict[str, Any]] = []

    def run_app(loaded: object, **options: Any) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr("tui_chat.ui.app.run_app", run_app)
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{name}.isatty", lambda: True)
    assert run(arguments) == 0
    conversation = seen[0].get("conversation")
    assert (conversation.path if conversation else None) == (newest.path if arguments not in (["chat"], []) else None)
