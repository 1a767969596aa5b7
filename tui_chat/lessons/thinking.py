"""What switching thinking does to the prompt: the same messages with it on, off, and left to the template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_chat.config import THINKING_STATES
from tui_chat.language import _, n_
from tui_chat.lessons.report import Block, Lane, Lanes, Report, Tone, Verbatim, Words
from tui_chat.lessons.template import Laid, example, switches_thinking

if TYPE_CHECKING:
    from tui_chat.chat.prompt import Prompt
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.scene import Scene


def thinking(engine: Engine, scene: Scene) -> Report:
    """The prompt of the last message, and of the system text before it, in all three states.

    Args:
        engine: The loaded model.
        scene: The conversation; an example where nothing was said.

    Raises:
        TemplateError: The template refuses the messages or fails.
    """
    builder = replace(scene.builder(engine), prefill="")
    said = scene.unanswered().messages or example()[:2]
    messages = (*(message for message in said[:1] if message is not said[-1] and message.role == "system"), said[-1])
    prompts = {word: replace(builder, enable_thinking=state).build(messages) for word, state in THINKING_STATES.items()}
    switches = switches_thinking(builder, messages)
    name = builder.template.origin.name

    def lanes() -> Iterator[Lane]:
        for word, prompt in prompts.items():
            places = replace(builder, enable_thinking=THINKING_STATES[word]).places(prompt)
            title = _("{state} (now)").format(state=word) if THINKING_STATES[word] is scene.enable_thinking else word
            size = n_("{n} token", "{n} tokens", len(prompt.ids)).format(n=f"{len(prompt.ids):,}")
            yield Lane(f"{title} · {size}", (_verbatim(engine, prompt, places),))

    blocks: list[Block]
    if switches:
        blocks = [
            Words(
                _(
                    "The template of {origin} makes another prompt of the same messages with thinking on and with it "
                    "off. That difference is all there is to the switch: the model was trained to go on from the one "
                    "with thinking, and from the other without."
                ).format(origin=name)
            ),
            Lanes(tuple(lanes())),
        ]
    else:
        blocks = [
            Words(
                _(
                    "The template of {origin} does not switch thinking: on and off make the same prompt, so `/think` "
                    "changes nothing with this model. If it was trained to think between `<think>` and `</think>`, "
                    "`/prefill <think>` opens such a block by hand."
                ).format(origin=name),
                Tone.WARN,
            ),
            _verbatim(engine, prompts["auto"], builder.places(prompts["auto"])),
        ]
    return Report(
        title=_("thinking"),
        blocks=blocks,
        document={
            "model": engine.info.name,
            "enable_thinking": scene.enable_thinking,
            "switches_thinking": switches,
            "prompts": {word: {"text": prompt.text, "ids": list(prompt.ids)} for word, prompt in prompts.items()},
        },
    )


def _verbatim(engine: Engine, prompt: Prompt, places: Sequence[tuple[int, int] | None]) -> Verbatim:
    return Verbatim(tuple(Laid(prompt, places, engine.vocab).spans()))
