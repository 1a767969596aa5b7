"""The chat templates that are stored in exported models."""

from __future__ import annotations

CHAT_TEMPLATE = (
    "{%- set think = enable_thinking is defined and enable_thinking -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + ('\\nThink first.' if think else '') + '<|im_end|>\\n' -}}"
    "{%- elif think -%}"
    "{{- '<|im_start|>system\\nThink first.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if not (loop.first and message['role'] == 'system') -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and not enable_thinking -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
)
"""ChatML, for a model of the kind "chat".

`enable_thinking` unset leaves the choice to the model, true asks for a think block in the system prompt, false puts an
empty one before the answer.
"""

TEXT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] != 'system' -%}"
    "{{- message['content'] -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""For a model of the kind "text": what was said, joined, so that an answer goes on where the text stops."""


def template_of(kind: str) -> str:
    """The template of a model of the kind "chat" or "text"."""
    return CHAT_TEMPLATE if kind == "chat" else TEXT_TEMPLATE
