"""The inspector: one token's figures and candidates, and the tokens of its answer to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui_chat.engine.types import GeneratedToken
from tui_chat.ui.widgets.candidates import CandidateTable
from tui_chat.ui.widgets.token_facts import TokenFacts
from tui_chat.ui.widgets.token_strip import TokenLegend, TokenStrip


class Inspector(Vertical):
    """Shows the newest token, or the one selected in the strip of tokens below.

    Args:
        piece_of: Gives a token's bytes by its id, None while unknown.
    """

    DEFAULT_CSS = """
    Inspector { height: 1fr; }
    """

    class Asked(Message):
        """Somebody wants a figure of the token on show explained."""

        def __init__(self, inspector: Inspector, figure: str) -> None:
            super().__init__()
            self.inspector = inspector
            self.figure = figure
            """As `/why` names it."""

        @property
        def control(self) -> Widget:
            return self.inspector

    class Selected(Message):
        """A token was selected by key or mouse."""

        def __init__(self, inspector: Inspector, token: GeneratedToken) -> None:
            super().__init__()
            self.inspector = inspector
            self.token = token

        @property
        def control(self) -> Widget:
            return self.inspector

    n_vocab: reactive[int] = reactive(0)

    def __init__(self, piece_of: Callable[[int], bytes | None], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._piece_of = piece_of
        self.border_title = "inspector"

    def compose(self) -> ComposeResult:
        yield TokenFacts()
        yield CandidateTable(self._piece_of)
        yield TokenStrip(id="tokens")
        yield TokenLegend()

    def watch_n_vocab(self, n_vocab: int) -> None:
        if self.is_mounted:
            self.query_one(TokenFacts).n_vocab = n_vocab

    @property
    def selected(self) -> int | None:
        """Which token of the answer is selected; None where the newest is on show, or nothing."""
        return self.query_one(TokenStrip).selected

    def show_answer(self, tokens: Sequence[GeneratedToken]) -> None:
        """Shows another answer's tokens, following the newest."""
        self.query_one(TokenStrip).show_tokens(list(tokens))
        self._inspect()

    def extend(self, tokens: Sequence[GeneratedToken]) -> None:
        """Adds tokens of the answer on show as they come."""
        if tokens:
            self.query_one(TokenStrip).extend(list(tokens))
            self._inspect()

    def pieces_arrived(self) -> None:
        """Draws the candidates anew once their texts are known."""
        self.query_one(CandidateTable).refresh()

    @on(TokenStrip.Selected)
    def _selected(self, event: TokenStrip.Selected) -> None:
        event.stop()
        self._inspect()
        if event.index is not None:
            self.post_message(self.Selected(self, event.strip.tokens[event.index]))

    @on(TokenStrip.Asked)
    def _strip_asked(self, event: TokenStrip.Asked) -> None:
        event.stop()
        self._ask("probability")

    @on(TokenFacts.Asked)
    def _facts_asked(self, event: TokenFacts.Asked) -> None:
        event.stop()
        self._ask(event.figure)

    def _ask(self, figure: str) -> None:
        strip = self.query_one(TokenStrip)
        strip.selected = strip.current  # what is explained is what is on show, though newer ones come
        self._inspect()
        self.post_message(self.Asked(self, figure))

    def _inspect(self) -> None:
        strip = self.query_one(TokenStrip)
        index = strip.current
        token = None if index is None else strip.tokens[index]
        facts, table = self.query_one(TokenFacts), self.query_one(CandidateTable)
        if token is None:
            self._entitle("inspector")
        else:
            self._entitle("newest token" if strip.selected is None else "selected token")
        if facts.token is token:
            return
        facts.token = token
        table.trace = None if token is None else token.trace
        if index is not None:
            facts.place = (index + 1, len(strip.tokens))

    def _entitle(self, title: str) -> None:
        # Every change of the title draws the whole pane anew.
        if self.border_title != title:
            self.border_title = title
            self.border_subtitle = "? explains · End follows the newest" if title.startswith("selected") else ""
