"""Masks and packing: what counts in the loss, and that no dialogue is torn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tui_chat.errors import UsageError
from tui_chat.training import packing
from tui_chat.training.dataset import PROMPT_WEIGHT, EncodedDialogue, RowOrder, encode, pack
from tui_chat.training.dialogue import END_OF_TEXT, Dialogue
from tui_chat.training.packing import OPENING, open_rows, pack_on_disk
from tui_chat.training.tokenizer import token_id

PAD = 0


def test_own_ids_are_the_replies(tiny_tokenizer: Tokenizer, dialogues: list[Dialogue]) -> None:
    sample = dialogues[:300]
    for dialogue, encoded in zip(sample, encode(sample, tiny_tokenizer), strict=True):
        own = [i for i, is_own in zip(encoded.ids, encoded.own, strict=True) if is_own]
        replies = "".join(f"{exchange.reply}<|im_end|>" for exchange in dialogue.exchanges)
        assert tiny_tokenizer.decode(own, skip_special_tokens=False) == replies


def test_pieces_give_the_ids_of_the_whole_text(tiny_tokenizer: Tokenizer, dialogues: list[Dialogue]) -> None:
    end = token_id(tiny_tokenizer, END_OF_TEXT)
    sample = dialogues[:300]
    for dialogue, encoded in zip(sample, encode(sample, tiny_tokenizer), strict=True):
        assert list(encoded.ids) == [*tiny_tokenizer.encode(dialogue.text, add_special_tokens=False).ids, end]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.integers(12, 30))
def test_packing_keeps_every_dialogue_whole(lengths: list[int], room: int) -> None:
    # Dialogue n is written with the id n + 1 alone, and 0 is padding.
    dialogues = [EncodedDialogue((n + 1,) * size, (True,) * size) for n, size in enumerate(lengths)]
    rows = pack(dialogues, room - 1, PAD)
    found = {n + 1: 0 for n in range(len(lengths))}
    for row in rows.ids:
        values, counts = np.unique(row[row != PAD], return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            assert count == lengths[value - 1]
            found[value] += 1
    assert set(found.values()) == {1}


def test_weights_follow_who_writes_and_padding_weighs_nothing() -> None:
    rows = pack([EncodedDialogue((5, 6, 7, 8), (False, False, True, True))], 6, PAD)
    assert rows.ids.tolist() == [[5, 6, 7, 8, PAD, PAD, PAD]]
    # One shorter than the ids: the weight belongs to the token that is predicted.
    assert rows.weights[0].tolist() == pytest.approx([PROMPT_WEIGHT, 1, 1, 0, 0, 0])
    assert rows.n_tokens == 3


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=14), min_size=1, max_size=40),
    st.integers(5, 20),
    st.sampled_from((0.0, PROMPT_WEIGHT, 1.0)),
)
def test_weights_line_up_with_who_wrote_a_token(owners: list[list[bool]], length: int, prompt_weight: float) -> None:
    # The id says who wrote it: 1 the user, 2 the model.
    dialogues = [EncodedDialogue(tuple(1 + own for own in owner), tuple(owner)) for owner in [[True], *owners]]
    rows = pack(dialogues, length, PAD, prompt_weight=prompt_weight)
    ids, weights = rows.rows(np.arange(rows.n_rows))
    expected = np.array([0.0, prompt_weight, 1.0], dtype=np.float32)
    assert (weights == expected[ids[:, 1:]]).all()
    fitting = [d for d in dialogues if len(d.ids) <= length + 1]
    assert rows.n_left_out == len(dialogues) - len(fitting)
    assert np.count_nonzero(ids) == sum(len(d.ids) for d in fitting)


def test_the_first_tokens_of_a_begun_answer_weigh_more() -> None:
    own = [False, False, True, True, True, True, True, False, True, True, False]
    begun = EncodedDialogue(tuple(range(11)), tuple(own), opened=True)
    rows = pack([begun], 11, PAD, prompt_weight=0.5, opening_weight=3.0)
    assert OPENING == 4
    assert rows.weights.tolist() == [[0.5, 3.0, 3.0, 3.0, 3.0, 1.0, 0.5, 3.0, 3.0, 0.0, 0.0]]
    rows = pack([replace(begun, opened=False)], 11, PAD, prompt_weight=0.5, opening_weight=3.0)
    assert rows.weights.tolist() == [[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 0.5, 0.0]]


def test_what_stands_behind_a_begun_answer_weighs_nothing() -> None:
    begun = EncodedDialogue((5, 6, 7, 9), (False, True, True, False), opened=True)
    whole = EncodedDialogue((5, 6, 7, 9), (False, True, True, False))
    assert pack([begun, whole], 7, PAD).weights.tolist() == [pytest.approx([1.0, 1.0, 0.0, 0.1, 1.0, 1.0, 0.1])]


def test_rows_on_disk_are_those_in_memory(tmp_path: Path, tiny_tokenizer: Tokenizer, made: list[Dialogue]) -> None:
    sample = encode(made[:600], tiny_tokenizer)
    n_tokens = tiny_tokenizer.get_vocab_size()
    place = tmp_path / "a" / "train"
    expected = pack(sample, 200, PAD, prompt_weight=0.5, opening_weight=3.0)
    stored = pack_on_disk(iter(sample), 200, PAD, place, n_tokens, prompt_weight=0.5, opening_weight=3.0)
    again = open_rows(place, 200)
    for rows in (stored, again):
        assert isinstance(rows.ids, np.memmap)
        assert rows.ids.dtype == expected.ids.dtype == np.uint16
        assert (rows.ids == expected.ids).all()
        assert (rows.weights == expected.weights).all()
    assert stored.n_left_out == expected.n_left_out > 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["train.ids.npy", "train.weights.npy"]


def test_a_context_that_does_not_suit_says_which_does(tmp_path: Path) -> None:
    dialogues = [EncodedDialogue((1,) * size, (True,) * size) for size in (7, 9)]
    with pytest.raises(
        UsageError, match=r"the shortest has 7, of which 6 are to be guessed, .*: use --context 6 or more"
    ):
        pack_on_disk(dialogues, 5, PAD, tmp_path / "rows", 10)
    with pytest.raises(UsageError, match="together, which have 15 tokens to guess: use --context 15 or less"):
        pack_on_disk(dialogues, 16, PAD, tmp_path / "rows", 10)
    with pytest.raises(UsageError, match="not one conversation"):
        pack_on_disk([], 16, PAD, tmp_path / "rows", 10)
    assert list(tmp_path.iterdir()) == []
    assert pack_on_disk(dialogues, 16, PAD, tmp_path / "rows", 10, may_be_short=True).n_rows == 1
    assert pack_on_disk(dialogues, 15, PAD, tmp_path / "rows", 10).n_rows == 1
    assert pack_on_disk(dialogues, 6, PAD, tmp_path / "rows", 10).n_left_out == 1


def test_large_vocabularies_have_wider_ids() -> None:
    assert pack([EncodedDialogue((65_536,), (True,))], 4, PAD).ids.tolist() == [[65_536, 0, 0, 0, 0]]


def test_encoding_one_after_the_other_gives_the_same(tiny_tokenizer: Tokenizer, dialogues: list[Dialogue]) -> None:
    sample = dialogues[:50]
    assert list(packing.encoded(iter(sample), tiny_tokenizer)) == [encode([d], tiny_tokenizer)[0] for d in sample]


def test_rows_are_well_filled(tiny_tokenizer: Tokenizer, dialogues: list[Dialogue]) -> None:
    rows = pack(encode(dialogues, tiny_tokenizer), 512, PAD)
    assert rows.n_tokens / rows.weights.size > 0.9


def test_dialogues_that_do_not_fit_are_left_out() -> None:
    long, short = EncodedDialogue((1,) * 9, (True,) * 9), EncodedDialogue((2,) * 3, (True,) * 3)
    assert pack([long, short], 4, PAD).ids.tolist() == [[2, 2, 2, PAD, PAD]]
    with pytest.raises(ValueError, match="no dialogue fits into 4 tokens"):
        pack([long], 4, PAD)


@given(st.integers(1, 20), st.integers(0, 3), st.integers(0, 60), st.integers(1, 15))
def test_order_is_known_from_the_place_alone(n_rows: int, seed: int, start: int, count: int) -> None:
    whole = RowOrder(n_rows, seed).rows(0, start + count)
    assert RowOrder(n_rows, seed).rows(start, count).tolist() == whole[start:].tolist()
    epochs = [sorted(whole[i : i + n_rows]) for i in range(0, len(whole) - n_rows + 1, n_rows)]
    assert all(epoch == list(range(n_rows)) for epoch in epochs)
