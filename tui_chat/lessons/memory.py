"""`memory`: where a loaded model lies, what the KV cache keeps of a token, and what this process takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tui_chat.display.figures import size
from tui_chat.engine.llama import system_facts
from tui_chat.engine.model_types import BYTES_PER_NUMBER
from tui_chat.language import _, n_
from tui_chat.lessons.allocation import MIB, Allocation, Purpose, place, read_log
from tui_chat.lessons.checkpoint import types_table
from tui_chat.lessons.gguf_document import model_parts, tensor_types
from tui_chat.lessons.hardware import MachineMemory, ProcessMemory, machine_memory, process_memory
from tui_chat.lessons.report import Bar, Block, Cell, Column, Facts, Heading, Report, Span, Table, Tone, Words

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import ModelInfo
    from tui_chat.lessons.watch import Watch

_EXACT_BELOW = 100_000
"""Bytes up to which a size is written out."""


def memory(engine: Engine, watch: Watch) -> Report:
    """Weights, KV cache and compute buffers of the loaded model, and the memory of process and machine.

    Args:
        engine: Only looked at.
        watch: Is not needed: nothing is evaluated.

    Raises:
        ModelError: The model's file is gone, or is no whole GGUF file any more.
    """
    info, found = engine.info, read_log(engine.load_log)
    tensors = tensor_types(model_parts(info.path))
    n_tokens = len(engine.context.ids)
    process, machine, devices = process_memory(), machine_memory(), _devices(found)
    return Report(
        title=_("memory"),
        blocks=(
            *_overview(info, found),
            Heading(_("Weights, by how they are stored")),
            types_table(tensors),
            Heading(_("KV cache: what is kept of every token")),
            *(_cache(info, found, n_tokens) if found.bytes_per_token is not None else _no_formula(info, found)),
            Heading(_("Process and machine")),
            Facts(tuple(_machine(process, machine, devices))),
        ),
        document={
            "model": info.name,
            "architecture": info.architecture,
            "n_tokens": n_tokens,
            "n_ctx": info.n_ctx,
            "n_ctx_train": info.n_ctx_train,
            "weights": {"size_bytes": info.size_bytes, "tensors": tensors},
            "buffers": [asdict(buffer) for buffer in found.buffers],
            "kv_cache": _cache_document(info, found, n_tokens),
            "state_bytes": found.size_of(Purpose.STATE),
            "compute_bytes": found.size_of(Purpose.COMPUTE),
            "output_bytes": found.size_of(Purpose.OUTPUT),
            "process": asdict(process),
            "machine": asdict(machine),
            "devices": devices,
        },
    )


def _cache_document(info: ModelInfo, found: Allocation, n_tokens: int) -> dict[str, object]:
    per_token = found.bytes_per_token
    only = found.caches[0] if len(found.caches) == 1 else None
    return {
        "size_bytes": found.size_of(Purpose.CACHE),
        "bytes_per_token": per_token,
        "bytes_per_token_and_layer": per_token // only.n_layers if per_token and only and only.uniform else None,
        "now_bytes": found.cache_bytes(n_tokens, info.n_ctx),
        "full_bytes": found.cache_bytes(info.n_ctx, info.n_ctx),
        "longest_bytes": found.cache_bytes(info.n_ctx_train, info.n_ctx),
        "formula": None if per_token is None else f"{found.formula} = {per_token:,} B",
        "no_formula": _reason(found),
        "caches": [
            {
                **{key: getattr(cache, key) for key in ("cells", "n_layers", "type_k", "type_v", "window")},
                "size_bytes": cache.size_bytes,
                "bytes_per_token": cache.bytes_per_token,
            }
            for cache in found.caches
        ],
    }


# What there is


def _overview(info: ModelInfo, found: Allocation) -> Iterable[Block]:
    names = {
        Purpose.WEIGHTS: _("weights"),
        Purpose.CACHE: _("KV cache"),
        Purpose.STATE: _("recurrent state"),
        Purpose.COMPUTE: _("compute buffers"),
        Purpose.OUTPUT: _("logits"),
    }
    total = found.size_of()
    yield Words(
        _("llama.cpp set {total} aside for {name} and a context of {n_ctx:,} tokens:").format(
            total=size(total), name=info.name, n_ctx=info.n_ctx
        )
    )
    rows: list[tuple[Cell, ...]] = [
        (names[buffer.purpose], place(buffer.device), size(buffer.size_bytes), Bar(buffer.size_bytes / (total or 1)))
        for buffer in found.buffers
    ]
    yield Table((Column(_("what")), Column(_("where"), grows=True), Column(_("size"), "right"), Column()), tuple(rows))
    words = [
        _("The compute buffers hold what is between two layers while up to {n_batch:,} tokens pass at once.").format(
            n_batch=info.n_ubatch
        )
    ]
    if any(buffer.device.endswith("_Mapped") for buffer in found.buffers):
        words.append(
            _("Mapped weights stay in the file until they are read; the system may drop them and read them again.")
        )
    yield Words(" ".join(words), Tone.DIM)


# The KV cache


def _cache(info: ModelInfo, found: Allocation, n_tokens: int) -> Iterable[Block]:
    per_token, caches = found.bytes_per_token or 0, found.caches
    n_layers = sum(cache.n_layers for cache in caches)
    yield Words(
        n_(
            "So that no token is computed twice, {n} layer keeps a key and a value of each. One token takes:",
            "So that no token is computed twice, {n} layers keep a key and a value of each. One token takes:",
            n_layers,
        ).format(n=n_layers)
    )
    in_words = _("layers × (key × bytes + value × bytes)")
    yield Words(f"`{in_words}`\n`{found.formula} = {per_token:,} B`")
    yield from _heads(found.model)
    sizes = [
        (_("one token"), 1, per_token),
        (_("now"), n_tokens, found.cache_bytes(n_tokens, info.n_ctx) or 0),
        (_("this context"), info.n_ctx, found.cache_bytes(info.n_ctx, info.n_ctx) or 0),
    ]
    if info.n_ctx_train > info.n_ctx:
        sizes.append(
            (_("the longest it knows"), info.n_ctx_train, found.cache_bytes(info.n_ctx_train, info.n_ctx) or 0)
        )
    most = max(taken for _label, _n, taken in sizes) or 1
    rows: list[tuple[Cell, ...]] = [(label, f"{n:,}", _size(taken), Bar(taken / most)) for label, n, taken in sizes]
    if len(caches) == 1 and caches[0].uniform:
        rows.insert(0, (_("in one layer"), "1", _size(per_token // n_layers), Bar(0)))
    yield Table((Column(), Column(_("tokens"), "right"), Column(_("KV cache"), "right"), Column()), tuple(rows))
    yield Words(_checked(found), Tone.DIM)
    yield from _windows(info, found)
    yield from _state(found)
    yield from _other_types(info, found)


def _heads(model: Mapping[str, str]) -> Iterable[Block]:
    """How wide a key is, and what sharing it saves, where all layers are alike."""
    figures = [model.get(name, "") for name in ("n_head", "n_head_kv", "n_embd_head_k", "n_embd_k_gqa")]
    if not all(figure.isdecimal() for figure in figures):
        return
    n_head, n_head_kv, head, width = map(int, figures)
    if not n_head_kv or n_head_kv * head != width:
        return
    words = n_(
        "A key has {width} numbers: {n} head of {head}.", "A key has {width} numbers: {n} heads of {head}.", n_head_kv
    ).format(width=width, n=n_head_kv, head=head)
    if n_head > n_head_kv:
        words += " " + _(
            "{n_head} heads of queries share them; with keys for each it would be {ratio:g} times this."
        ).format(n_head=n_head, ratio=n_head / n_head_kv)
    yield Words(words)


def _checked(found: Allocation) -> str:
    """The formula times the cells, beside what was logged."""
    made = " + ".join(f"{cache.cells:,} × {cache.bytes_per_token:,} B" for cache in found.caches)
    told = sum(cache.mib for cache in found.caches)
    total = sum(cache.size_bytes for cache in found.caches)
    return _(
        "All of it was set aside when the context was made, with cells for whole blocks of 256 tokens: "
        "{made} = {total:.2f} MiB. llama.cpp's log says {told:.2f} MiB."
    ).format(made=made, total=total / MIB, told=told)


def _windows(info: ModelInfo, found: Allocation) -> Iterable[Block]:
    windows = [cache for cache in found.caches if cache.window]
    if not windows:
        return
    n_layers, window = sum(cache.n_layers for cache in windows), found.model.get("n_swa", "?")
    words = n_(
        "{n} layer looks back over {window} tokens only (a sliding window).",
        "{n} layers look back over {window} tokens only (a sliding window).",
        n_layers,
    ).format(n=n_layers, window=f"{int(window):,}" if window.isdecimal() else window)
    if all(cache.cells >= info.n_ctx for cache in windows):
        more = _("llama.cpp keeps the whole context of them all the same, so that a conversation can be taken back.")
    else:
        more = _("Their cache does not grow beyond {cells:,} tokens.").format(cells=max(c.cells for c in windows))
    yield Words(f"{words} {more}")


def _state(found: Allocation) -> Iterable[Block]:
    if found.recurrent:
        yield Words(
            _("The other layers are recurrent: they keep a state of {size}, however long the text is.").format(
                size=_state_size(found)
            )
        )


def _state_size(found: Allocation) -> str:
    """As llama.cpp logs it, which is all that is known."""
    mib = found.size_of(Purpose.STATE) / MIB
    return f"{mib:.2f} MiB" if mib else _("less than 0.01 MiB")


def _other_types(info: ModelInfo, found: Allocation) -> Iterable[Block]:
    """What the cache would take in each type it can be stored in."""
    blocks_fit = all(found.model.get(f"n_embd_head_{kind}", "").isdecimal() for kind in "kv") and all(
        int(found.model[f"n_embd_head_{kind}"]) % 32 == 0 for kind in "kv"
    )
    n_numbers = sum((cache.n_k or 0) + (cache.n_v or 0) for cache in found.caches)
    places = sum(cache.cells * ((cache.n_k or 0) + (cache.n_v or 0)) for cache in found.caches)
    rows: list[tuple[Cell, ...]] = []
    for name, each in BYTES_PER_NUMBER.items():
        if name == "q8_0" and not blocks_fit:
            continue
        present = info.type_k == info.type_v == name
        rows.append(
            (
                Span(name, Tone.STRONG if present else Tone.PLAIN),
                f"{each:g}",
                _size(round(n_numbers * each)),
                _size(round(places * each)),
                _("now") if present else f"--kv-type {name}",
            )
        )
    yield Table(
        (
            Column(_("stored as")),
            Column(_("bytes each"), "right"),
            Column(_("a token"), "right"),
            Column(_("cache"), "right"),
            Column(),
        ),
        tuple(rows),
    )


def _reason(found: Allocation) -> str | None:
    """Why no formula is shown, in a word for machines; None where one is."""
    if found.bytes_per_token is not None:
        return None
    if not found.caches:
        return "recurrent" if found.recurrent else "not logged"
    return "latent attention" if "n_embd_head_k_mla" in found.model else "layers differ"


def _no_formula(info: ModelInfo, found: Allocation) -> Iterable[Block]:
    """What was allocated where layers × (key + value) is not it, and why it is not."""
    reason = _reason(found)
    if reason == "recurrent":
        words = _(
            "There is none: the layers of {architecture} are recurrent. They keep a state of {size} that does not grow "
            "with the text, so nothing is kept of a single token and there is no formula for it."
        ).format(architecture=info.architecture, size=_state_size(found))
    elif reason == "not logged":
        words = _("llama.cpp logged nothing of a KV cache for this model, so nothing can be said of it.")
    else:
        words = _("No formula is shown: layers × (key + value) is not what llama.cpp set aside for {architecture}.")
        words = words.format(architecture=info.architecture) + " "
        words += (
            _("This model keeps one compressed vector of a token in place of its keys and values (latent attention).")
            if reason == "latent attention"
            else _("Its layers differ, or keep something else than a key and a value.")
        )
    yield Words(words)
    if not found.caches:
        return
    yield Table(
        (
            Column(_("cells"), "right"),
            Column(_("layers"), "right"),
            Column(_("keys"), "right"),
            Column(_("values"), "right"),
            Column(_("about, for a token"), "right"),
        ),
        tuple(
            (
                f"{cache.cells:,}",
                str(cache.n_layers),
                f"{cache.k_mib:.2f} MiB {cache.type_k}",
                f"{cache.v_mib:.2f} MiB {cache.type_v}",
                size(cache.size_bytes / cache.cells) if cache.cells else "",
            )
            for cache in found.caches
        ),
    )
    yield from _windows(info, found)
    yield from _state(found)


def _size(size_bytes: int) -> str:
    return f"{size_bytes:,} B" if size_bytes < _EXACT_BELOW else size(size_bytes)


# Process and machine


def _devices(found: Allocation) -> list[dict[str, Any]]:
    """The devices with a memory of their own, and how much of it the model's buffers take."""
    devices: Any = system_facts()["devices"]
    return [
        {
            "name": device["name"],
            "description": device["description"],
            "memory_total": device["memory_total"],
            "memory_free": device["memory_free"],
            "model_bytes": sum(
                buffer.size_bytes
                for buffer in found.buffers
                if buffer.device in (device["name"], f"{device['name']}_Mapped", f"{device['name']}_Private")
            ),
        }
        for device in devices
        if device["type"] not in ("CPU", "accelerator") and device["memory_total"]
    ]


def _machine(
    process: ProcessMemory, machine: MachineMemory, devices: Sequence[Mapping[str, Any]]
) -> Iterable[tuple[str, str]]:
    if process.resident is not None and process.own is not None and process.mapped is not None:
        now = _("{now} in memory: {own} of its own, {mapped} of files").format(
            now=size(process.resident), own=size(process.own), mapped=size(process.mapped)
        )
    else:
        now = _("this system does not tell")
    yield _("this process"), now
    if process.peak is not None:
        yield _("at most so far"), size(process.peak)
    if machine.total is not None:
        free = "" if machine.available is None else _(", {free} to be had").format(free=size(machine.available))
        yield _("main memory"), size(machine.total) + free
    for device in devices:
        yield (
            device["name"],
            _("{description}: {total}, {free} free, {model} taken by the model").format(
                description=device["description"],
                total=size(device["memory_total"]),
                free=size(device["memory_free"]),
                model=size(device["model_bytes"]),
            ),
        )
    if not devices:
        yield _("GPU memory"), _("none: this build sees no GPU")
