"""`checkpoint`: what the loaded file says of itself; `tui-chat info` says the same of any file or checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tui_chat.display.figures import parameters, size
from tui_chat.display.training_facts import training_facts
from tui_chat.language import _
from tui_chat.lessons.report import Bar, Block, Cell, Column, Facts, Heading, Report, Span, Table, Tone, Verbatim, Words

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.lessons.watch import Watch

Document = Mapping[str, Any]

_TEMPLATE_LINES, _TEMPLATE_SHOWN = 12, 480

_FIGURES = frozenset(
    {
        "kind",
        "step",
        "steps",
        "n_steps",
        "tokens",
        "n_tokens",
        "loss",
        "train_loss",
        "validation_loss",
        "best_validation_loss",
        "perplexity",
        "created",
        "corpus",
        "corpus_sha256",
        "seed",
        "seconds",
        "tokens_per_s",
        "tokens_per_second",
        "gradient_norm",
        "longest_row",
        "row_lengths",
    }
)
"""What a training came to, in the words of checkpoints and of the files made from them; the rest are its settings."""


def checkpoint(engine: Engine, watch: Watch) -> Report:
    """What the loaded model's file says of itself.

    Args:
        engine: Has the model; only its file is read.
        watch: Is not needed: a header is read at once.

    Raises:
        ModelFileError: The file was changed since it was loaded, and is no whole GGUF file any more.
        ModelNotFoundError: The file is gone.
    """
    from tui_chat.lessons.gguf_document import gguf_document

    return file_report(gguf_document(engine.info.path))


def file_report(document: Document) -> Report:
    """The report of a document that `gguf_document` or `described_checkpoint` made."""
    return Report(_("checkpoint"), tuple(_blocks(document)), document)


def types_table(entries: Sequence[Document]) -> Table:
    """Tensors by the type they are stored in, with the share of the bytes each type takes."""
    total = sum(entry["size_bytes"] for entry in entries) or 1
    return Table(
        (
            Column(_("stored as"), grows=True),
            Column(_("tensors"), "right"),
            Column(_("numbers"), "right"),
            Column(_("bits each"), "right"),
            Column(_("size"), "right"),
            Column(),
        ),
        tuple(
            (
                Span(entry["type"], Tone.STRONG),
                f"{entry['count']:,}",
                f"{entry['n_parameters']:,}",
                f"{entry['size_bytes'] * 8 / entry['n_parameters']:.4g}" if entry["n_parameters"] else "",
                size(entry["size_bytes"]),
                Bar(entry["size_bytes"] / total),
            )
            for entry in entries
        ),
    )


def _blocks(document: Document) -> Iterable[Block]:
    yield Heading(document["name"])
    yield Facts(tuple(_about(document)))
    yield Heading(_("tensors"))
    yield types_table(document["tensors"])
    yield Heading(_("tokenizer"))
    yield from _tokenizer(document["tokenizer"])
    yield Heading(_("chat template"))
    yield from _template(document["chat_template"])
    yield Heading(_("training"))
    yield from _training(document["training"])


def _about(document: Document) -> Iterable[tuple[str, str]]:
    labels = {
        "layers": _("layers"),
        "width": _("width"),
        "heads": _("heads"),
        "kv_heads": _("key/value heads"),
        "ffn": _("feed-forward width"),
        "context": _("context"),
        "vocab": _("vocabulary"),
    }
    yield _("file"), document["path"]
    if parts := document.get("parts"):
        yield _("parts"), _("{present} of {of} are here").format(**parts)
    yield _("size"), size(document["size_bytes"])
    yield _("parameters"), f"{parameters(document['n_parameters'])} ({document['n_parameters']:,})"
    yield _("architecture"), document["architecture"] or _("none named")
    for name, value in document["sizes"].items():
        yield labels.get(name, name), f"{value:,}"
    if "positions" in document:
        yield _("positions"), str(document["positions"])
    if "tied" in document:
        yield _("output matrix"), _("is the embedding") if document["tied"] else _("of its own")


def _tokenizer(tokenizer: Document) -> Iterable[Block]:
    kind = " · ".join(filter(None, (tokenizer["model"], tokenizer["pre"])))
    n_merges = tokenizer["n_merges"]
    yield Facts(
        (
            (_("kind"), kind or _("none named")),
            (_("tokens"), f"{tokenizer['n_tokens']:,}"),
            (_("merges"), f"{n_merges:,}" if n_merges else _("none")),
        )
    )
    if not tokenizer["special"]:
        yield Words(_("The file names no special tokens."), Tone.DIM)
        return
    rows: list[tuple[Cell, ...]] = []
    for name, entry in tokenizer["special"].items():
        text = Span(_("not in the vocabulary"), Tone.WARN) if entry["text"] is None else entry["text"]
        rows.append((name, str(entry["id"]), text if isinstance(text, Span) else Span(text, Tone.CONTROL)))
    yield Table((Column(_("special")), Column("id", "right"), Column(_("token"), grows=True)), tuple(rows))


def _template(template: str | None) -> Iterable[Block]:
    if not template:
        yield Words(_("none: the model was not made for conversations, or the file does not tell how"), Tone.DIM)
        return
    shown = "\n".join(template.splitlines()[:_TEMPLATE_LINES])[:_TEMPLATE_SHOWN]
    yield Verbatim((Span(shown),))
    if len(shown) < len(template.rstrip()):
        yield Words(
            _("These are the first {shown:,} of {n:,} characters.").format(shown=len(shown), n=len(template)), Tone.DIM
        )


def _training(training: Document | None) -> Iterable[Block]:
    if not training:
        yield Words(_("The file does not tell how it was trained."), Tone.DIM)
        return
    facts = dict(training_facts(training))
    if figures := [(name.replace("_", " "), facts.pop(name)) for name in tuple(facts) if name in _FIGURES]:
        yield Facts(tuple(figures))
    if facts:
        settings = facts.pop("settings", "")
        rest = (f"{name.replace('_', ' ')} {text}" for name, text in facts.items())
        yield Words(_("Settings: {all}").format(all=" · ".join(filter(None, (settings, *rest)))), Tone.DIM)
