"""Finding tokens on the chat screen: a text, or the next one that was hardly expected."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from textual import on
from textual.widgets import Input

from tui_chat.display.text import one_line
from tui_chat.language import _, n_
from tui_chat.ui.finding import find, next_surprising
from tui_chat.ui.screens.token_view import TokenViewScreen
from tui_chat.ui.session import Session
from tui_chat.ui.tints import Measure
from tui_chat.ui.widgets.composer import Composer
from tui_chat.ui.widgets.token_map import TokenMap
from tui_chat.ui.widgets.token_text import TokenText


class TokenSearchScreen(TokenViewScreen):
    """Looks through the tokens of all messages.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._wanted = ""

    async def set_view(self, tokens: bool | None, measure: Measure | None = None, *, focus: bool = False) -> None:
        """Changes the view; a search ends with that of the tokens."""
        await super().set_view(tokens, measure, focus=focus)
        if not self._as_tokens:
            self._end_search()

    def leave_search(self) -> bool:
        """Goes from the search back to the tokens; False if the focus is elsewhere."""
        if not isinstance(self.focused, Input) or self.focused.id != "token-search":
            return False
        self._end_search()
        text = self._text_of(self._inspected) or next(reversed(self._texts()), None)
        if text is None:
            self.query_one(Composer).focus_input()
        else:
            text.focus(scroll_visible=False)
        return True

    def _focus_pane(self, pane: str) -> None:
        if any(field.display for field in self.query("#token-search")):
            self._end_search()
        super()._focus_pane(pane)

    @on(TokenText.Asked)
    def _find_asked(self, event: TokenText.Asked) -> None:
        match event.what:
            case "surprising":
                self._go_to_surprising(event.text, event.step)
            case "found":
                self._go_to_found(event.text, event.step)

    @on(Input.Changed, "#token-search")
    def _search_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._wanted = event.value
        found = self._show_found()
        self.query_one(TokenMap).note = self._search_note(0, found) if self._wanted else ""

    @on(Input.Submitted, "#token-search")
    def _search_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = self._text_of(self._inspected) or next(reversed(self._texts()), None)
        event.input.display = False
        if text is not None:
            text.focus(scroll_visible=False)
            self._go_to_found(text, 1)

    async def action_search_tokens(self) -> None:
        field = next(iter(self.query("#token-search").results(Input)), None)
        if field is None:
            field = Input(placeholder=_("search in the tokens, or #id"), id="token-search", compact=True)
            await self.mount(field, after=self.query_one(TokenMap))
        field.display = True
        self.set_focus(field)

    def _go_to(self, text: TokenText, index: int) -> None:
        text.focus(scroll_visible=False)
        text.select(index)

    def _go_to_surprising(self, text: TokenText, step: int) -> None:
        texts = self._texts()
        at, current = texts.index(text), text.current
        begin = (-1 if step > 0 else len(text.tokens)) if current is None else current
        while 0 <= at < len(texts):
            found = next_surprising(texts[at].tokens, begin, step)
            if found is not None:
                self._go_to(texts[at], found)
                return
            at += step
            begin = -1 if step > 0 else len(texts[at].tokens) if 0 <= at < len(texts) else 0
        self.say(_("no token of one in ten or less that way"))

    def _go_to_found(self, text: TokenText, step: int) -> None:
        """Goes to the next place that holds what is searched for, over the end to the beginning."""
        if not self._wanted:
            self.say(_("nothing is searched for: / begins"))
            return
        texts = self._texts()
        found = [(at, place.start) for at, other in enumerate(texts) for place in find(other.tokens, self._wanted)]
        if not found:
            self.query_one(TokenMap).note = self._search_note(0, 0)
            return
        here = (texts.index(text), -1 if text.current is None else text.current)
        number = (bisect_right(found, here) if step > 0 else bisect_left(found, here) - 1) % len(found)
        at, index = found[number]
        self._go_to(texts[at], index)
        self.query_one(TokenMap).note = self._search_note(number + 1, len(found))

    def _show_found(self) -> int:
        n_found = 0
        for text in self._texts():
            found = find(text.tokens, self._wanted)
            n_found += len(found)
            text.show_found({index for place in found for index in place})
        return n_found

    def _search_note(self, place: int, n_found: int) -> str:
        wanted = one_line(self._wanted)
        if place:
            return _("“{text}” {place}/{n} · n next").format(text=wanted, place=f"{place:,}", n=f"{n_found:,}")
        return n_("“{text}” {n} place", "“{text}” {n} places", n_found).format(text=wanted, n=f"{n_found:,}")

    def _end_search(self) -> None:
        self._wanted = ""
        for field in self.query("#token-search").results(Input):
            field.display, field.value = False, ""
        for text in self._texts():
            text.show_found(())
        self.query_one(TokenMap).note = ""
