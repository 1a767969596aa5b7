"""The database: round trips, growing messages, search, two programs at once, kill -9, and files it cannot use."""

from __future__ import annotations

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_chat.chat import store as module
from tui_chat.chat.conversation import Conversation, Message, Role
from tui_chat.chat.schema import MIGRATIONS
from tui_chat.chat.store import Store
from tui_chat.chat.trace_codec import MAX_BYTES, pack_trace, unpack_trace
from tui_chat.config import InferenceSettings
from tui_chat.engine.types import DEFAULT_ORDER, Candidate, FinishReason, StageTrace, Timings, TokenTrace, Usage
from tui_chat.errors import StorageError

ROOT = Path(__file__).parents[2]
WRITER = (sys.executable, "-m", "tests.chat.store_writer")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "data" / "chat.db") as opened:
        yield opened


def stored(store: Store, conversation: Conversation) -> Conversation:
    store.write(conversation, *conversation)
    return store.load(conversation.id)


def talk(*lines: str) -> Conversation:
    conversation = Conversation()
    for index, line in enumerate(lines):
        conversation.append(Role.ASSISTANT if index % 2 else Role.USER, line)
    return conversation


def test_a_conversation_comes_back_as_it_was(store: Store) -> None:
    conversation = talk("q1", "a1", "q2")
    conversation.set_system("be brief")
    answer = conversation.begin_answer(model="pocket", settings={"temperature": 0.7, "seed": 2**64 - 1})
    conversation.update(
        replace(
            answer,
            text="ä\0€😀",
            ids=(0, 1, 2**31 - 1),
            finished=True,
            finish_reason=FinishReason.EOS,
            usage=Usage(40, 30, 3),
            timings=Timings(prefill_s=0.1, ttft_s=1 / 3, decode_s=1e-9, tokens_per_s=0.0),
        )
    )
    conversation.edit(conversation.path[1].id, "other")
    conversation.select(answer.id)
    again = stored(store, conversation)
    assert list(again) == list(conversation)
    assert again.path == conversation.path


def test_settings_are_json_that_anybody_can_read(store: Store) -> None:
    conversation = talk("q1")
    inference = InferenceSettings(logit_bias=((3, -math.inf), ("however", -math.inf), (5, 1.5)))
    settings = {**inference.model_dump(mode="json"), "of old": {"deep": [-math.inf, (math.inf, math.nan)]}}
    answer = conversation.begin_answer(settings=settings)
    found = stored(store, conversation)[answer.id].settings
    (text,) = store._db.execute("SELECT settings FROM message WHERE id = ?", (answer.id,)).fetchone()
    assert not {"Infinity", "NaN"} & set(re.findall(r"\w+", text))
    assert found["of old"] == {"deep": ["-inf", ["inf", "nan"]]}
    kept = {name: value for name, value in found.items() if name != "of old"}
    assert kept == inference.model_dump(mode="json") and InferenceSettings.model_validate(kept) == inference


def test_the_path_ends_where_it_did(store: Store) -> None:
    conversation = talk("q1", "a1", "q2", "a2")
    conversation.edit(conversation.path[2].id, "other")
    store.write(conversation, *conversation)
    conversation.select(conversation.siblings(conversation.path[2].id)[0].id)
    store.write(conversation)
    assert store.load(conversation.id).path == conversation.path


def test_a_path_that_ends_before_the_first_message(store: Store) -> None:
    conversation = talk("q1")
    conversation.rewind()
    assert stored(store, conversation).path == ()
    assert len(store.load(conversation.id)) == 1


def test_messages_that_were_taken_back_are_gone(store: Store) -> None:
    conversation = talk("q1", "a1")
    store.write(conversation, *conversation)
    first, last = conversation.path
    conversation.remove(last.id)
    store.remove(conversation, last.id)
    assert store.load(conversation.id).path == (first,)
    assert store.search("a1") == ()
    conversation.remove(first.id)
    store.remove(conversation, first.id)
    assert store.conversations() == ()
    with pytest.raises(StorageError, match="no conversation"):
        store.load(conversation.id)


def test_growing(store: Store) -> None:
    conversation = talk("q")
    answer = conversation.begin_answer()
    store.write(conversation, *conversation)
    store.grow(answer.id, "Grü", [0, 5])
    store.grow(answer.id, "ße\0", [256, 0])
    store.grow(answer.id, "", [])
    found = store.load(conversation.id)[answer.id]
    assert (found.text, found.ids, found.finished) == ("Grüße\0", (0, 5, 256, 0), False)
    store.write(conversation, conversation.update(replace(answer, text="done", ids=(1,), finished=True)))
    assert store.load(conversation.id)[answer.id].text == "done"
    assert [hit.match for hit in store.search("done")] == ["done"]
    assert store.search("Grüße") == ()
    with pytest.raises(StorageError, match="not in"):
        store.grow("nobody", "x")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=20), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8)), max_size=5))
