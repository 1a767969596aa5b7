"""Widgets whose new size asks for no second layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.geometry import Size

if TYPE_CHECKING:
    from textual.widget import Widget

    _Widget = Widget
else:
    # No widget itself: Textual would take its style rules from here alone, not from the widget it is mixed into.
    _Widget = object


class Settled(_Widget):
    """Mixed into a widget, it takes the size that a layout gave as the last word.

    Textual lays the whole screen out again whenever a layout gave a widget another size. Nothing in these widgets
    depends on that second pass, and it is half of what an answer that grows would cost.
    """

    def _size_updated(self, size: Size, virtual_size: Size, container_size: Size, layout: bool = True) -> bool:
        return super()._size_updated(size, virtual_size, container_size, layout=False)
