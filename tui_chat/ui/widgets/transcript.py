"""The transcript: a long scroll of turns and notices that stays at the end while one reads there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.layout import Layout
from textual.layouts.stream import StreamLayout
from textual.widget import Widget
from textual.widgets import Static

from tui_chat.chat.conversation import Message, Role
from tui_chat.ui.settled import Settled
from tui_chat.ui.widgets.report_card import ReportCard
from tui_chat.ui.widgets.turns import AnswerTurn, Notice, NoticeKind, UserTurn


class Transcript(Settled, VerticalScroll, can_focus=False):
    """Turns and notices in order. It follows the end unless scrolled away from it.

    It never takes the focus, so that typing always reaches the composer.
    """

    def __init__(self, welcome: Content, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._welcome = welcome

    def compose(self) -> ComposeResult:
        yield Static(self._welcome, classes="welcome")

    def on_mount(self) -> None:
        self.anchor()

    def pre_layout(self, layout: Layout) -> None:
        """Has every turn measured anew where one grew from within.

        Textual 8.2 does not count such a turn among what changed (`Screen._on_layout`): its stream layout would leave
        it as high as it was if something else in the transcript, a new card or the scrollbar, changed at the same time.
        """
        if isinstance(layout, StreamLayout) and not self.screen._layout_widgets.keys().isdisjoint(self.children):
            layout._cached_placements = None

    def show_welcome(self, welcome: Content) -> None:
        """Shows what is said while nothing has been said."""
        self._welcome = welcome
        for static in self.query(".welcome").results(Static):
            static.update(welcome)

    async def add_user(self, text: str) -> UserTurn:
        """Appends what the user said and scrolls to it."""
        turn = UserTurn(text)
        await self._add(turn, follow=True)
        return turn

    async def add_answer(self) -> AnswerTurn:
        """Appends an answer that is about to be written."""
        turn = AnswerTurn(streaming=True)
        await self._add(turn)
        return turn

    async def add_notice(self, text: str, kind: NoticeKind = NoticeKind.NOTE, *, title: str | None = None) -> Notice:
        """Appends a card that is no message and scrolls to it."""
        notice = Notice(text, kind, title=title)
        await self._add(notice)
        self.call_after_refresh(self._show_from_top, notice)
        return notice

    async def add_card(self, card: ReportCard, *, follow: bool = True) -> None:
        """Appends a report's card and scrolls to it, if that is wanted."""
        await self._add(card)
        if follow:
            self.follow(card)

    def follow(self, card: ReportCard) -> None:
        """Scrolls to a card whose height has changed: to its beginning, where all of it does not fit."""
        self.call_after_refresh(self._show_from_top, card)

    def reveal(self, card: ReportCard) -> None:
        """Scrolls to where a card can be seen, to its beginning if all of it does not fit."""
        self.release_anchor()
        self.scroll_to_widget(card, animate=False, top=not self._fits(card))

    def reveal_line(self, widget: Widget, line: Region) -> None:
        """Scrolls to where a line can be seen, with one more above and beneath.

        Args:
            widget: In the transcript.
            line: Where it stands in that.
        """
        place = widget.region.offset - self.content_region.offset + self.scroll_offset
        y = max(0, place.y + line.y - 1)
        self.release_anchor()
        self.scroll_to_region(Region(0, y, 1, min(3, self.size.height)), animate=False, x_axis=False, immediate=True)

    async def clear(self) -> None:
        """Empties the transcript."""
        await self.remove_children()
        await self.mount(Static(self._welcome, classes="welcome"))
        self.anchor()

    async def show_messages(self, messages: Sequence[Message], footer: Callable[[Message], str]) -> AnswerTurn | None:
        """Shows these messages instead of the turns there are; cards stay behind the turn they came after, notices go.

        Args:
            messages: From the first one on; those of the system are not shown.
            footer: What stands below an answer.

        Returns:
            The turn of the last answer.
        """
        turns = [
            UserTurn(message.text) if message.role is Role.USER else AnswerTurn(message.text, footer=footer(message))
            for message in messages
            if message.role is not Role.SYSTEM
        ]
        cards: list[tuple[int, ReportCard]] = []
        n_turns = 0
        for child in self.children:
            n_turns += isinstance(child, UserTurn | AnswerTurn)
            if isinstance(child, ReportCard):
                cards.append((n_turns, child))
        with self.app.batch_update():
            await self.remove_children([child for child in self.children if not isinstance(child, ReportCard)])
            for i, turn in enumerate(turns):
                await self.mount(turn, before=next((card for n_before, card in cards if n_before > i), None))
            if not self.children:
                await self.mount(Static(self._welcome, classes="welcome"))
        self.anchor()
        return next((turn for turn in reversed(turns) if isinstance(turn, AnswerTurn)), None)

    def _show_from_top(self, notice: Notice | ReportCard) -> None:
        if not notice.is_mounted:
            return
        if not self._fits(notice):
            self.release_anchor()
            # At once: scrolling that is put off would come behind that to a card which follows.
            self.scroll_to_widget(notice, animate=False, top=True, immediate=True)
        else:
            self.anchor()

    def _fits(self, notice: Notice | ReportCard) -> bool:
        """Whether all of it can be seen at once, with the blank line that stands beneath it at the end."""
        return notice.outer_size.height + notice.styles.margin.bottom <= self.size.height

    async def _add(self, widget: UserTurn | AnswerTurn | Notice | ReportCard, *, follow: bool = False) -> None:
        with self.app.batch_update():
            if not isinstance(widget, Notice | ReportCard):
                await self.query(".welcome").remove()
            await self.mount(widget)
        if follow:
            self.anchor()