def test_growing_adds_up(parts: list[tuple[str, list[int]]]) -> None:
    with Store.in_memory() as store:
        conversation = talk("q")
        answer = conversation.begin_answer()
        store.write(conversation, *conversation)
        for text, ids in parts:
            store.grow(answer.id, text, ids)
        found = store.load(conversation.id)[answer.id]
        assert found.text == "".join(text for text, _ in parts)
        assert found.ids == tuple(token for _, ids in parts for token in ids)


def test_text_that_is_no_text(store: Store) -> None:
    conversation = talk("lone \ud800 surrogate")
    assert stored(store, conversation).path[0].text == "lone ? surrogate"
    assert store.search("\ud800") == ()


def test_list_is_newest_first(store: Store) -> None:
    long = talk("  What is\n a token? " + "word " * 40, "a")
    empty, silent, last = Conversation(), Conversation(), talk("hi")
    silent.set_system("only a system text")
    for conversation in (long, empty, silent, last):
        store.write(conversation, *conversation)
    found = store.conversations()
    assert [summary.id for summary in found] == [last.id, silent.id, long.id]
    assert [summary.n_messages for summary in found] == [1, 1, 2]
    assert [summary.title for summary in found][:2] == ["hi", ""]
    title = found[2].title
    assert title.startswith("What is a token? word") and title.endswith("word…") and len(title) <= 60
    store.write(long)
    assert store.conversations(limit=1)[0].id == long.id
    assert store.conversations(limit=1, offset=2)[0].id == silent.id
    assert found[0].updated >= found[0].created


def test_search(store: Store) -> None:
    first, second = talk("how do tokens work", "they are pieces"), talk("Tokenize this", 'a "quoted" thing')
    for conversation in (first, second):
        store.write(conversation, *conversation)
    hits = store.search("tok")
    assert {hit.conversation_id for hit in hits} == {first.id, second.id}
    hit = store.search("tokens work")[0]
    assert (hit.conversation_id, hit.message_id, hit.role) == (first.id, first.path[0].id, Role.USER)
    assert hit.before + hit.match + hit.after == "how do tokens work"
    assert hit.match.startswith("tokens")
    assert store.search('"quoted') and store.search("PIECES")
    for nothing in ("", "  ", "absent", "tokens pieces", "NEAR(", '"', "a*b", "-", "col:x"):
        assert not [hit for hit in store.search(nothing) if hit.role is Role.SYSTEM]
    store.delete(first.id)
    assert [hit.conversation_id for hit in store.search("tok")] == [second.id]
    with pytest.raises(StorageError, match="no conversation"):
        store.load(first.id)


numbers = st.floats(allow_nan=False, width=64)
pairs = st.lists(st.tuples(st.integers(0, 2**31 - 1), numbers), max_size=20).map(tuple)
said = {
    "at_least": st.booleans(),
    "lost": st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
    "note": st.sampled_from(["", "T 0.71", "surprise 4.21 bits, μ 9.87"]),
}
stage_lists = st.tuples(
    st.lists(st.builds(StageTrace, st.sampled_from([*DEFAULT_ORDER, "draw"]), st.integers(0, 2**20)), max_size=8).map(
        tuple
    ),
    st.lists(st.builds(StageTrace, st.just("grammar"), st.integers(0, 2**20), **said), max_size=3).map(tuple),
).map(lambda parts: parts[1] + parts[0])
traces = st.builds(
    TokenTrace,
    position=st.integers(0, 2**31 - 1),
    id=st.integers(0, 2**31 - 1),
    piece=st.binary(max_size=48),
    logit=numbers,
    logsumexp=numbers,
    rank=st.integers(1, 2**31 - 1),
    entropy=numbers,
    top=pairs,
    stages=stage_lists,
    final=pairs,
    u=st.none() | st.floats(0, 1, exclude_max=True),
    seconds=numbers,
)


@given(traces)
def test_traces_round_trip(trace: TokenTrace) -> None:
    data = pack_trace(trace)
    assert len(data) <= MAX_BYTES
    assert unpack_trace(data) == trace


def some_trace(position: int, **changes: object) -> TokenTrace:
    trace = TokenTrace(
        position=position, id=7, piece=b" hi", logit=1.5, logsumexp=2.5, rank=1, entropy=0.5, top=((7, 1.5),),
        stages=(StageTrace("top_k", 40),), final=((7, 1.0),), u=0.25, seconds=0.1,
    )  # fmt: skip
    return replace(trace, **changes)  # type: ignore[arg-type]


