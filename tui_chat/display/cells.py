"""Text in an exact number of terminal cells, and bars in eighths of one."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

_EIGHTHS = " ▏▎▍▌▋▊▉"


def fit(text: str, width: int) -> str:
    """Gives the text in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def bar(fraction: float, width: int) -> str:
    """Gives a bar of at most `width` cells in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def gauge(fraction: float, width: int) -> tuple[str, str]:
    """Gives the filled and the empty part of a gauge of `width` cells."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    if fraction > 0:
        filled = max(1, filled)
    return "▓" * filled, "░" * (width - filled)
