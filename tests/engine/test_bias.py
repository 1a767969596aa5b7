"""What a text, a pattern or an id in a bias or a ban stands for."""

from __future__ import annotations

import math

import pytest

from tui_chat.engine.bias import first_pieces, first_tokens, resolve_biases
from tui_chat.engine.engine import Engine
from tui_chat.errors import SamplingError


def test_a_phrase_is_met_at_its_beginning_with_and_without_a_space(pocket: Engine) -> None:
    vocab = pocket.vocab
    for text in ("the", " the", "the token"):
        pieces = {vocab.piece(token) for token in first_tokens(vocab, text)}
        assert b" the" in pieces and len(pieces) == 2 and all(b"the".startswith(piece.strip()) for piece in pieces)


def test_a_control_token_is_itself(pocket: Engine) -> None:
    assert first_tokens(pocket.vocab, "<|im_end|>") == (pocket.vocab.find("<|im_end|>"),)


def test_a_pattern_meets_every_token_it_is_found_in(pocket: Engine) -> None:
    found = first_tokens(pocket.vocab, "/^ ?tok/")
    assert pocket.vocab.find(" token") in found
    assert all(pocket.vocab.piece(token).lstrip().startswith(b"tok") for token in found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\U00013000", "is no token of this model"),
        ("/zzzzqq/", "found in no token"),
        ("/(a/", "does not hold, column 1"),
    ],
)
def test_what_meets_nothing_is_an_error(pocket: Engine, text: str, says: str) -> None:
    with pytest.raises(SamplingError, match=says):
        first_tokens(pocket.vocab, text)


def test_what_was_found_is_shown(pocket: Engine) -> None:
    found = resolve_biases([(5, 1.5)], ["/^ ?[a-z]$/"], pocket.vocab.resolve)
    assert found[0].words(pocket.vocab).startswith("5 adds +1.5 to 5 ")
    assert found[1].bias == -math.inf and "bans" in found[1].words(pocket.vocab)
    assert found[1].words(pocket.vocab).endswith(f"and {len(found[1].ids) - 12} more")
    text, none = resolve_biases([], ["the", "no such phrase"], pocket.vocab.resolve)
    assert text.words(pocket.vocab).startswith("'the' is banned: no token completes it, whatever the cut (tokens that")
    assert "no token holds it whole" in none.words(pocket.vocab) and none.ids == ()


def test_a_banned_text_stays_a_text_and_a_pattern_means_tokens(pocket: Engine) -> None:
    text, pattern, number = resolve_biases([("the", -math.inf)], ["/^ ?the$/", 7], pocket.vocab.resolve)
    assert text.biases == (("the", -math.inf),)
    assert all(b"the" in pocket.vocab.piece(token) for token in text.ids) and len(text.ids) > len(pattern.ids)
    assert pattern.biases == tuple((token, -math.inf) for token in pattern.ids)
    assert number.biases == ((7, -math.inf),)
    with pytest.raises(SamplingError, match="an empty text stands in every answer"):
        resolve_biases([], [""], pocket.vocab.resolve)
    the = pocket.vocab.find(" the")
    with pytest.raises(SamplingError, match=f"token {the} is banned by 'the' and biased by {the}"):
        resolve_biases([(the or 0, 1.0)], ["the"], pocket.vocab.resolve)


def test_who_has_only_the_bytes_finds_the_longest_beginning(pocket: Engine) -> None:
    assert first_pieces(pocket.vocab.pieces(), "the") == first_tokens(pocket.vocab, "the")
    assert first_pieces(pocket.vocab.pieces(), "the", ban=True)
    assert first_pieces([b"a"], "xyz", ban=True) == ()
    with pytest.raises(SamplingError, match="no token"):
        first_pieces([b"a"], "xyz")


def test_an_id_that_the_model_does_not_have_is_named() -> None:
    assert resolve_biases([(7, 1.0)], [6], None, 8)[0].ids == (7,)
    for biases, bans in (([(8, 1.0)], []), ([], [8])):
        with pytest.raises(SamplingError, match="this model has no token 8: its vocabulary ends at 7"):
            resolve_biases(biases, bans, None, 8)


def test_without_a_model_only_ids_can_be_named() -> None:
    assert resolve_biases([(5, 1.0)], [7], None)[1].ids == (7,)
    with pytest.raises(SamplingError, match="without a model 'x'"):
        resolve_biases([], ["x"], None)
