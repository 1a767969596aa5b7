"""`kernels`: what computes: backends, devices, CPU features and settings of the loaded model, and other builds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_chat.display.figures import size
from tui_chat.engine.llama import system_facts
from tui_chat.language import _, n_
from tui_chat.lessons.allocation import Purpose, logged, place, read_log
from tui_chat.lessons.builds import (
    BUILDS,
    NATIVE,
    Build,
    Feature,
    backends_in,
    build_command,
    cpu_features,
    features_by_backend,
)
from tui_chat.lessons.hardware import cpu_flags, graphics_drivers
from tui_chat.lessons.report import Block, Cell, Column, Facts, Heading, Report, Span, Table, Tone, Words

if TYPE_CHECKING:
    from tui_chat.engine.engine import Engine
    from tui_chat.engine.types import ModelInfo
    from tui_chat.lessons.watch import Watch

Document = dict[str, Any]


def kernels(engine: Engine, watch: Watch) -> Report:
    """What the loaded model is computed by.

    Args:
        engine: Only looked at.
        watch: Is not needed: nothing is evaluated.
    """
    info, log, facts = engine.info, engine.load_log, system_facts()
    library, version = Path(str(facts["library"])), str(facts["llama_cpp_python"])
    by_backend = features_by_backend(str(facts["system_info"]))
    features = tuple(cpu_features(tuple(by_backend.pop("CPU", {})), cpu_flags()))
    backends, drivers = backends_in(library), graphics_drivers()
    unused = [feature.name for feature in features if feature.in_cpu and not feature.built]
    builds = [_build(build, version, backends, drivers) for build in (*BUILDS, *([NATIVE] if unused else []))]
    # ggml gives a CPU's whole memory as free.
    seen: Any = facts["devices"]
    devices = [{**device, **({"memory_free": None} if device["type"] == "CPU" else {})} for device in seen]
    n_nodes, n_splits = (
        None if (found := logged(log, pattern)) is None else int(found)
        for pattern in (r"graph:? nodes += +(\d+)", r"splits += +(\d+)")
    )
    allocation = read_log(log)
    n_experts, n_used = (int(allocation.model.get(name, 0)) for name in ("n_expert", "n_expert_used"))
    document: Document = {
        "model": info.name,
        "description": info.description,
        "llama_cpp_python": version,
        "llama_cpp_build": facts["llama_cpp_build"],
        "library": str(library),
        "backends": sorted(backends),
        "devices": devices,
        "supports_gpu_offload": facts["supports_gpu_offload"],
        "n_gpu_layers": info.n_gpu_layers,
        "n_offloadable": int(logged(log, r"offloaded \d+/(\d+) layers") or info.n_layer + 1),
        "weights": [
            {"device": buffer.device, "size_bytes": buffer.size_bytes}
            for buffer in allocation.buffers
            if buffer.purpose is Purpose.WEIGHTS
        ],
        "features": [asdict(feature) for feature in features],
        "gpu_features": by_backend,
        "unused_features": unused,
        "flash_attn": info.flash_attn,
        "type_k": info.type_k,
        "type_v": info.type_v,
        "n_threads": info.n_threads,
        "n_cpus": os.cpu_count(),
        "n_batch": info.n_batch,
        "n_ubatch": info.n_ubatch,
        "graph": {"nodes": n_nodes, "splits": n_splits},
        "experts": {"n": n_experts, "used": n_used} if n_experts else None,
        "builds": builds,
    }
    return Report(_("kernels"), tuple(_blocks(info, document, features)), document)


def _build(build: Build, version: str, backends: frozenset[str], drivers: frozenset[str]) -> Document:
    return {
        "backend": build.backend,
        "name": build.name,
        "gives": build.gives,
        "cmake_args": build.cmake_args,
        "command": build_command(build.cmake_args, version),
        "built": build.backend in backends,
        "present": None if build.driver is None else build.driver in drivers,
    }


def _blocks(info: ModelInfo, document: Document, features: Sequence[Feature]) -> Iterable[Block]:
    yield Facts(tuple(_settings(info, document)))
    yield Heading(_("Devices"))
    yield _devices(document["devices"])
    yield Heading(_("What the code for the CPU uses"))
    yield _features(features)
    yield from _left_out(features)
    for backend, values in document["gpu_features"].items():
        yield Facts(((backend, " · ".join(f"{name} {value}" for name, value in values.items())),))
    yield Heading(_("Other builds"))
    yield Words(_reading(info, document["experts"]))
    yield Facts(tuple((_(build["name"]), _build_words(build)) for build in document["builds"]))
    yield Words(
        _("A build takes minutes and needs the toolkit of its backend. The program finds it at its next start."),
        Tone.DIM,
    )


def _reading(info: ModelInfo, experts: Mapping[str, int] | None) -> str:
    """What limits the speed of this model."""
    if experts is None:
        read = _("An answer reads all weights, {size}, once for every token.").format(size=size(info.size_bytes))
    else:
        read = _("For every token an answer reads the weights it passes through, {used} of {n} experts in a layer.")
        read = read.format(**experts)
    return f"{read} " + _(
        "The speed of the memory they lie in decides how fast it comes. A prompt is multiplied many tokens at a time: "
        "there the speed of computing decides."
    )


def _settings(info: ModelInfo, document: Document) -> Iterable[tuple[str, str]]:
    yield _("model"), f"{info.name} · {info.description}"
    build = document["llama_cpp_build"]
    yield "llama.cpp", f"llama-cpp-python {document['llama_cpp_python']}" + (f" · {build}" if build else "")
    yield _("backends"), ", ".join(document["backends"]) or _("none named")
    yield _("layers on a GPU"), _offload(info, document)
    yield (
        _("weights"),
        " · ".join(f"{size(entry['size_bytes'])} ({place(entry['device'])})" for entry in document["weights"]),
    )
    yield _("flash attention"), _flash(info.flash_attn)
    yield (
        _("KV cache"),
        _("keys {type_k}, values {type_v} (--kv-type)").format(type_k=info.type_k, type_v=info.type_v),
    )
    yield (
        _("threads"),
        n_("{n} of {cpus} CPU (--threads)", "{n} of {cpus} CPUs (--threads)", document["n_cpus"] or 0).format(
            n=info.n_threads, cpus=document["n_cpus"] or "?"
        ),
    )
    yield _("batches"), _batches(info)
    graph = document["graph"]
    if graph["nodes"] is not None and graph["splits"] is not None:
        yield (
            _("one pass"),
            n_(
                "{nodes:,} operations, in {n} piece on one device",
                "{nodes:,} operations, in {n} pieces between which devices change",
                graph["splits"],
            ).format(nodes=graph["nodes"], n=graph["splits"]),
        )


def _offload(info: ModelInfo, document: Document) -> str:
    if not document["supports_gpu_offload"]:
        return _("none: this build computes on the CPU")
    if not any(device["type"] in ("GPU", "iGPU") for device in document["devices"]):
        return _("none: this build could, but sees no GPU")
    return _("{n} of {of}, on {devices} (--n-gpu-layers)").format(
        n=info.n_gpu_layers, of=document["n_offloadable"], devices=", ".join(info.devices)
    )


def _flash(flash_attn: str) -> str:
    if flash_attn == "on":
        return _("on: attention goes block by block, and the table of every token with every other is never stored")
    if flash_attn == "off":
        return _("off: the table of every token with every other is stored (--flash-attn on)")
    return _("left to llama.cpp, which did not log its choice")


def _batches(info: ModelInfo) -> str:
    words = _("a prompt goes in pieces of up to {n_batch:,} tokens").format(n_batch=info.n_batch)
    if info.n_ubatch != info.n_batch:
        words += _(", computed {n_ubatch:,} at a time").format(n_ubatch=info.n_ubatch)
    return words


def _devices(devices: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        (Column(_("name")), Column(_("what"), grows=True), Column(_("kind")), Column(_("memory"), "right")),
        tuple(
            (
                Span(device["name"], Tone.STRONG),
                device["description"],
                device["type"],
                size(device["memory_total"]) if device["memory_total"] else "",
            )
            for device in devices
        ),
    )


def _features(features: Sequence[Feature]) -> Table:
    marks = {True: Span(_("yes"), Tone.GOOD), False: Span(_("no"), Tone.DIM), None: Span("–", Tone.DIM)}
    rows: list[tuple[Cell, ...]] = [
        (
            Span(feature.name, Tone.WARN if feature.in_cpu and not feature.built else Tone.STRONG),
            marks[feature.built],
            marks[feature.in_cpu],
            _(feature.meaning),
        )
        for feature in features
        if feature.built or feature.in_cpu
    ]
    return Table(
        (Column(_("feature")), Column(_("build")), Column("CPU"), Column(_("what it does"), grows=True)), tuple(rows)
    )


def _left_out(features: Sequence[Feature]) -> Iterable[Block]:
    absent = [feature.name for feature in features if not feature.built and not feature.in_cpu]
    unknown = all(feature.in_cpu is None for feature in features)
    if absent:
        words = (
            _("Not in this build; what the CPU has, this system does not tell:")
            if unknown
            else _("Neither in this build nor in this CPU:")
        )
        yield Words(f"{words} {', '.join(absent)}.", Tone.DIM)
    if unused := [feature.name for feature in features if feature.in_cpu and not feature.built]:
        yield Words(_("This CPU has more than the build uses: {names}.").format(names=", ".join(unused)), Tone.WARN)


def _build_words(build: Document) -> str:
    """What a build gives, whether it fits here, and how to get it."""
    if build["built"]:
        state = _("in this build") if build["present"] is not False else _("in this build, but no such GPU is seen")
        return f"{_(build['gives'])} – {state}"
    if build["present"]:
        state = _("there is one here, and this build does not use it")
    elif build["present"] is False:
        state = _("none is seen here")
    else:
        state = _("not in this build")
    command = " ".join(f"`{word}`" for word in build["command"].split())  # broken between words, not within
    return f"{_(build['gives'])} – {state}\n{command}"
