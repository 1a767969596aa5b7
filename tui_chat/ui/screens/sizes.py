"""From which sizes on the chat screen is laid out how: each names a class that the style sheet goes by."""

from __future__ import annotations

from textual.geometry import Size

MIN_WIDTH, MIN_HEIGHT = 60, 16
"""The least size at which everything can be used."""

WIDTHS = [(0, "-narrow"), (110, "-two"), (160, "-wide")]
"""One pane at a time, two columns, three."""

HEIGHTS = [(0, "-low"), (36, "-tall")]
"""Whether inspector and sampling settings have room above each other."""


def layout_classes(size: Size) -> tuple[str, str]:
    """Gives the classes of a size, for its width and its height."""
    return (
        max(step for step in WIDTHS if step[0] <= size.width)[1],
        max(step for step in HEIGHTS if step[0] <= size.height)[1],
    )