def test_traces_too_large_lose_their_tails() -> None:
    many = tuple((token, -float(token)) for token in range(300))
    stages = tuple(StageTrace("a_very_long_stage_name", 1, (Candidate(1, 0.0, 1.0),)) for _ in range(40))
    trace = some_trace(0, top=many, final=many, stages=stages, piece=b" " * 900)
    data = pack_trace(trace)
    assert len(data) <= MAX_BYTES
    found = unpack_trace(data)
    full = pack_trace(some_trace(0, top=many, final=many))
    assert MAX_BYTES - len(full) < 12
    kept = unpack_trace(full)
    assert kept.top == many[: len(kept.top)] and kept.final == many[: len(kept.final)]
    assert len(kept.top) > 30 and len(kept.final) > 30
    assert found.piece == b" " * 400 and not found.stages[0].candidates
    lopsided = unpack_trace(pack_trace(some_trace(0, top=many, final=many[:3])))
    assert len(lopsided.final) == 3 and len(lopsided.top) > 60


LONGEST = tuple(StageTrace("a_very_long_stage_name", 1, (), True, (0.25, 0.5), "μ" * 100) for _ in range(40))


def test_what_stages_say_besides_is_kept_and_cut_where_there_is_no_room() -> None:
    stages = (
        StageTrace("grammar", 12, at_least=True, lost=(0.25, 0.5)),
        StageTrace("temperature", 12, note="T 0.71 by an entropy of 41%"),
        StageTrace("mirostat", 3, note="surprise 4.21 bits, μ 9.87"),
    )
    trace = some_trace(0, stages=stages)
    assert unpack_trace(pack_trace(trace)) == trace
    data = pack_trace(some_trace(0, stages=LONGEST, piece=b" " * 900, top=((7, 1.5),) * 300))
    assert len(data) <= MAX_BYTES
    first, *others = unpack_trace(data).stages
    assert first.at_least and first.lost == (0.25, 0.5) and first.note.startswith("μμμ") and first.note.endswith("μ…")
    assert len(others) == 15 and all(stage.at_least and stage.note == "" for stage in others)


def test_a_trace_of_an_older_version_is_read() -> None:
    old = bytes.fromhex(
        "010300000007000000000000000000f83f000000000000044001000000000000000000e03f000000000000d03f000000000000c03f"
        "03000201012068690528000000746f705f6b05020000006d696e5f7007000000000000000000f83f07000000000000000000f03f"
    )
    stages = (StageTrace("top_k", 40), StageTrace("min_p", 2))
    assert unpack_trace(old) == some_trace(3, stages=stages, seconds=0.125)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_trace(data: bytes) -> None:
    try:
        unpack_trace(data)
    except ValueError as error:
        assert str(error)


def test_traces_are_stored_with_their_message(store: Store) -> None:
    conversation = talk("q", "a")
    store.write(conversation, *conversation)
    answer = conversation.path[1]
    store.add_traces(answer.id, [some_trace(position) for position in (3, 1, 2)])
    store.add_traces(answer.id, [some_trace(2, rank=9)])
    assert [(trace.position, trace.rank) for trace in store.traces(answer.id)] == [(1, 1), (2, 9), (3, 1)]
    assert store.traces("nobody") == ()
    store.add_traces("nobody", [some_trace(0)])
    store.delete(conversation.id)
    assert store.traces(answer.id) == ()


def test_in_memory() -> None:
    with Store.in_memory() as store:
        assert not store.is_persistent
        conversation = talk("q")
        assert stored(store, conversation).path == conversation.path
    with pytest.raises(StorageError, match="closed"):
        store.conversations()


def test_times_keep_their_moment(store: Store) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=5)))
    conversation = Conversation([Message(role=Role.USER, text="x", created=moment)])
    assert stored(store, conversation).path[0].created == moment.astimezone(UTC)


def test_two_stores_on_one_file(store: Store) -> None:
    assert store.path is not None
    mine, yours = talk("mine"), talk("yours")
    with Store(store.path) as other:
        store.write(mine, *mine)
        other.write(yours, *yours)
        assert {summary.title for summary in store.conversations()} == {"mine", "yours"}
        assert other.load(mine.id).path == mine.path


