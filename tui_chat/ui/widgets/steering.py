"""What widgets that show candidates and tokens say when a person wants to go on otherwise from one of them."""

from __future__ import annotations

from textual.message import Message
from textual.widget import Widget


class _OfCandidates(Message):
    """What is said of the candidates of a token.

    Args:
        widget: The one that shows them.
    """

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    @property
    def control(self) -> Widget:
        return self.widget


class CandidateChosen(_OfCandidates):
    """A candidate of the token on show shall stand in its place; the screen knows whose token that is.

    Args:
        widget: The one that shows the candidates.
        token: Id of the candidate.
        goes_on: Let the model go on behind it.
        index: Which token of the answer on show it takes the place of, from 0; None means the one that is on show, or,
            where the answer waits before a token, the coming one.
    """

    def __init__(self, widget: Widget, token: int, *, goes_on: bool = True, index: int | None = None) -> None:
        super().__init__(widget)
        self.token = token
        self.goes_on = goes_on
        self.index = index


class CandidateBanned(_OfCandidates):
    """The token that is waited before shall be drawn again without this candidate.

    Args:
        widget: The one that shows the candidates.
        token: Id of the candidate.
    """

    def __init__(self, widget: Widget, token: int) -> None:
        super().__init__(widget)
        self.token = token


class NothingToChoose(_OfCandidates):
    """A candidate was wanted where none is shown.

    Args:
        widget: The one that shows the candidates elsewhere.
        why: Why there is none, where that is known.
    """

    def __init__(self, widget: Widget, why: str) -> None:
        super().__init__(widget)
        self.why = why


class WhatIfToggled(_OfCandidates):
    """Somebody wants to see the candidates with the other settings: those that ran, or those of the sliders."""
