"""The fixed table of positions: every place a vector of sines and cosines.

The training adds it to the embeddings and the export writes it into the file, so both take it from here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

AMPLITUDE = 0.02
"""Height of the waves: the standard deviation of a first embedding, as in the paper, where both are one."""


def sinusoidal_table(context: int, width: int) -> npt.NDArray[np.float32]:
    """Sines in the even columns, cosines in the odd ones, slower from pair to pair (Vaswani et al., 2017: 3.5).

    Args:
        context: Places, the first of which is 0.
        width: Columns; where it is odd the last sine has no cosine.

    Returns:
        (context, width), read-only: `AMPLITUDE` times sin(p / 10000^(2i / width)), and cos of the same.
    """
    pairs = np.arange((width + 1) // 2, dtype=np.float64)
    angles = np.arange(context, dtype=np.float64)[:, None] * 10_000.0 ** (-2.0 * pairs / width)
    waves = np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(context, -1)
    table: npt.NDArray[np.float32] = (AMPLITUDE * waves[:, :width]).astype(np.float32)
    table.setflags(write=False)
    return table
