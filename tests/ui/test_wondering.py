"""The thread that computes waterfalls and marks: the newest question counts, waterfalls go first, streams are paced."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from tests.ui.scripted import INFO, cut_into_tokens
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import SamplingParams
from tui_chat.engine.waterfall import Basis
from tui_chat.ui.wondering import Asked, MarksReady, WaterfallReady, Wondering
from tui_chat.ui.written import PresentSettings, Text

RAN = SamplingParams(seed=7)


class Listener:
    """Keeps what was reported, and waits for more."""

    def __init__(self) -> None:
        self.found: list[WaterfallReady | MarksReady] = []
        self._more = threading.Condition()

    def __call__(self, found: WaterfallReady | MarksReady) -> None:
        with self._more:
            self.found.append(found)
            self._more.notify_all()

    def wait(self, n: int) -> list[WaterfallReady | MarksReady]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.found) >= n, 20), "nothing was reported"
            return list(self.found)


def text(words: str = "A token is a small piece of text that the model reads") -> Text:
    tokens = tuple(cut_into_tokens(words))
    return Text(tuple(range(24)), tokens, (RAN,) * len(tokens), INFO)


def test_a_waterfall_of_what_ran_and_of_other_settings() -> None:
    listener = Listener()
    wondering = Wondering(nullcontext, listener)
    asked = Asked("ran", text(), 3)
    wondering.ask(asked)
    (ready,) = listener.wait(1)
    assert isinstance(ready, WaterfallReady) and ready.asked is asked and ready.table is not None
    trace = asked.text.tokens[3].trace
    assert trace is not None
    assert (ready.table.picked, ready.table.u, ready.table.basis) == (trace.id, trace.u, Basis.TRUNCATED)
    assert ready.table.params == RAN
    wondering.ask(Asked("other", text(), 3, InferenceSettings(temperature=0)))
    other = listener.wait(2)[1]
    assert isinstance(other, WaterfallReady) and other.table is not None
    assert other.table.params.temperature == 0 and other.table.u is None
    assert other.table.params.seed == RAN.seed, "the draws of the answer"
    wondering.close()


def test_settings_that_do_not_hold_are_reported() -> None:
    listener = Listener()
    wondering = Wondering(nullcontext, listener)
    wondering.ask(Asked(1, text(), 0, InferenceSettings(ban=("no such text",)), pieces=(b"a", b"b")))
    (ready,) = listener.wait(1)
    assert isinstance(ready, WaterfallReady) and ready.table is None and "no such text" in str(ready.error)
    wondering.ask_marks(Asked(1, text(), 0, InferenceSettings(grammar='root ::= "x"')))
    marks = listener.wait(2)[1]
    assert isinstance(marks, MarksReady) and marks.done and "grammar" in str(marks.error)
    wondering.close()


def test_only_the_newest_of_what_waits_is_computed() -> None:
    listener, gate, entered = Listener(), threading.Event(), threading.Event()

    def hold() -> nullcontext[None]:
        entered.set()
        assert gate.wait(20)
        return nullcontext()

    wondering = Wondering(hold, listener)
    wondering.ask(Asked(0, text(), 0))
    assert entered.wait(20)
    for number in range(1, 9):
        wondering.ask(Asked(number, text(), number))
    gate.set()
    found = listener.wait(2)
    wondering.ask(Asked("last", text(), 1))
    assert [item.asked.subject for item in listener.wait(3)] == [0, 8, "last"]
    assert len(found) == 2
    wondering.close()


def test_marks_come_behind_the_waterfall_and_all_of_them() -> None:
    listener = Listener()
    wondering = Wondering(nullcontext, listener)
    whole = text()
    last = len(whole.tokens) - 1
    wondering.ask_marks(Asked("m", whole, last, InferenceSettings(temperature=0)))
    wondering.ask(Asked("w", whole, 2))
    found = listener.wait(2)
    marks = next(item for item in found if isinstance(item, MarksReady))
    assert marks.done and [outcome.index for outcome in marks.outcomes] == list(range(last + 1))
    best = [trace.top[0][0] for token in whole.tokens if (trace := token.trace) is not None]
    assert [outcome.would for outcome in marks.outcomes] == best
    wondering.close()


def test_what_streams_by_waits_and_what_is_asked_for_does_not() -> None:
    listener = Listener()
    wondering = Wondering(nullcontext, listener)
    wondering.ask(Asked("first", text(), 0, urgent=False))
    listener.wait(1)
    wondering._rest_until += 1000
    wondering.ask(Asked("streams by", text(), 1, urgent=False))
    wondering.ask(Asked("wanted", text(), 2))
    assert [item.asked.subject for item in listener.wait(2)] == ["first", "wanted"]
    wondering.close()


def test_closed_it_answers_no_more() -> None:
    listener = Listener()
    wondering = Wondering(nullcontext, listener)
    wondering.ask(Asked(0, text(), 0))
    listener.wait(1)
    thread = wondering._thread
    assert thread is not None
    wondering.close()
    thread.join(20)
    assert not thread.is_alive()


def test_bans_are_looked_up_again_only_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    plain = InferenceSettings.resolved_biases

    def counted(self: InferenceSettings, *arguments: object) -> object:
        looked.append(self.ban)
        return plain(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(InferenceSettings, "resolved_biases", counted)
    present = PresentSettings()
    banned = InferenceSettings(ban=(3,), seed=None)
    first = present.params(banned, 9, None, ())
    assert first.seed == 9 and first.logit_bias == ((3, float("-inf")),)
    n = len(looked)
    second = present.params(banned.model_copy(update={"temperature": 0.3}), 9, None, ())
    assert second.temperature == 0.3 and second.logit_bias == first.logit_bias
    assert present.params(banned.model_copy(update={"seed": 4}), 9, None, ()).seed == 4
    assert len([ban for ban in looked[n:] if ban]) == 0


def test_what_nobody_foresaw_is_reported_and_the_next_question_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    wondering = Wondering(nullcontext, listener)
    plain = Text.written

    def broken(self: Text, engine: object) -> object:
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(Text, "written", broken)
    wondering.ask(Asked("w", text(), 0))
    (ready,) = listener.wait(1)
    assert isinstance(ready, WaterfallReady) and ready.table is None and "ZeroDivisionError" in str(ready.error)
    wondering.ask_marks(Asked("m", text(), 3, InferenceSettings(temperature=0)))
    marks = listener.wait(2)[1]
    assert isinstance(marks, MarksReady) and marks.done and "no such thing" in str(marks.error)
    monkeypatch.setattr(Text, "written", plain)
    wondering.ask(Asked("again", text(), 0))
    again = listener.wait(3)[2]
    assert isinstance(again, WaterfallReady) and again.table is not None
    wondering.close()
