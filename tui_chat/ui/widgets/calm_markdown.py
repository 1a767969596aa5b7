"""Markdown of answers and reports in which nothing acts.

Imported when the first of it is shown: the parser and the highlighter take a good part of the time to the first frame.
"""

from __future__ import annotations

from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import box
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.content import Content
from textual.highlight import highlight
from textual.widget import Widget
from textual.widgets._markdown import MarkdownTable
from textual.widgets.markdown import Markdown, MarkdownBlock, MarkdownFence

from tui_chat.ui.settled import Settled

MAX_HIGHLIGHTED_CHARS = 20_000
"""Longer code stays plain."""


class InertMarkdown(MarkdownIt):
    """CommonMark with tables, without anything that acts: no links, images, HTML or entities; those stay text.

    A line end inside a paragraph breaks the line, as people expect in a chat.
    """

    def __init__(self) -> None:
        super().__init__("commonmark")
        self.enable(["table", "strikethrough"])
        self.disable(["link", "image", "autolink", "html_inline", "html_block", "entity", "reference"])

    def parse(self, src: str, env: Any = None) -> list[Token]:
        tokens = super().parse(src, env)
        for token in tokens:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"
        return tokens


class PlainFence(MarkdownFence):
    """A code block that is coloured only if its language is named; guessing costs more than it gives."""

    @classmethod
    def highlight(cls, code: str, language: str, ansi: bool = False, dark: bool = False) -> Content:
        name = language.split()[0] if language.strip() else ""
        if not name or len(code) > MAX_HIGHLIGHTED_CHARS:
            return Content(code)
        return highlight(code, language=name)


class TableView(Widget):
    """A table as one widget; Textual's own makes a widget of every cell and reads its text as markup for a tooltip."""

    DEFAULT_CSS = """
    TableView { width: 1fr; height: auto; }
    """

    def __init__(self, headers: list[Content], rows: list[list[Content]]) -> None:
        super().__init__()
        self._headers = headers
        self._rows = rows

    def render(self) -> Table:
        variables = self.app.theme_variables
        table = Table(box=box.SIMPLE_HEAD, border_style=variables["line"], pad_edge=False, show_edge=False)
        for header in self._headers:
            table.add_column(self._text(header), header_style=f"bold {variables['primary']}", overflow="fold")
        for row in self._rows:
            table.add_row(*(self._text(cell) for cell in row))
        return table

    def _text(self, content: Content) -> Text:
        styles = {".strong": "bold", ".em": "italic", ".code_inline": self.app.theme_variables["code"]}
        text = Text(content.plain)
        for start, end, style in content.spans:
            text.stylize(styles.get(str(style), ""), start, end)
        return text


class PlainTable(MarkdownTable):
    """A table drawn by `TableView`."""

    def compose(self) -> ComposeResult:
        yield TableView(*self._get_headers_and_rows())


class CalmMarkdown(Settled, Markdown):
    """Markdown in which nothing can be clicked."""

    BLOCKS: dict[str, type[MarkdownBlock]] = {
        **Markdown.BLOCKS,
        "fence": PlainFence,
        "code_block": PlainFence,
        "table_open": PlainTable,
    }

    def __init__(self, text: str = "", *, classes: str | None = None) -> None:
        super().__init__(text, classes=classes, parser_factory=InertMarkdown, open_links=False)
