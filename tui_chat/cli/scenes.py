"""What a command shows its demonstration on: the settings, and a text of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_chat.errors import UsageError
from tui_chat.language import N_, _

if TYPE_CHECKING:
    from tui_chat.config import Settings
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.scene import Scene

DEFAULT_QUESTION = N_("What is a token?")
"""Asked where the command line asks nothing."""


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


def question_ids(engine: Engine, settings: Settings, text: str, *, chat: bool) -> tuple[int, ...]:
    """The prompt of a text, through the chat template or as it stands.

    Raises:
        UsageError: The text is empty.
        TemplateError: The template refuses the message.
    """
    if chat:
        return scene_of(engine, settings, text).prompt(engine).ids
    if not text:
        raise UsageError(_("the prompt is empty: give some text to continue"))
    return tuple(engine.vocab.tokenize(text, add_special=True, parse_special=True))
