"""Text from models and users made safe and readable: data in, visible symbols out.

Nothing that passes through here can move the cursor, ring, retitle the terminal, reorder a line or hide characters.
"""

from __future__ import annotations

_KEPT = {"\n", "\t"}


def _inert_table() -> dict[int, str]:
    table: dict[int, str] = {}
    for code in range(0x20):
        if chr(code) not in _KEPT:
            table[code] = chr(0x2400 + code)
    table[0x7F] = "␡"
    for code in (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F):
        table[code] = f"⟨U+{code:04X}⟩"
    for code in (0x200B, 0x2060, 0xFEFF, 0x00AD):
        table[code] = f"⟨U+{code:04X}⟩"
    for code in range(0xE0000, 0xE0080):
        table[code] = f"⟨U+{code:04X}⟩"
    table[0x2028] = table[0x2029] = "\n"
    return table


_INERT = _inert_table()
_SURROGATES = dict.fromkeys(range(55296, 57344), "�")
_INERT.update(_SURROGATES)


def visible(text: str) -> str:
    """Gives the text with control, reordering and hidden characters as visible symbols.

    Newlines and tabs stay; `\\r\\n` becomes a newline.
    """
    return text.replace("\r\n", "\n").translate(_INERT)


def one_line(text: str) -> str:
    """Gives `visible(text)` with newlines and tabs shown as ⏎ and ⇥."""
    return visible(text).replace("\n", "⏎").replace("\t", "⇥")


def literal(text: str) -> str:
    """Gives `one_line(text)` to stand between backticks, which it can have none of itself."""
    return one_line(text).replace("`", "'")


def shortened(text: str, width: int = 40) -> str:
    """Gives the text, or its beginning with an ellipsis where it has more than `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def piece_text(piece: bytes) -> str:
    """Gives a token's bytes as they stand in a text; as a label where they are no whole characters."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return piece_label(piece)


def piece_label(piece: bytes) -> str:
    """Gives a token's bytes as one readable line.

    Spaces are dots (a token of spaces alone shows ␣), line ends ⏎, tabs ⇥, bytes that are no whole character ⟨E2 96⟩.
    """
    if not piece:
        return "⟨empty⟩"
    if not piece.strip(b" "):
        return "␣" * len(piece)
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError:
        return _mixed(piece)
    return one_line(text).replace(" ", "·")


def hex_bytes(piece: bytes) -> str:
    """Gives bytes as `E2 96 81`."""
    return piece.hex(" ").upper()


def _mixed(piece: bytes) -> str:
    parts: list[str] = []
    rest = piece
    while rest:
        try:
            parts.append(one_line(rest.decode("utf-8")).replace(" ", "·"))
            break
        except UnicodeDecodeError as error:
            if error.start:
                parts.append(one_line(rest[: error.start].decode("utf-8")).replace(" ", "·"))
            parts.append(f"⟨{hex_bytes(rest[error.start : error.end])}⟩")
            rest = rest[error.end :]
    return "".join(parts)