def test_another_program_holding_the_lock_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.path is not None
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    conversation = talk("q")
    with Store(store.path) as impatient, closing(sqlite3.connect(store.path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program") as caught:
            impatient.write(conversation, *conversation)
        assert str(store.path) in str(caught.value)
        holder.execute("ROLLBACK")
        impatient.write(conversation, *conversation)


def test_a_failed_write_leaves_nothing_behind(store: Store) -> None:
    conversation = talk("q")
    orphan = Message(role=Role.USER, text="x", parent_id="nobody")
    with pytest.raises(StorageError):
        store.write(conversation, *conversation, orphan)
    assert store.conversations() == ()
    store.write(conversation, *conversation)


def test_two_programs_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    programs = [
        subprocess.Popen([*WRITER, str(path), name, "60"], cwd=ROOT, stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    assert [program.wait(60) for program in programs] == [0, 0]
    with Store(path) as store:
        for name in ("one", "two"):
            conversation = store.load(name)
            assert len(conversation) == 120
            assert conversation.path[-1].text == "word " * 5


def test_kill_9_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    program = subprocess.Popen([*WRITER, str(path), "c"], cwd=ROOT, stdout=subprocess.PIPE)
    assert program.stdout is not None
    last = -1
    while last < 25:
        line = program.stdout.readline()
        assert line, "the writer ended by itself"
        last = int(line)
    os.kill(program.pid, signal.SIGKILL)
    last = max([last, *(int(line) for line in program.stdout.read().split())])
    assert program.wait(20) == -signal.SIGKILL
    program.stdout.close()
    with Store(path) as store:
        conversation = store.load("c")
        texts = [message.text for message in conversation]
        assert texts[: 2 * last : 2] == [f"message {number}" for number in range(last)]
        assert all(text == "word " * 5 for text in texts[1 : 2 * last : 2])
        assert store.search("message")
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.execute("INSERT INTO message_text (message_text) VALUES ('integrity-check')")
    raw.close()


def failure(path: Path) -> str:
    with pytest.raises(StorageError) as caught:
        Store(path)
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    path.write_bytes(b"This is a letter, not a database. " * 50)
    assert "not a database" in failure(path)
    assert path.read_bytes().startswith(b"This is a letter")
    (tmp_path / "folder.db").mkdir()
    assert "permissions" in failure(tmp_path / "folder.db")
    (tmp_path / "file").touch()
    assert "cannot be made" in failure(tmp_path / "file" / "chat.db")


def test_an_older_format_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    conversation = talk("q1", "a1")
    with Store(path) as store:
        store.write(conversation, *conversation)
    with closing(sqlite3.connect(path)) as raw:
        for column in ("measured", "prompt_ids", "forked_from", "n_kept", "forced"):
            raw.execute(f"ALTER TABLE message DROP COLUMN {column}")
        raw.execute("PRAGMA user_version = 1")
        raw.commit()
    with Store(path) as store:
        assert store.load(conversation.id).path == conversation.path


def test_what_a_branch_is_made_of_comes_back(store: Store) -> None:
    conversation = talk("q1", "a1")
    first = conversation.update(replace(conversation.path[1], ids=(4, 5, 6), prompt_ids=(1, 2, 3), forced=(0, 2)))
    fork = conversation.fork(first.id, 2, model="pocket")
    assert (fork.ids, fork.forked_from, fork.n_kept, fork.forced) == ((4, 5), first.id, 2, (0,))
    store.write(conversation, *conversation)
    grown = conversation.update(
        replace(
            fork, ids=(4, 5, 9), prompt_ids=tuple(range(3000)), forced=(0, 2), usage=Usage(5, 4, 1, ((2, 1), (1, 3)))
        )
    )
    store.write(conversation, grown)
    loaded = store.load(conversation.id)
    assert tuple(loaded) == tuple(conversation)
    (size,) = store._read("SELECT length(prompt_ids) FROM message WHERE id = ?", fork.id)[0]
    assert size < 3000 * 4 // 2


def test_the_newest_is_one_to_which_something_was_said(store: Store) -> None:
    assert store.newest() is None
    silent = Conversation()
    silent.set_system("be brief")
    store.write(silent, *silent)
    assert store.newest() is None
    said = talk("q1")
    store.write(said, *said)
    store.write(silent)
    newest = store.newest()
    assert newest is not None and newest.id == said.id


def test_newer_format(store: Store) -> None:
    assert store.path is not None
    store.close()
    raw = sqlite3.connect(store.path)
    raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    raw.close()
    assert "newer tui-chat" in failure(store.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_no_permission(tmp_path: Path) -> None:
    directory = tmp_path / "locked"
    directory.mkdir()
    directory.chmod(0o500)
    assert "permissions" in failure(directory / "chat.db")
    assert "permissions" in failure(directory / "sub" / "chat.db")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("database or disk is full", "disk is full"),
        ("attempt to write a readonly database", "change the permissions"),
        ("unable to open database file", "change the permissions"),
        ("database disk image is malformed", "move it away"),
        ("no such module: fts5", "FTS5"),
        ("something new", "something new"),
    ],
)
def test_what_sqlite_reports(report: str, words: str) -> None:
    assert words in module._explain(sqlite3.OperationalError(report))


def test_full_disk(store: Store) -> None:
    assert store.path is not None
    conversation = talk("q")
    store.write(conversation, *conversation)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="disk is full"):
        store.write(conversation, conversation.append(Role.USER, "x" * 100_000))
    assert store.load(conversation.id).path[0].text == "q"
