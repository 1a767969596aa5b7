"""Which tokens begin with which: a grammar that refuses a text refuses all that begins with it.

So the tokens a grammar allows are found from the short ones down: the children of a refused token need no look. Where
a grammar allows little, as between the parts of a JSON document, that is a few hundred tokens of 151,936.

Tokens that are not whole UTF-8 by themselves stand alone: what llama.cpp says of a part of a character is no bound for
what it says of the whole (`llama_grammar_match_partial_char` refuses a part as soon as one of the characters it may
become is excluded).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray


class TokenForest:
    """The tokens of a vocabulary, each below the longest other one it begins with.

    Args:
        pieces: The bytes of every token, by id. Empty ones and those that begin with NUL no grammar allows: left out.
        eog_ids: Tokens that end an answer; no text stands for them, so they stand alone.
    """

    def __init__(self, pieces: Sequence[bytes], eog_ids: Collection[int]) -> None:
        alone = list(eog_ids)
        whole: list[tuple[bytes, int]] = []
        for token, piece in enumerate(pieces):
            if not piece or piece[0] == 0 or token in eog_ids:
                continue
            if _is_whole(piece):
                whole.append((piece, token))
            else:
                alone.append(token)
        whole.sort()
        parents: list[int] = []
        children: list[int] = []
        above: list[tuple[bytes, int]] = []
        for piece, token in whole:
            while above and not piece.startswith(above[-1][0]):
                above.pop()
            if above:
                parents.append(above[-1][1])
                children.append(token)
            else:
                alone.append(token)
            above.append((piece, token))
        order = np.argsort(np.array(parents, np.intp), kind="stable")
        self._n_vocab = len(pieces)
        self._roots = np.array(sorted(alone), np.int32)
        self._children = np.array(children, np.int32)[order]
        counts = np.bincount(np.array(parents, np.intp), minlength=len(pieces))
        self._starts = np.concatenate(([0], np.cumsum(counts)))

    def allowed(self, allows: Callable[[NDArray[np.int32]], NDArray[np.bool_]]) -> NDArray[np.int32]:
        """All tokens that are allowed, ascending.

        Args:
            allows: Says of (n,) tokens which are; it must refuse what begins with a token it refuses.
        """
        found = [np.empty(0, np.int32)]
        level = self._roots
        while len(level):
            level = level[allows(level)]
            found.append(level)
            level = self._below(level)
        return np.sort(np.concatenate(found))

    def _below(self, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        starts, counts = self._starts[tokens], self._starts[tokens + 1] - self._starts[tokens]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        places = np.arange(total) + np.repeat(starts - (ends - counts), counts)
        below: NDArray[np.int32] = self._children[places]
        return below


def _is_whole(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
