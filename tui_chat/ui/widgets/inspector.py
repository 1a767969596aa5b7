"""The inspector: one token's figures and waterfall, and the tokens of its answer to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui_chat.engine.types import GeneratedToken
from tui_chat.language import _
from tui_chat.ui.widgets.steering import WhatIfToggled
from tui_chat.ui.widgets.token_facts import TokenFacts
from tui_chat.ui.widgets.token_strip import TokenLegend, TokenStrip
from tui_chat.ui.widgets.waterfall_table import WaterfallTable

if TYPE_CHECKING:
    from tui_chat.engine.waterfall import Waterfall


class Inspector(Vertical):
    """Shows the newest token, or the one selected in the strip of tokens below, or the one that is waited before.

    It asks for the waterfall of what it shows by a message, `Shown`, and is given it by `show_table`.

    Args:
        piece_of: Gives a token's bytes by its id, None while unknown.
        pieces: Gives the bytes of all tokens, as far as they are known.
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

    class Shown(Message):
        """Another token is on show; its waterfall is wanted."""

        def __init__(self, inspector: Inspector) -> None:
            super().__init__()
            self.inspector = inspector

        @property
        def control(self) -> Widget:
            return self.inspector

    class Wanted(Message):
        """Something was asked for by key: `enter` on a marked token, `prompt` or `what-if`."""

        def __init__(self, inspector: Inspector, what: str) -> None:
            super().__init__()
            self.inspector = inspector
            self.what = what

        @property
        def control(self) -> Widget:
            return self.inspector

    n_vocab: reactive[int] = reactive(0)

    def __init__(
        self,
        piece_of: Callable[[int], bytes | None],
        pieces: Callable[[], Sequence[bytes]] = lambda: (),
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._piece_of, self._pieces = piece_of, pieces
        self._pending: GeneratedToken | None = None
        self._given = False
        self._asked: tuple[GeneratedToken | None, bool] = (None, False)
        self.border_title = "inspector"

    def compose(self) -> ComposeResult:
        yield TokenFacts()
        yield WaterfallTable(self._piece_of, self._pieces)
        yield TokenStrip(id="tokens")
        yield TokenLegend()

    def on_mount(self) -> None:
        self.watch(self.query_one(TokenStrip), "selected", self._inspect, init=False)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        table = isinstance(event.widget, WaterfallTable)
        self.query_one(TokenLegend).hint = _(WaterfallTable.HINT) if table else ""

    def on_descendant_blur(self) -> None:
        self.query_one(TokenLegend).hint = ""

    def watch_n_vocab(self, n_vocab: int) -> None:
        if self.is_mounted:
            self.query_one(TokenFacts).n_vocab = n_vocab

    @property
    def selected(self) -> int | None:
        """Which token of the answer is selected; None where the newest is on show, or nothing."""
        return self.query_one(TokenStrip).selected

    @property
    def current(self) -> int | None:
        """Which token is on show; as many as there are tokens where it is the coming one; None where there is none."""
        strip = self.query_one(TokenStrip)
        return len(strip.tokens) if self._is_pending() else strip.current

    @property
    def token(self) -> GeneratedToken | None:
        """The token on show."""
        strip = self.query_one(TokenStrip)
        if self._is_pending():
            return self._pending
        return None if strip.current is None else strip.tokens[strip.current]

    def show_answer(self, tokens: Sequence[GeneratedToken], *, given: bool = False) -> None:
        """Shows another answer's tokens, following the newest.

        Args:
            tokens: Those there are by now.
            given: They are no answer's: the model was given them, and drew none.
        """
        self._pending, self._asked, self._given = None, (None, False), given
        self.query_one(TokenStrip).show_tokens(list(tokens))
        self._inspect()

    def extend(self, tokens: Sequence[GeneratedToken]) -> None:
        """Adds tokens of the answer on show as they come."""
        if tokens:
            self.query_one(TokenStrip).extend(list(tokens))
            self._inspect()

    def replace(self, tokens: Sequence[GeneratedToken]) -> None:
        """Shows the same tokens with more figures; what is selected stays so."""
        self.query_one(TokenStrip).replace(list(tokens))
        self._inspect()

    def show_pending(self, token: GeneratedToken | None) -> None:
        """Shows the token that is waited before, unless another one is selected; None where there is none."""
        if token is not self._pending:
            self._pending = token
            self._inspect()

    def select(self, index: int | None) -> None:
        """Shows a token of the answer; None follows the newest."""
        self.query_one(TokenStrip).selected = index

    def show_table(
        self, table: Waterfall | None, chosen: int | None, *, title: str = "", problem: str = "", note: str = ""
    ) -> None:
        """Shows the waterfall of the token on show; see `WaterfallTable.show`.

        Args:
            table: The waterfall.
            chosen: The token that stands there.
            title: What it is of.
            problem: Why there is none.
            note: Stands in the place of the legend; empty leaves that.
        """
        self.query_one(WaterfallTable).show(table, chosen, title=title, problem=problem, given=self._given)
        self.query_one(TokenLegend).note = note

    def mark(self, indices: frozenset[int], note: str) -> None:
        """Marks tokens that would come out differently, and says so in the place of the legend."""
        self.query_one(TokenStrip).marks = indices
        self.query_one(TokenLegend).note = note

    def explain(self) -> None:
        """Asks for the figures of the token on show to be explained."""
        if self.token is not None:
            self._ask("probability")

    def pieces_arrived(self) -> None:
        """Draws the candidates anew once their texts are known."""
        self.query_one(WaterfallTable).refresh()

    def focus_next(self, step: int) -> bool:
        """Goes from the tokens to the candidates or back; False if there is nothing that way."""
        strip, table = self.query_one(TokenStrip), self.query_one(WaterfallTable)
        here, there = (strip, table) if step > 0 else (table, strip)
        if here.has_focus and table.table is not None:
            there.focus()
            return True
        return False

    @on(TokenStrip.Selected)
    def _selected(self, event: TokenStrip.Selected) -> None:
        event.stop()
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

    @on(TokenStrip.Wanted)
    def _strip_wanted(self, event: TokenStrip.Wanted) -> None:
        event.stop()
        if event.what == "enter" and event.strip.current not in event.strip.marks:
            self.query_one(WaterfallTable).focus()
        else:
            self.post_message(self.Wanted(self, event.what))

    @on(WhatIfToggled)
    def _what_if_toggled(self, event: WhatIfToggled) -> None:
        event.stop()
        self.post_message(self.Wanted(self, "what-if"))

    def _ask(self, figure: str) -> None:
        strip = self.query_one(TokenStrip)
        strip.selected = strip.current  # what is explained is what is on show, though newer ones come
        self._inspect()
        self.post_message(self.Asked(self, figure))

    def _is_pending(self) -> bool:
        return self._pending is not None and self.selected is None

    def _inspect(self) -> None:
        strip, facts = self.query_one(TokenStrip), self.query_one(TokenFacts)
        token, index = self.token, self.current
        if token is None:
            self._entitle("inspector")
        elif self._is_pending():
            self._entitle("coming token")
        elif self._given:
            self._entitle("given, not drawn")
        else:
            self._entitle("newest token" if strip.selected is None else "selected token")
        facts.given = self._given
        if facts.token is not token:
            facts.token = token
            if index is not None:
                facts.place = (index + 1, max(index + 1, len(strip.tokens)))
        if self._asked != (token, strip.selected is None):
            self._asked = (token, strip.selected is None)
            self.post_message(self.Shown(self))

    def _entitle(self, title: str) -> None:
        # Every change of the title draws the whole pane anew.
        if self.border_title != title:
            self.border_title = title
            self.border_subtitle = "? explains · End follows the newest" if title.startswith("selected") else ""
