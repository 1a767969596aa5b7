"""The tree of messages: what happened stays, and the path is always a way from the root to the tip."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tui_chat.chat.conversation import Conversation, Message, Role


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.path]


def talk(*lines: str) -> Conversation:
    conversation = Conversation()
    for index, line in enumerate(lines):
        conversation.append(Role.ASSISTANT if index % 2 else Role.USER, line)
    return conversation


def test_edit_adds_a_sibling_and_keeps_what_followed() -> None:
    conversation = talk("q1", "a1", "q2", "a2")
    second = conversation.path[2]
    edited = conversation.edit(second.id, "q2 again")
    assert texts(conversation) == ["q1", "a1", "q2 again"]
    assert [message.text for message in conversation.siblings(edited.id)] == ["q2", "q2 again"]
    conversation.select(second.id)
    assert texts(conversation) == ["q1", "a1", "q2", "a2"]


def test_regenerate_adds_an_answer() -> None:
    conversation = talk("q1", "a1")
    answer = conversation.path[1]
    fresh = conversation.regenerate(answer.id, model="m", settings={"top_k": 3})
    assert (fresh.parent_id, fresh.ids, fresh.finished, fresh.settings) == (answer.parent_id, (), False, {"top_k": 3})
    another = conversation.regenerate(conversation.path[0].id)
    assert [message.id for message in conversation.siblings(answer.id)] == [answer.id, fresh.id, another.id]
    assert conversation.step(another.id, -1) == fresh
    assert conversation.step(fresh.id, -5) == answer
    assert conversation.step(answer.id, +9) == another


def test_selecting_goes_on_along_the_branch_last_taken() -> None:
    conversation = talk("q1", "a1", "q2", "a2")
    first_answer, last = conversation.path[1], conversation.path[3]
    conversation.regenerate(first_answer.id)
    conversation.select(first_answer.id)
    assert conversation.tip == last
    conversation.regenerate(last.id)
    newest = conversation.tip
    conversation.step(first_answer.id, 1)
    conversation.step(conversation.path[1].id, -1)
    assert conversation.tip == newest


def test_update_keeps_place_and_role() -> None:
    conversation = talk("q1")
    answer = conversation.begin_answer(model="m")
    done = conversation.update(replace(answer, text="hello", ids=(1, 2), finished=True))
    assert conversation.tip == done
    with pytest.raises(ValueError, match="place"):
        conversation.update(replace(done, role=Role.USER))
    with pytest.raises(ValueError, match="already"):
        conversation.add(done)
    with pytest.raises(KeyError):
        conversation.add(Message(role=Role.USER, text="", parent_id="nobody"))


def test_system_text_can_change_in_mid_conversation() -> None:
    conversation = talk("q1", "a1")
    old = conversation.path
    added = conversation.set_system("be brief")
    assert conversation.system == "be brief"
    assert texts(conversation) == ["be brief", "q1", "a1"]
    assert conversation.path == added
    assert conversation.set_system("be brief") == ()
    assert conversation.path_to(old[-1].id) == old
    conversation.set_system(None)
    assert texts(conversation) == ["q1", "a1"]
    assert conversation.system is None


def test_system_text_of_an_empty_conversation() -> None:
    conversation = Conversation()
    conversation.set_system("s")
    conversation.set_system("")
    assert conversation.path == ()
    conversation.append(Role.USER, "q")
    assert texts(conversation) == ["q"]
    system = conversation.set_system("s")[0]
    with pytest.raises(ValueError, match="system"):
        conversation.regenerate(system.id)


def test_rebuilt_from_its_messages() -> None:
    conversation = talk("q1", "a1", "q2")
    conversation.edit(conversation.path[2].id, "other")
    tip = conversation.select(conversation.siblings(conversation.path[2].id)[0].id)
    again = Conversation(list(conversation), tip_id=tip.id, id=conversation.id)
    assert again.path == conversation.path
    assert again.id == conversation.id
    assert list(again) == list(conversation)
    assert again.last(Role.USER) == tip


class Trees(RuleBasedStateMachine):
    """Any sequence of steps: nothing is lost, and the path is a path."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation = Conversation()
        self.seen: dict[str, Message] = {}

    @initialize()
    def begin(self) -> None:
        self.note(self.conversation.append(Role.USER, "first"))

    def note(self, message: Message) -> None:
        assert message.id not in self.seen
        self.seen[message.id] = message
        assert self.conversation.tip == message

    def pick(self, number: int) -> Message:
        return list(self.seen.values())[number % len(self.seen)]

    @rule(text=st.text(max_size=5))
    def append(self, text: str) -> None:
        tip = self.conversation.tip
        role = Role.ASSISTANT if tip is not None and tip.role is Role.USER else Role.USER
        self.note(self.conversation.append(role, text))

    @rule(number=st.integers(0, 99), text=st.text(max_size=5))
    def edit(self, number: int, text: str) -> None:
        old = self.pick(number)
        new = self.conversation.edit(old.id, text)
        assert (new.parent_id, new.role) == (old.parent_id, old.role)
        self.note(new)

    @rule(number=st.integers(0, 99))
    def regenerate(self, number: int) -> None:
        old = self.pick(number)
        if old.role is Role.SYSTEM:
            return
        new = self.conversation.regenerate(old.id)
        assert new.role is Role.ASSISTANT
        assert new.parent_id == (old.id if old.role is Role.USER else old.parent_id)
        self.note(new)

    @rule(number=st.integers(0, 99))
    def select(self, number: int) -> None:
        message = self.pick(number)
        self.conversation.select(message.id)
        assert message in self.conversation.path
        assert self.conversation.tip is not None
        assert not self.conversation.children(self.conversation.tip.id)

    @rule(number=st.integers(0, 99), offset=st.integers(-3, 3))
    def step(self, number: int, offset: int) -> None:
        message = self.pick(number)
        sibling = self.conversation.step(message.id, offset)
        assert sibling in self.conversation.siblings(message.id)
        assert sibling in self.conversation.path

    @rule(text=st.sampled_from(["", "brief", "long"]))
    @precondition(lambda self: len(self.seen) < 60)
    def system(self, text: str) -> None:
        before = [m.text for m in self.conversation.path if m.role is not Role.SYSTEM]
        for message in self.conversation.set_system(text):
            self.seen[message.id] = message
        assert self.conversation.system == (text or None)
        assert [m.text for m in self.conversation.path if m.role is not Role.SYSTEM] == before

    @invariant()
    def nothing_is_lost(self) -> None:
        assert {message.id: message for message in self.conversation} == self.seen

    @invariant()
    def the_path_is_a_path(self) -> None:
        path = self.conversation.path
        parents = [None, *(message.id for message in path)]
        assert [message.parent_id for message in path] == parents[: len(path)]
        for message in path:
            assert message in self.conversation.siblings(message.id)


