"""The session without a screen: turns, models, downloads, stale news, and what is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ui.scripted import INFO, PIECES, KeptNothing, NoDownloads, ScriptedWorker, plain_request
from tui_chat.chat.conversation import Conversation, Role
from tui_chat.chat.store import Store
from tui_chat.config import InferenceSettings, Settings
from tui_chat.engine.types import FinishReason, ModelFailed, ModelLoaded
from tui_chat.errors import CancelledError, DownloadError, EngineError, ModelLoadError, SamplingError, UsageError
from tui_chat.models.hub import DownloadProgress
from tui_chat.models.resolve import ModelSpec
from tui_chat.ui.archive import StoreArchive
from tui_chat.ui.news import DownloadAdvanced, DownloadEnded, DownloadFailed, News, PiecesRead, StoringFailed
from tui_chat.ui.ports import Archive, BuildRequest
from tui_chat.ui.session import Session
from tui_chat.ui.summary import answer_footer, model_line, sampling_line


class Bench:
    """A session with scripted surroundings."""

    def __init__(
        self,
        *,
        archive: Archive | None = None,
        inference: InferenceSettings | None = None,
        conversation: Conversation | None = None,
        build_request: BuildRequest = plain_request,
    ) -> None:
        self.worker = ScriptedWorker()
        self.downloads = NoDownloads()
        self.kept = KeptNothing()
        self.now = 0.0
        settings = Settings(inference=inference or InferenceSettings())
        self.session = Session(
            settings,
            self.worker,
            build_request=build_request,
            archive=archive or self.kept,
            downloads=self.downloads,
            report=self.take,
            conversation=conversation,
            clock=lambda: self.now,
        )
        self.worker.report = self.take

    def take(self, event: object) -> None:
        # The worker reports a load before `load` has returned its id, which a real queue makes impossible.
        if isinstance(event, ModelLoaded):
            self.pending = event
        else:
            self.session.handle(event)  # type: ignore[arg-type]

    def load(self) -> None:
        self.session.start("builtin")
        self.session.handle(self.pending)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.load()
    return bench


def test_loading_reads_the_vocabulary(bench: Bench) -> None:
    assert bench.session.model is INFO
    assert tuple(bench.session.pieces) == PIECES
    assert bench.session.piece_of(4) == b" token"
    assert bench.session.piece_of(10_000) is None


def test_pieces_of_an_older_model_are_dropped(bench: Bench) -> None:
    assert not bench.session.handle(PiecesRead(99, 0, (b"x",)))
    assert bench.session.piece_of(0) == b"\n"


def test_a_turn(bench: Bench) -> None:
    session, worker = bench.session, bench.worker
    session.send("hi")
    assert session.answering
    with pytest.raises(UsageError, match="still answering"):
        session.send("again")
    worker.begin(30)
    assert session.context == (30, 2048)
    worker.say("Hello there")
    assert session.context == (32, 2048)
    worker.finish()
    assert not session.answering
    answer = session.conversation.path[-1]
    assert (answer.role, answer.text, answer.finish_reason) == (Role.ASSISTANT, "Hello there", FinishReason.EOS)
    assert answer.ids is not None
    assert len(answer.ids) == 2
    assert answer.settings["temperature"] == 0.7
    assert answer.settings["seed"] == (session.answer.seed if session.answer else None)
    assert answer.usage is not None and answer.usage.generated == 12
    assert answer.timings is not None
    assert bench.kept.saved[-1] == answer
    assert "2 tokens · 212 tok/s" in answer_footer(session, answer)


def test_a_fixed_seed_is_used_and_a_free_one_differs() -> None:
    fixed = Bench(inference=InferenceSettings(seed=5))
    fixed.load()
    fixed.session.send("hi")
    assert fixed.session.answer is not None
    assert fixed.session.answer.seed == 5
    free = Bench()
    free.load()
    seeds = set()
    for _ in range(3):
        free.session.send("hi")
        assert free.session.answer is not None
        seeds.add(free.session.answer.seed)
        free.worker.answer("x")
    assert len(seeds) > 1


def test_the_live_rate_is_that_of_the_last_seconds(bench: Bench) -> None:
    bench.session.send("hi")
    bench.worker.begin()
    for _ in range(10):
        bench.now += 0.5
        bench.worker.say("a b c d e")
    assert bench.session.answer is not None
    assert bench.session.answer.rate == pytest.approx(10)


def test_streamed_text_is_saved_once_a_second(bench: Bench) -> None:
    bench.session.send("hi")
    bench.worker.begin()
    bench.worker.say("one")
    before = len(bench.kept.saved)
    bench.session.tick()
    assert len(bench.kept.saved) == before
    bench.now += 1.01
    bench.session.tick()
    bench.session.tick()
    assert len(bench.kept.saved) == before + 1
    assert bench.kept.saved[-1].text == "one"
    assert not bench.kept.saved[-1].finished


def test_a_failed_first_message_leaves_nothing_behind(bench: Bench) -> None:
    bench.session.send("hi")
    bench.worker.fail(EngineError("no"))
    assert bench.session.undo_answer() == "hi"
    assert bench.session.conversation.path == ()


def test_a_failed_retry_goes_back_to_the_answer_before(bench: Bench) -> None:
    bench.session.send("hi")
    bench.worker.answer("Hello")
    bench.session.retry()
    bench.worker.fail(EngineError("no"))
    assert bench.session.undo_answer() is None
    assert bench.session.conversation.path[-1].text == "Hello"


def test_siblings(bench: Bench) -> None:
    session = bench.session
    session.send("hi")
    bench.worker.answer("one")
    session.retry()
    bench.worker.answer("two")
    assert "‹ 2/2 ›" in answer_footer(session, session.conversation.path[-1])
    assert session.step_sibling(-1)
    assert session.conversation.path[-1].text == "one"
    assert not session.step_sibling(-1)


def test_settings_reach_the_answer_under_way(bench: Bench) -> None:
    bench.session.set_value("temperature", 1.5)
    assert bench.worker.params == []
    bench.session.send("hi")
    bench.worker.begin()
    bench.session.set_value("top_k", 3)
    assert bench.worker.params[-1].top_k == 3
    assert bench.worker.params[-1].temperature == 1.5
    with pytest.raises(SamplingError):
        bench.session.set_value("top_p", 2)
    assert bench.session.value("top_p") == 0.95
    bench.session.set_value("max_tokens", 9)
    assert bench.session.inference.max_length == 9
    assert bench.session.setting_default("max_tokens") == 512


def test_stop_without_anything_to_stop(bench: Bench) -> None:
    assert not bench.session.stop()
    bench.session.send("hi")
    assert bench.session.stop()
    assert bench.worker.cancelled == 1


def test_a_download_then_a_load_while_the_old_model_answers(bench: Bench) -> None:
    session = bench.session
    session.switch_model(ModelSpec("hub", repo="a/b", file="c.gguf"))
    session.send("hi")
    assert session.handle(DownloadAdvanced(1, DownloadProgress(50, 100, 10.0, 5.0)))
    assert session.loading is not None
    assert session.loading.fraction == 0.5
    assert not session.handle(DownloadAdvanced(7, DownloadProgress(1, 100, 10.0, 5.0)))
    bench.worker.answer("old model")
    assert session.handle(DownloadEnded(1, Path("/m/c.gguf"), None))
    assert bench.worker.loaded[-1] == Path("/m/c.gguf")


def test_a_failed_download_keeps_the_model(bench: Bench) -> None:
    bench.session.switch_model(ModelSpec("hub", repo="a/b", file="c.gguf"))
    assert bench.session.handle(DownloadFailed(1, DownloadError("no such file")))
    assert bench.session.loading is None
    assert bench.session.model is INFO


def test_a_failed_load_without_the_old_model(bench: Bench) -> None:
    bench.session.switch_model(ModelSpec("builtin"))
    bench.worker.fail_load(CancelledError("stopped"), kept=False)
    assert bench.session.model is None
    with pytest.raises(EngineError, match="choose one with /model"):
        bench.session.send("hi")


def test_lines_about_it(bench: Bench) -> None:
    assert model_line(INFO) == "pocket 3.1M Q8_0"
    assert sampling_line(bench.session) == "T 0.70 · top-k 40 · top-p 0.95 · min-p 0.05 · seed random"
    bench.session.set_value("temperature", 0)
    bench.session.set_value("top_k", 0)
    bench.session.set_value("repeat_penalty", 1.1)
    bench.session.set_value("seed", 3)
    assert sampling_line(bench.session) == "greedy · top-k off · top-p 0.95 · min-p 0.05 · repeat 1.10 · seed 3"


def end(bench: Bench, archive: StoreArchive) -> None:
    bench.session.close()
    assert archive._thread is not None
    archive._thread.join(10)
    assert not archive._thread.is_alive()


def kept(bench: Bench, archive: StoreArchive, path: Path) -> Conversation:
    """The one conversation in the store, once all is written."""
    end(bench, archive)
    with Store(path) as store:
        (summary,) = store.conversations()
        return store.load(summary.id)


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.path]


def stored_bench(tmp_path: Path, **options: Any) -> tuple[Bench, StoreArchive, list[News]]:
    news: list[News] = []
    archive = StoreArchive(tmp_path / "c.db", news.append)
    bench = Bench(archive=archive, **options)
    bench.load()
    return bench, archive, news


def test_a_system_text_of_the_settings_is_stored_with_what_follows(tmp_path: Path) -> None:
    bench, archive, news = stored_bench(tmp_path, inference=InferenceSettings(system="be brief"))
    bench.session.send("hi")
    bench.worker.answer("ok")
    bench.session.new_conversation()
    bench.session.send("hi again")
    bench.worker.answer("ok again")
    end(bench, archive)
    assert news == []
    with Store(tmp_path / "c.db") as store:
        found = [texts(store.load(summary.id)) for summary in store.conversations()]
    assert found == [["be brief", "hi again", "ok again"], ["be brief", "hi", "ok"]]


def test_a_conversation_from_elsewhere_is_stored_whole(tmp_path: Path) -> None:
    conversation = Conversation()
    conversation.append(Role.USER, "a")
    conversation.append(Role.ASSISTANT, "b")
    bench, archive, news = stored_bench(tmp_path, conversation=conversation)
    bench.session.send("c")
    bench.worker.answer("d")
    assert texts(kept(bench, archive, tmp_path / "c.db")) == ["a", "b", "c", "d"]
    assert news == []


def test_a_system_text_that_was_removed_stays_away(tmp_path: Path) -> None:
    bench, archive, _ = stored_bench(tmp_path)
    bench.session.set_system("be brief")
    bench.session.set_system(None)
    assert kept(bench, archive, tmp_path / "c.db").path == ()


def test_the_sibling_on_show_is_the_one_stored(tmp_path: Path) -> None:
    bench, archive, _ = stored_bench(tmp_path)
    bench.session.send("hi")
    bench.worker.answer("one")
    bench.session.retry()
    bench.worker.answer("two")
    bench.session.step_sibling(-1)
    assert texts(kept(bench, archive, tmp_path / "c.db")) == ["hi", "one"]


def test_a_failed_first_message_is_not_in_the_store(tmp_path: Path) -> None:
    bench, archive, news = stored_bench(tmp_path)
    bench.session.send("lost")
    bench.worker.fail(EngineError("no"))
    bench.session.undo_answer()
    end(bench, archive)
    assert news == []
    with Store(tmp_path / "c.db") as store:
        assert store.conversations() == ()


def test_a_failed_first_message_does_not_leave_its_system_text(tmp_path: Path) -> None:
    bench, archive, news = stored_bench(tmp_path, inference=InferenceSettings(system="be brief"))
    bench.session.send("lost")
    bench.worker.fail(EngineError("no"))
    bench.session.undo_answer()
    assert bench.session.conversation.system == "be brief"
    bench.session.send("hi")
    bench.worker.answer("ok")
    found = kept(bench, archive, tmp_path / "c.db")
    assert texts(found) == ["be brief", "hi", "ok"]
    assert news == []


def test_a_failed_first_message_alone_leaves_no_conversation(tmp_path: Path) -> None:
    bench, archive, _ = stored_bench(tmp_path, inference=InferenceSettings(system="be brief"))
    bench.session.send("lost")
    bench.worker.fail(EngineError("no"))
    bench.session.undo_answer()
    end(bench, archive)
    with Store(tmp_path / "c.db") as store:
        assert store.conversations() == ()


def test_a_failed_retry_leaves_no_sibling(tmp_path: Path) -> None:
    bench, archive, news = stored_bench(tmp_path)
    bench.session.send("hi")
    bench.worker.answer("one")
    bench.session.retry()
    bench.worker.fail(EngineError("no"))
    bench.session.undo_answer()
    assert "‹" not in answer_footer(bench.session, bench.session.conversation.path[-1])
    found = kept(bench, archive, tmp_path / "c.db")
    assert texts(found) == ["hi", "one"]
    assert len(found) == 2
    assert news == []


def test_whatever_goes_wrong_while_storing_becomes_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(Store, "write", broken)
    bench, archive, news = stored_bench(tmp_path)
    bench.session.send("hi")
    bench.worker.answer("ok")
    end(bench, archive)
    (failed,) = news
    assert isinstance(failed, StoringFailed)
    assert "unforeseen" in str(failed.error)


def test_texts_to_ban_are_resolved_by_the_engine_and_stay_when_a_slider_moves() -> None:
    bench = Bench(inference=InferenceSettings(ban=(" token",), seed=3))
    bench.load()
    bench.session.pieces.clear()
    bench.session.send("hi")
    bench.worker.begin()
    bench.session.set_value("temperature", 1.5)
    (params,) = bench.worker.params
    assert params.logit_bias == ((" token", -math.inf),)
    assert (params.temperature, params.seed) == (1.5, 3)


def test_a_setting_changed_before_the_engine_begins_reaches_the_answer(bench: Bench) -> None:
    bench.session.send("hi")
    bench.session.set_value("temperature", 1.5)
    bench.worker.begin()
    assert [params.temperature for params in bench.worker.params] == [1.5]


def test_a_bias_that_cannot_be_leaves_nothing_behind() -> None:
    bench = Bench(inference=InferenceSettings(logit_bias=(("not one token", 1.0),)))
    bench.load()
    bench.session.send("hi")
    bench.worker.begin()
    answer = bench.session.answer
    assert answer is not None
    assert isinstance(answer.error, SamplingError)
    assert bench.session.undo_answer() == "hi"
    assert len(bench.session.conversation) == 0
    assert bench.kept.saved == []


def test_an_earlier_load_counts_while_a_later_one_is_under_way(bench: Bench) -> None:
    bench.worker.loads = False
    session = bench.session
    session.switch_model(ModelSpec("builtin"))
    first = session.loading.request_id if session.loading else 0
    session.switch_model(ModelSpec("builtin"))
    assert first
    other = replace(INFO, name="other")
    assert session.handle(ModelLoaded(first, other))
    assert session.model is other
    assert session.loading is not None
    assert session.handle(ModelFailed(first, ModelLoadError("no"), kept=False))
    assert session.model is None
    assert session.loading is not None
    bench.worker.fail_load(ModelLoadError("no"), kept=True)
    assert session.loading is None


def test_a_new_conversation_keeps_the_answer_under_way_and_the_load_that_waits(bench: Bench) -> None:
    bench.session.send("hi")
    bench.worker.begin()
    bench.worker.say("half an")
    bench.session.switch_model(ModelSpec("hub", repo="a/b", file="c.gguf"))
    bench.session.new_conversation()
    last = bench.kept.saved[-1]
    assert (last.text, last.finished, last.finish_reason) == ("half an", True, FinishReason.CANCELLED)
    assert bench.worker.cancelled_ids == [bench.worker.requests[-1]]
    assert bench.session.loading is not None
    bench.worker.say(" more")
    assert bench.session.conversation.path == ()


def test_what_is_said_is_in_the_store_with_its_figures(tmp_path: Path) -> None:
    news: list[News] = []
    path = tmp_path / "data" / "conversations.db"
    archive = StoreArchive(path, news.append)
    bench = Bench(archive=archive)
    bench.load()
    bench.session.send("hi")
    bench.worker.begin()
    bench.worker.say("Hello")
    bench.now += 2
    bench.session.tick()
    bench.worker.say(" there")
    bench.worker.finish()
    end(bench, archive)
    assert news == []
    with Store(path) as store:
        (summary,) = store.conversations()
        loaded = store.load(summary.id)
        assert [message.text for message in loaded.path] == ["hi", "Hello there"]
        assert loaded.path[-1].finish_reason is FinishReason.EOS
        assert len(store.traces(loaded.path[-1].id)) == 2


def test_a_store_that_cannot_be_opened_is_said_once(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    news: list[News] = []
    archive = StoreArchive(blocker / "conversations.db", news.append)
    bench = Bench(archive=archive)
    bench.load()
    for _ in range(3):
        bench.session.send("hi")
        bench.worker.answer("ok")
    bench.session.close()
    assert archive._thread is not None
    archive._thread.join(10)
    assert [type(item) for item in news] == [StoringFailed]
    assert bench.session.conversation.path[-1].text == "ok"
