r"""Long texts in pieces that can be encoded one by one, with the same ids as the whole.

A tokenizer keeps the place of every token while it works, so a book in one call costs many times its size. Words never
reach across certain places, whatever comes before or after them; those are where a text may be cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

CHUNK = 1 << 16
"""Characters of a piece, and a little more."""

_CUT = re.compile(r"(?<=[^\W_])(?=[ \n])|(?<=[!-~])(?= )|(?<=[!-~]\n)(?=[!-~])")
"""Before white space that follows a letter or digit; before a space that follows a visible ASCII character; between one
line end and a visible ASCII character.

In every regular expression of `PreTokenizer` a space begins a new word after any of these, and a single line end
belongs to what is before it or stands alone.
"""


def chunks(text: str, size: int = CHUNK) -> Iterator[str]:
    """`text` in pieces of `size` characters or, up to the next place where it may be cut, more.

    Args:
        text: Any length; nothing comes of an empty one.
        size: Characters of a piece at least, the last one excepted.
    """
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + size) if start + size < len(text) else None
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def cut_near(text: str, place: int) -> int:
    """The first place from `place` on where `text` may be cut; its length where there is none."""
    cut = _CUT.search(text, place)
    return cut.start() if cut else len(text)
