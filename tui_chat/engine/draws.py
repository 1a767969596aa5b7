"""The draw: a number in [0, 1) for every seed and place in the context.

u = Philox4x64(key=seed, counter=position)       Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAW, XTC = 0, 1
"""Streams: the draw itself, and whether XTC acts."""
_AHEAD = 64


def uniform(seed: int, position: int, stream: int = DRAW) -> float:
    """The draw in [0, 1) for a place in the context.

    Args:
        seed: From 0 to 2**64 - 1.
        position: Index of the token that is drawn.
        stream: Independent sequences for independent decisions at one position.
    """
    return float(_draws(seed, position, 1, stream)[0])


def _draws(seed: int, position: int, count: int, stream: int) -> NDArray[np.float64]:
    """The draws of `count` places in a row: Philox4x64 gives four numbers a counter, of which the first is used."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=position + (stream << 64)))
    return generator.random(4 * count)[::4]


class Draws:
    """`uniform` of one seed, drawn ahead in blocks: setting up a generator costs more than sixty draws."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._ahead: dict[int, tuple[int, NDArray[np.float64]]] = {}

    def __call__(self, position: int, stream: int = DRAW) -> float:
        """The draw for a place; see `uniform`."""
        start, draws = self._ahead.get(stream, (-_AHEAD, None))
        if draws is None or not start <= position < start + _AHEAD:
            start, draws = position, _draws(self._seed, position, _AHEAD, stream)
            self._ahead[stream] = start, draws
        return float(draws[position - start])