TestTrees = Trees.TestCase


def test_rewinding_leads_to_before_the_first_message() -> None:
    conversation = Conversation()
    first = conversation.append(Role.USER, "a")
    conversation.rewind()
    assert conversation.path == ()
    assert first.id in conversation
    assert conversation.append(Role.USER, "b").parent_id is None


def test_what_came_to_nothing_is_taken_back() -> None:
    conversation = Conversation()
    asked = conversation.append(Role.USER, "a")
    kept = conversation.append(Role.ASSISTANT, "b")
    conversation.select(asked.id, descend=False)
    empty = conversation.begin_answer()
    with pytest.raises(ValueError, match="followed"):
        conversation.remove(asked.id)
    conversation.remove(empty.id)
    assert conversation.path == (asked,)
    assert conversation.siblings(kept.id) == (kept,)
    assert conversation.select(asked.id).id == kept.id
    assert empty.id not in conversation


def test_a_fork_stands_beside_the_answer_it_begins_like() -> None:
    conversation = Conversation()
    conversation.append(Role.USER, "q")
    answer = conversation.begin_answer()
    conversation.update(replace(answer, ids=(1, 2, 3), text="abc", prompt_ids=(9,), finished=True))
    conversation.append(Role.USER, "more")
    fork = conversation.fork(answer.id, 2)
    assert conversation.tip is fork and not fork.finished
    assert [message.id for message in conversation.siblings(answer.id)] == [answer.id, fork.id]
    assert (fork.ids, fork.text, fork.forked_from, fork.n_kept) == ((1, 2), "", answer.id, 2)
    for wrong, index in ((answer.id, 4), (answer.id, -1), (conversation.path[0].id, 0)):
        with pytest.raises(ValueError, match="no token"):
            conversation.fork(wrong, index)
    conversation.select(answer.id)
    copied = conversation.set_system("be brief")
    assert {message.prompt_ids for message in copied} == {None}
