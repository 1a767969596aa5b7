"""Which tokens a text, a pattern or a number in a bias or a ban stands for.

A phrase is biased where it would begin: by the first token of the way it is written at the start of a line and behind
a space. Where that token begins other words too, they are met as well; so what was found is shown. A ban of a phrase
would refuse too much and too little that way: it is a matter of what is written already (`text_bans`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tui_chat.engine.types import Bias
from tui_chat.errors import SamplingError

if TYPE_CHECKING:  # settings are read before anybody needs a model
    from tui_chat.engine.vocabulary import Vocabulary

Spec = int | str
"""A token's id, a text, or a pattern between slashes."""


class Resolve(Protocol):
    """Gives the ids that a text or a pattern stands for; raises `SamplingError` where there are none.

    With `ban` it gives those that a ban of it refuses everywhere; of a text there may be none.
    """

    def __call__(self, text: str, *, ban: bool = False) -> Sequence[int]:
        """The ids."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What one bias or ban was found to mean."""

    spec: Spec
    bias: float
    """Nats; -inf for a ban."""
    ids: tuple[int, ...]
    """Of a banned text the tokens that hold it, if there are any; those that complete it depend on the place."""

    @property
    def is_text_ban(self) -> bool:
        """Whether it is a text that no token may complete."""
        return isinstance(self.spec, str) and self.bias == -math.inf and not is_pattern(self.spec)

    @property
    def biases(self) -> tuple[Bias, ...]:
        """The same as `SamplingParams.logit_bias` has it."""
        if self.is_text_ban:
            return ((self.spec, self.bias),)
        return tuple((token, self.bias) for token in self.ids)

    def words(self, vocab: Vocabulary) -> str:
        """For people: what was asked for, and the tokens it met."""
        shown = ", ".join(f"{i} {vocab.piece(i).decode('utf-8', 'replace')!r}" for i in self.ids[:_SHOWN])
        more = f" and {len(self.ids) - _SHOWN:,} more" if len(self.ids) > _SHOWN else ""
        if self.is_text_ban:
            held = f"tokens that hold it: {shown}{more}" if self.ids else "no token holds it whole"
            return f"{self.spec!r} is banned: no token completes it, whatever the cut ({held})"
        verb = "bans" if self.bias == -math.inf else f"adds {self.bias:+g} to"
        return f"{self.spec!r} {verb} {shown}{more}"


_SHOWN = 12


def is_pattern(text: str) -> bool:
    """Whether it is a /pattern/ and no text."""
    return len(text) > 2 and text[0] == text[-1] == "/"


def first_tokens(vocab: Vocabulary, text: str) -> tuple[int, ...]:
    """The tokens that a text or a /pattern/ stands for, ascending.

    Args:
        vocab: The tokens.
        text: A phrase, the text of a control token, or a regular expression between slashes, searched for in the text
            of every token.

    Raises:
        SamplingError: There is no such token.
    """
    if is_pattern(text):
        return _matching(vocab.pieces(), text[1:-1])
    whole = vocab.tokenize(text, parse_special=True)
    if len(whole) == 1 and vocab.is_special(whole[0]):
        return (whole[0],)
    found: set[int] = set()
    core = text.lstrip(" ")
    for form in (core, " " + core) if core else (text,):
        for token in vocab.tokenize(form):
            piece = vocab.piece(token)
            if core and not piece.strip():
                continue  # a space by itself begins everything
            if form.encode().lstrip().startswith(piece.strip()) and _is_text(piece):
                found.add(token)
            break
    if not found:
        raise SamplingError(
            f"the text {text!r} is no token of this model, nor does one begin it with a whole character: "
            "name its tokens by id"
        )
    return tuple(sorted(found))


def first_pieces(pieces: Sequence[bytes], text: str, *, ban: bool = False) -> tuple[int, ...]:
    """What `Vocabulary.resolve` would find, for who has only the bytes of the tokens.

    For a bias it takes the longest token that begins each form. A tokenizer may cut a phrase otherwise, so this tells
    whether there is such a token rather than which.
    """
    if ban and not is_pattern(text):
        return tuple(token for token, piece in enumerate(pieces) if text.encode() in piece)
    if is_pattern(text):
        return _matching(pieces, text[1:-1])
    core = text.lstrip(" ").encode()
    found: set[int] = set()
    for form in (core, b" " + core):
        fits = [(len(piece), token) for token, piece in enumerate(pieces) if form.startswith(piece)]
        fits = [fit for fit in fits if pieces[fit[1]].strip()]
        if fits and _is_text(pieces[max(fits)[1]]):
            found.add(max(fits)[1])
    if not found:
        raise SamplingError(f"the text {text!r} is no token of this model: name its tokens by id")
    return tuple(sorted(found))


def resolve_biases(
    biases: Sequence[tuple[Spec, float]], bans: Sequence[Spec], resolve: Resolve | None, n_vocab: int | None = None
) -> tuple[Resolved, ...]:
    """What biases and bans mean, each by itself.

    Args:
        biases: (what, nats added to its logit).
        bans: What never comes: tokens, and texts.
        resolve: For texts and patterns; None where there is no model.
        n_vocab: Tokens there are, where that is known.

    Raises:
        SamplingError: A text to bias or an id is no token, or a token is both banned and biased.
    """
    found = []
    for spec, bias in (*biases, *((ban, -math.inf) for ban in bans)):
        if isinstance(spec, str):
            if resolve is None:
                raise SamplingError(f"without a model {spec!r} is not a token: name it by id")
            if not spec:
                raise SamplingError("an empty text stands in every answer: name a text, a token's id or a /pattern/")
            ids = tuple(resolve(spec, ban=bias == -math.inf))
        else:
            ids = (spec,)
        if n_vocab is not None and any(not 0 <= token < n_vocab for token in ids):
            raise SamplingError(f"this model has no token {spec}: its vocabulary ends at {n_vocab - 1}")
        found.append(Resolved(spec, bias, ids))
    banned = {token: one for one in found if one.bias == -math.inf for token in one.ids}
    for one in found:
        for token in one.ids if one.bias != -math.inf else ():
            if (ban := banned.get(token)) is not None:
                raise SamplingError(
                    f"token {token} is banned by {ban.spec!r} and biased by {one.spec!r}: leave one of them out"
                )
    return tuple(found)


def _matching(pieces: Sequence[bytes], pattern: str) -> tuple[int, ...]:
    try:
        matches = re.compile(pattern).search
    except re.error as error:
        column = "" if error.pos is None else f", column {error.pos + 1}"
        raise SamplingError(f"the pattern /{pattern}/ does not hold{column}: {error.msg}") from None
    ids = tuple(token for token, piece in enumerate(pieces) if piece and matches(piece.decode("utf-8", "replace")))
    if not ids:
        raise SamplingError(f"the pattern /{pattern}/ is found in no token of this model")
    return ids


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
