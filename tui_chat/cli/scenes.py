"""What a command shows its demonstration on: the settings, and a text of the command line."""

from __future__ import annotations

import os
import select
import stat
import sys
from typing import TYPE_CHECKING

from tui_chat.errors import UsageError
from tui_chat.language import _

if TYPE_CHECKING:
    from tui_chat.config import Settings
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.excerpt import Excerpt
    from tui_chat.lessons.scene import Scene


PIPE_WAIT_S = 1.0
"""How long an open pipe may be silent before it counts as empty."""


def default_question() -> str:
    """Asked where the command line asks nothing."""
    from tui_chat.lessons.scene import EXAMPLE_QUESTION

    return _(EXAMPLE_QUESTION)


def piped_text() -> str | None:
    """What is piped into standard input, without the line end behind it; None where nothing is.

    A pipe on which nothing comes for a second counts as nothing: programs that start others often leave one open.

    Raises:
        UsageError: It is no UTF-8 text.
    """
    from tui_chat.lessons.reading import blocks

    try:
        file = sys.stdin.fileno()
        mode = os.fstat(file).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or not of the system
        return None
    if not stat.S_ISREG(mode) and not (stat.S_ISFIFO(mode) and select.select([file], [], [], PIPE_WAIT_S)[0]):
        return None
    text = "".join(blocks(sys.stdin.buffer, _("standard input")))
    return text.removesuffix("\n").removesuffix("\r") or None


def scene_of(engine: Engine, settings: Settings, text: str, *, seed: int = 0) -> Scene:
    """One message, answered with the configured settings.

    Raises:
        UsageError: The message is empty.
        SamplingError: The settings do not hold for this model.
    """
    from tui_chat.lessons.scene import Scene

    if not text.strip():
        raise UsageError(_("the prompt is empty: give some text"))
    inference = settings.inference
    scene = Scene(
        params=inference.sampling_params(inference.seed if inference.seed is not None else seed, engine.vocab.resolve),
        limits=inference.limits(),
        configured_template=settings.tokenizer.chat_template,
        enable_thinking=inference.enable_thinking,
    )
    return scene.asking(text, inference.system)


def question_ids(
    engine: Engine, settings: Settings, text: str, *, chat: bool
) -> tuple[tuple[int, ...], Excerpt | None]:
    """The prompt of a text, through the chat template or as it stands, and which part of a text that is too long.

    Raises:
        UsageError: The text is empty.
        PromptTooLongError: The configured system text alone does not fit into the context.
        TemplateError: The template refuses the message.
    """
    from tui_chat.lessons.excerpt import end_of_text, part_of_message

    if chat:
        scene, used = part_of_message(engine, scene_of(engine, settings, text), reserve=1)
        return scene.prompt(engine).ids, used
    if not text:
        raise UsageError(_("the prompt is empty: give some text to continue"))
    return end_of_text(engine, text)
