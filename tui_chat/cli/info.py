"""`tui-chat info`: what a model file or a checkpoint says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tui_chat.cli.options import Command, config_option, current_settings, json_option
from tui_chat.cli.program import one_line, terminal_width
from tui_chat.display.cells import hanging
from tui_chat.display.figures import parameters, size
from tui_chat.display.training_facts import training_facts
from tui_chat.lessons.documents import dump

Document = dict[str, Any]

_TEMPLATE_SHOWN = 200


@click.command("info", cls=Command)
@click.argument("model")
@config_option
@json_option
def command(model: str, as_json: bool) -> None:
    """Show what MODEL says of itself: sizes, storage types, tokenizer, template, and how it was trained.

    MODEL is a GGUF file, REPO:FILE in the cache of the Hub, 'builtin', or a checkpoint: 'best', 'latest', the name of
    a training, NAME/step-N, or a folder.
    """
    from tui_chat.checkpoints.runs import seek_checkpoint

    facts = None if _is_file(model) else seek_checkpoint(model)
    if facts is None:
        document = _of_file(model)
    else:
        from tui_chat.cli.checkpoint_documents import described_checkpoint

        document = described_checkpoint(facts)
    click.echo(dump(document) if as_json else "\n".join(_describe(document)))


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def _of_file(model: str) -> Document:
    from tui_chat.cli.gguf_document import gguf_document
    from tui_chat.cli.inference import find_model

    return gguf_document(find_model(current_settings(), model, offline=True))


def _describe(document: Document) -> Iterator[str]:
    about = {
        "file": document["path"],
        "size": f"{size(document['size_bytes'])}, {parameters(document['n_parameters'])} parameters",
        "architecture": document["architecture"],
        **{_WORDS.get(name, name): f"{value:,}" for name, value in document["sizes"].items()},
        **{name: document[name] for name in ("positions", "tied") if name in document},
    }
    yield from _section(document["name"], about)
    yield from _section("tensors", {entry["type"]: _tensors(entry) for entry in document["tensors"]})
    tokenizer = document["tokenizer"]
    special = ", ".join(f"{name} {entry['id']} {entry['text']}" for name, entry in tokenizer["special"].items())
    yield from _section(
        "tokenizer",
        {
            "kind": " ".join(filter(None, (tokenizer["model"], tokenizer["pre"]))) or "none named",
            "tokens": f"{tokenizer['n_tokens']:,}, {tokenizer['n_merges']:,} merges",
            "special": special or "none named",
            "template": _shortened(document["chat_template"]),
        },
    )
    training = document["training"]
    yield from _section("training", _training_rows(training) if training else {"facts": "none in the file"})


_WORDS = {"kv_heads": "key/value heads", "ffn": "feed-forward width", "vocab": "vocabulary"}


def _tensors(entry: Document) -> str:
    return f"{entry['count']} tensors, {entry['n_parameters']:,} numbers, {size(entry['size_bytes'])}"


def _training_rows(training: Mapping[str, Any]) -> dict[str, object]:
    return {name.replace("_", " "): text for name, text in training_facts(training)}


def _shortened(template: str | None) -> str:
    if not template:
        return "none"
    text = " ".join(template.split())
    return text if len(text) <= _TEMPLATE_SHOWN else f"{text[:_TEMPLATE_SHOWN]}… ({len(template):,} characters)"


def _section(title: str, rows: Mapping[str, object]) -> Iterator[str]:
    yield click.style(one_line(title), bold=True)
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        yield from hanging(f"  {one_line(name):<{width}}  ", one_line(str(value)), terminal_width())
