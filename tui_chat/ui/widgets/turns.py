"""What stands in the transcript: what was said, answers as they come, and notices that are no part of the chat."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from tui_chat.display.text import visible
from tui_chat.engine.decoding import THINK_OPEN, split_reasoning
from tui_chat.ui.blocks import BlockSplitter, tail_content
from tui_chat.ui.settled import Settled
from tui_chat.ui.widgets.token_text import TokenText

if TYPE_CHECKING:
    from textual.widgets.markdown import Markdown


class Said(Settled, Vertical):
    """What the model said: thinking, finished blocks, the block under way, and the footer."""


class Words(Settled, Static):
    """Plain text in a turn."""


class Turn(Settled, Horizontal):
    """What somebody said, as text or as its tokens."""

    token_text: TokenText | None = None
    """Its tokens, while they are on show."""

    async def view_tokens(self, on: bool) -> None:
        """Shows the tokens in place of the text, or the text again."""
        if on and self.token_text is None:
            self.token_text = TokenText()
            await self.mount(self.token_text)
        elif not on and self.token_text is not None:
            text, self.token_text = self.token_text, None
            await text.remove()
        self.query_one(".said").display = not on


class UserTurn(Turn):
    """What the user said."""

    def __init__(self, text: str) -> None:
        super().__init__(classes="turn user-turn")
        self._text = text

    def compose(self) -> ComposeResult:
        yield Words("you", classes="role", markup=False)
        yield Words(Content(visible(self._text)), classes="said")


class ThinkBlock(Settled, Vertical):
    """The model's thinking: dim, and folded once the answer begins."""

    folded: reactive[bool] = reactive(False)

    def __init__(self) -> None:
        super().__init__(classes="think")
        self._text = ""
        self._done_s: float | None = None
        self._began = time.monotonic()

    def compose(self) -> ComposeResult:
        yield Words(classes="think-head")
        yield Words(classes="think-body")

    def on_mount(self) -> None:
        self._head()

    def show(self, text: str, *, done: bool) -> None:
        """Shows the thinking so far; when done, it folds."""
        if text != self._text:
            self._text = text
            self.query_one(".think-body", Static).update(Content(visible(text)))
        if done and self._done_s is None:
            self._done_s = time.monotonic() - self._began
            self.folded = True
        self._head()

    def watch_folded(self, folded: bool) -> None:
        self.set_class(folded, "-folded")
        if self.is_mounted:
            self._head()

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.folded = not self.folded

    def _head(self) -> None:
        words = len(self._text.split())
        what = "thinking" if self._done_s is None else "thought"
        arrow = "▸" if self.folded else "▾"
        self.query_one(".think-head", Static).update(
            Content(f"{arrow} {what} · {words} word{'' if words == 1 else 's'}")
        )


