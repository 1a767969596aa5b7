"""Windows over text on disk: every token is predicted, and a context that does not fit says which one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tui_chat.errors import StorageError, UsageError
from tui_chat.training.dataset import Windows
from tui_chat.training.dialogue import END_OF_TEXT, IM_END
from tui_chat.training.memmap import id_type, open_array, write_ids
from tui_chat.training.split import split_documents
from tui_chat.training.texts import MIN_CHARACTERS
from tui_chat.training.tokenizer import token_id
from tui_chat.training.windows import check_documents, write_documents


def every_row(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    return windows.rows(np.arange(windows.n_rows))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 60))
def test_windows_predict_every_token(length: int, stride: int, more: int) -> None:
    stride = min(stride, length)
    ids = np.arange(100, 101 + length + more, dtype=np.uint16)
    windows = Windows(ids, length, stride)
    rows, weights = every_row(windows)
    # Each row is a piece of the line: what is predicted is what comes next there.
    assert rows.shape == (windows.n_rows, length + 1)
    assert (np.diff(rows, axis=1) == 1).all()
    predicted = rows[:, 1:][weights > 0].tolist()
    assert set(predicted) == set(range(101, 101 + length + more))
    assert len(predicted) == windows.n_tokens
    if stride == length:
        assert len(set(predicted)) == len(predicted)


def test_rows_can_be_asked_for_in_any_order() -> None:
    windows = Windows(np.arange(10, dtype=np.uint16), 4, 4)
    ids, weights = windows.rows(np.array([2, 0]))
    assert ids.tolist() == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]
    assert weights.tolist() == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert ids.dtype == np.int64
    assert weights.dtype == np.float32


def test_a_context_longer_than_the_text_says_which_one_fits() -> None:
    ids = np.arange(10, dtype=np.uint16)
    with pytest.raises(UsageError, match="a context of 10 is longer than the text") as caught:
        Windows(ids, 10, 10)
    assert "use --context 9 or less" in str(caught.value)
    assert Windows(ids, 9, 9).n_rows == 1
    with pytest.raises(UsageError, match="give more text"):
        Windows(ids[:1], 1, 1)
    for stride in (0, 5, -1):
        with pytest.raises(UsageError, match="use 1 to 4"):
            Windows(ids, 4, stride)


def test_a_context_longer_than_any_of_several_documents_says_which_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    line = np.array([0, 5, 5, 0, 5, 5, 5, 0, 5, 0], dtype=np.uint16)
    for scanned in (1 << 22, 3):
        monkeypatch.setattr("tui_chat.training.windows._SCANNED", scanned)
        check_documents(line, 4, 0)
        with pytest.raises(UsageError, match="a context of 5 is longer than any document") as caught:
            check_documents(line, 5, 0)
        assert "use --context 4 or less" in str(caught.value)
    # Of a single one the windows speak.
    check_documents(line[:4], 5, 0)


def test_documents_come_back_from_the_file(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    documents = [f"What is a token? {n}\n" * 5_000 for n in range(3)] + [f"An {IM_END} that is text."]
    ids = write_documents(tmp_path / "new" / "train.npy", documents, tiny_tokenizer)
    end = token_id(tiny_tokenizer, END_OF_TEXT)
    assert isinstance(ids, np.memmap)
    assert ids.dtype == np.uint16
    places = np.flatnonzero(ids == end)
    assert (places[0], places[-1]) == (0, len(ids) - 1)
    for document, first, last in zip(documents, places[:-1], places[1:], strict=True):
        assert tiny_tokenizer.decode(ids[first + 1 : last].tolist(), skip_special_tokens=False) == document
    assert token_id(tiny_tokenizer, IM_END) not in ids
    # Long documents are encoded in pieces.
    assert ids[1 : places[1]].tolist() == tiny_tokenizer.encode(documents[0]).ids
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["train.npy"]


def test_the_smallest_text_that_is_accepted_can_be_trained_on(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    parts = split_documents([("The harbour wakes up slowly. " * 10)[:MIN_CHARACTERS]], seed=1)
    for name, documents in (("train", parts.training), ("validation", parts.validation)):
        assert Windows(write_documents(tmp_path / name, documents, tiny_tokenizer), 8, 8).n_rows >= 1


@given(pieces=st.lists(st.lists(st.integers(0, 99_999), max_size=5), max_size=5), vocab_size=st.just(100_000))
def test_ids_are_stored_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[int]], vocab_size: int
) -> None:
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    stored = write_ids(path, pieces, vocab_size)
    assert stored.dtype == np.uint32
    assert stored.tolist() == [i for piece in pieces for i in piece]
    assert np.load(path).tolist() == stored.tolist()


def test_ids_are_as_narrow_as_the_vocabulary_allows() -> None:
    assert id_type(65_536) is np.uint16
    assert id_type(65_537) is np.uint32


def test_files_that_cannot_be_written_or_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"ids.npy cannot be written"):
        write_ids(tmp_path / "file" / "ids.npy", [[1]], 10)
    with pytest.raises(StorageError, match=r"missing.npy.* cannot be read"):
        open_array(tmp_path / "missing.npy")
    with pytest.raises(StorageError, match="remove the file and begin again"):
        open_array(tmp_path / "file")
    whole = tmp_path / "ids.npy"
    write_ids(whole, [range(1_000)], 1_000)
    whole.write_bytes(whole.read_bytes()[:-10])
    with pytest.raises(StorageError, match="cannot be read"):
        open_array(whole)


def test_a_failed_write_leaves_the_file_before_whole(tmp_path: Path) -> None:
    path = tmp_path / "ids.npy"
    write_ids(path, [[1, 2]], 10)
    with pytest.raises(OverflowError):
        write_ids(path, [[3], [70_000]], 10)
    assert open_array(path).tolist() == [1, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["ids.npy"]
