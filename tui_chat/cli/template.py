"""`tui-chat template`: the exact prompt the model sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui_chat.cli.inference import find_model
from tui_chat.cli.lessons import show
from tui_chat.cli.options import Command, config_option, current_settings, json_option, llm_options, model_option
from tui_chat.errors import UsageError
from tui_chat.language import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui_chat.chat.conversation import Message
    from tui_chat.chat.splice import PromptVocabulary
    from tui_chat.chat.template import ChatTemplate
    from tui_chat.engine.gguf import GgufHeader
    from tui_chat.lessons.report import Report
    from tui_chat.lessons.template import Reader


@click.command("template", cls=Command)
@click.option("--file", metavar="T.jinja", type=click.Path(path_type=Path), help="A template instead of the model's.")
@click.option(
    "--messages",
    "messages_file",
    metavar="M.json",
    help='The conversation: a JSON list of {"role": …, "content": …}; "-" reads standard input. Default: an example.',
)
@click.option("--bos", metavar="TEXT", help="What the template is told of the token a prompt begins with.")
@click.option("--eos", metavar="TEXT", help="What the template is told of the token an answer ends with.")
@click.option("--no-generation-prompt", is_flag=True, help="Do not open the assistant's turn at the end.")
@click.option("--think", type=click.Choice(["on", "off"]), help="Switch thinking, where the template can.")
@json_option
@model_option
@config_option
@llm_options
def command(
    file: Path | None,
    messages_file: str | None,
    bos: str | None,
    eos: str | None,
    no_generation_prompt: bool,
    think: str | None,
    as_json: bool,
    model: str | None,
) -> None:
    """Show the exact prompt that a conversation becomes, with its control tokens, and where each message begins.

    The weights of the model are not loaded. With --file, --bos and --eos and without --model no model is looked at at
    all: there is the text, but there are no tokens.
    """
    loaded = current_settings()
    messages = _read_messages(messages_file) if messages_file is not None else ()
    chat_template = _read_template(file) if file is not None else None
    thinking = {"on": True, "off": False, None: loaded.settings.inference.enable_thinking}[think]

    def report(reader: Reader | None, vocab: PromptVocabulary, chat_template: ChatTemplate) -> Report:
        from tui_chat.chat.prompt import PromptBuilder
        from tui_chat.lessons.scene import Scene
        from tui_chat.lessons.template import template

        builder = PromptBuilder(
            vocab,
            chat_template,
            add_generation_prompt=not no_generation_prompt,
            enable_thinking=thinking,
            bos_token=bos,
            eos_token=eos,
        )
        return template(reader, builder, Scene(messages=messages))

    if chat_template is not None and bos is not None and eos is not None and model is None:
        from tui_chat.lessons.template import NoVocabulary

        show(report(None, NoVocabulary(), chat_template), as_json=as_json)
        return
    from tui_chat.chat.template import choose_template
    from tui_chat.engine.vocabulary import open_vocabulary
    from tui_chat.lessons.template import Reader

    settings = loaded.settings
    with open_vocabulary(find_model(loaded, model)) as (vocab, header):
        own = header.text("tokenizer.chat_template")
        chosen = chat_template or choose_template(settings.tokenizer.chat_template, own, header.name)
        made = report(Reader(header.name, vocab, _room(header, settings.llm.n_ctx)), vocab, chosen)
    show(made, as_json=as_json)


def _room(header: GgufHeader, configured: int | None) -> int | None:
    """Tokens of a prompt there is room for: as many as are configured, and never more than the model was trained on."""
    trained = header.integer(f"{header.architecture}.context_length")
    return min((n for n in (configured, trained) if n), default=None)


def _read_template(path: Path) -> ChatTemplate:
    from tui_chat.chat.template import ChatTemplate, TemplateOrigin

    return ChatTemplate(_read(str(path)), TemplateOrigin("settings", str(path)))


def _read_messages(path: str) -> Sequence[Message]:
    """The messages in a file.

    Raises:
        UsageError: It cannot be read, or holds something else; says what and where.
    """
    from tui_chat.chat.conversation import Conversation, Role

    where = _("standard input") if path == "-" else path
    try:
        entries = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise UsageError(
            _("{where} is not JSON: line {line}, column {column}: {reason}").format(
                where=where, line=error.lineno, column=error.colno, reason=error.msg
            )
        ) from error
    except RecursionError as error:
        raise UsageError(_("{where} is nested too deeply for a list of messages").format(where=where)) from error
    if not isinstance(entries, list) or not entries:
        raise UsageError(
            _('{where} must hold a list of messages, such as [{{"role": "user", "content": "Hi"}}]').format(where=where)
        )
    conversation = Conversation()
    roles = [role.value for role in Role]
    for number, entry in enumerate(entries, start=1):
        role, content = (entry.get("role"), entry.get("content")) if isinstance(entry, dict) else (None, None)
        if role not in roles or not isinstance(content, str):
            raise UsageError(
                _('message {number} in {where} must have a "role" ({roles}) and a "content" that is text').format(
                    number=number, where=where, roles=", ".join(roles)
                )
            )
        if others := sorted(entry.keys() - {"role", "content"}):
            raise UsageError(
                _('message {number} in {where} has "{other}": a message here has a role and a content only').format(
                    number=number, where=where, other=others[0]
                )
            )
        conversation.append(Role(role), content)
    return conversation.path


def _read(path: str) -> str:
    """The text of a file, or of standard input for "-".

    Raises:
        UsageError: It cannot be read, or is not text.
    """
    from tui_chat.lessons.reading import blocks, opened

    if path == "-":
        return "".join(blocks(sys.stdin.buffer, _("standard input"))).removeprefix("\ufeff")
    with opened(path) as file:
        return "".join(blocks(file, path)).removeprefix("\ufeff")
