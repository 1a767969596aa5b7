"""`/tokens-demo`: the pieces the loaded model reads a text in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.commands.groups import LESSONS
from tui_chat.commands.parsing import Invocation
from tui_chat.commands.registry import Argument, Command, CommandContext
from tui_chat.errors import UsageError
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.watch import Watch


def commands() -> tuple[Command, ...]:
    """All commands of this module."""
    return (
        Command(
            name="tokens-demo",
            group=LESSONS,
            summary=N_("Show the tokens of a text, and how a word is put together"),
            run=_tokens,
            arguments=(Argument("text", N_("a text, or the path of a document to count"), rest=True),),
            details=N_(
                "The model reads no letters but tokens: ids of the pieces in its vocabulary. Without a text, those "
                "of the last message. Look at the spaces (·), which belong to the word behind them, and at rare words, "
                "which take more pieces."
            ),
            examples=(
                ("/tokens-demo", N_("the last message")),
                ("/tokens-demo unbelievable", N_("a word and the merges that put it together")),
                ("/tokens-demo a naïve 👍 <|im_end|>", N_("bytes of characters, and a control token")),
            ),
        ),
    )


def _tokens(context: CommandContext, invocation: Invocation) -> None:
    text, messages = invocation.text(), context.scene().messages
    said = "" if text or not messages else messages[-1].text
    if not text and not said:
        raise UsageError(_("nothing was said yet: give a text, as in /tokens-demo unbelievable"))

    def lesson(engine: Engine, watch: Watch) -> Report:
        from tui_chat.engine.gguf import read_header
        from tui_chat.lessons.tokens import tokens, tokens_of

        header = read_header(engine.info.path)
        if said:
            return tokens(engine.vocab, header, watch, [said])
        return tokens_of(engine.vocab, header, watch, text)

    context.report(f"/{invocation.name} {invocation.rest}".rstrip(), lesson)