class Tail(Settled, Static):
    """The block under way. It grows some lines at a time, so that most updates move nothing else on the screen.

    A low screen has no line to spare: there it grows by one.
    """

    STEP: ClassVar[int] = 3
    LOW: ClassVar[int] = 20

    def __init__(self) -> None:
        super().__init__(classes="tail")
        self._text = Content()
        self._lines = 0

    def show(self, text: Content) -> None:
        """Shows this text."""
        self._text = text
        width = self.size.width
        if not width:
            self.update(text)
            return
        step = self.STEP if self.screen.size.height >= self.LOW else 1
        lines = -(-text.get_height({}, width) // step) * step
        if lines != self._lines:
            self._lines = lines
            self.styles.height = lines
        self.update(text, layout=False)

    def on_resize(self) -> None:
        self.show(self._text)


class AnswerTurn(Turn):
    """An answer of the model, streamed or whole.

    Text is taken at any pace; `flush` shows what has come since the last time.

    Args:
        text: The answer so far.
        footer: Shown beneath, dim.
        streaming: Whether more will come.
    """

    def __init__(self, text: str = "", *, footer: str = "", streaming: bool = False) -> None:
        super().__init__(classes="turn answer-turn")
        self._text = text
        self._footer = footer
        self._streaming = streaming
        self._splitter = BlockSplitter()
        self._thought = ""
        self._shown_chars = 0
        self._dirty = False
        self._flushing = False
        self._status = ""

    def compose(self) -> ComposeResult:
        from tui_chat.ui.widgets.calm_markdown import CalmMarkdown

        yield Words("model", classes="role", markup=False)
        with Said(classes="said"):
            yield ThinkBlock()
            yield CalmMarkdown(classes="done")
            yield Tail()
            yield Words(Content(self._footer), classes="foot")

    async def on_mount(self) -> None:
        self.query_one(ThinkBlock).display = False
        self.query_one(".done").display = False
        self.query_one(Tail).display = False
        self.query_one(".foot").display = bool(self._footer)
        if self._streaming:
            self._show_tail()
        else:
            await self._flush(last=True)

    @property
    def text(self) -> str:
        """All that has come, thinking included."""
        return self._text

    @property
    def footer(self) -> str | None:
        """What stands beneath; None while more will come."""
        return None if self._streaming else self._footer

    def grow(self, text: str) -> None:
        """Takes all the text there is by now; what was there before stays its beginning."""
        if len(text) > len(self._text):
            self._text = text
            self._dirty = True
            self._status = ""

    async def rewrite(self, text: str) -> None:
        """Takes a text that does not begin with what was there before: some of that was taken back."""
        self._text, self._dirty = text, True
        self._shown_chars, self._splitter = 0, BlockSplitter()
        await self._document.update("")
        await self.flush()

    def show_status(self, status: str) -> None:
        """Shows what is going on before any text came."""
        if status != self._status and not self._text:
            self._status = status
            self._dirty = True

    async def finish(self, footer: str) -> None:
        """Shows all text as Markdown and the footer beneath."""
        self._streaming = False
        self._footer = footer
        await self._flush(last=True)
        foot = self.query_one(".foot", Static)
        foot.update(Content(footer))
        foot.display = bool(footer)

    def toggle_thinking(self) -> None:
        """Folds or unfolds the thinking."""
        block = self.query_one(ThinkBlock)
        block.folded = not block.folded

    async def flush(self) -> None:
        """Shows what came since the last time; what nobody sees waits."""
        if self._streaming and self._dirty and not self._flushing and self.token_text is None:
            await self._flush(last=False)

    async def _flush(self, *, last: bool) -> None:
        self._flushing = True
        try:
            self._dirty = False
            thought, answer = split_reasoning(self._text)
            if not last and THINK_OPEN.startswith(answer.strip()):
                answer = ""
            if len(answer) < self._shown_chars:
                # A closing tag without an opening one turned what was shown as the answer into thinking.
                self._shown_chars = 0
                self._splitter = BlockSplitter()
                await self._document.update("")
            if thought:
                block = self.query_one(ThinkBlock)
                block.display = True
                block.show(thought, done=bool(answer) or last)
            fresh = visible(answer[self._shown_chars :])
            self._shown_chars = len(answer)
            done = self._splitter.push(fresh)
            if last:
                done += self._splitter.flush()
            with self.app.batch_update():
                if done.strip():
                    self._document.display = True
                    await self._document.append(done)
                self._show_tail()
        finally:
            self._flushing = False

    @property
    def _document(self) -> Markdown:
        return cast("Markdown", self.query_one(".done"))

    def _show_tail(self) -> None:
        tail = next(iter(self.query(Tail)), None)
        if tail is None:  # the conversation was left while the last of it was drawn
            return
        if self._streaming and self._status and not self._text:
            tail.show(Content.styled(self._status, "$muted"))
            tail.display = True
            return
        text = self._splitter.tail
        tail.display = self._streaming
        if self._streaming:
            tail.show(tail_content(text, in_fence=self._splitter.in_fence, cursor="▍"))


class NoticeKind(StrEnum):
    """What a notice is about."""

    NOTE = "note"
    """Something to know."""
    PROBLEM = "problem"
    """Something went wrong; the text says what to do."""
    REPORT = "report"
    """What a command gives, as Markdown."""


class Notice(Vertical):
    """A card in the transcript that is no message: a note, a problem or a command's report."""

    TITLES: ClassVar[dict[NoticeKind, str]] = {
        NoticeKind.NOTE: "note",
        NoticeKind.PROBLEM: "! problem",
        NoticeKind.REPORT: "report",
    }

    def __init__(self, text: str, kind: NoticeKind = NoticeKind.NOTE, *, title: str | None = None) -> None:
        super().__init__(classes=f"notice -{kind.value}")
        self._text = text
        self._kind = kind
        self.border_title = Content(title or self.TITLES[kind])

    @property
    def text(self) -> str:
        """What it says."""
        return self._text

    def compose(self) -> ComposeResult:
        if self._kind is NoticeKind.REPORT:
            from tui_chat.ui.widgets.calm_markdown import CalmMarkdown

            yield CalmMarkdown(visible(self._text))
        else:
            yield Static(Content(visible(self._text)))
