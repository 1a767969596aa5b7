"""`memory`: its sizes against what llama.cpp logged, its formula against what llama.cpp set aside."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lessons.contracts import check
from tests.lessons.tiny_models import write_hybrid, write_latent, write_recurrent, write_sliding
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.engine.model_types import BYTES_PER_NUMBER
from tui_chat.engine.types import LoadOptions
from tui_chat.lessons import memory as lesson
from tui_chat.lessons.allocation import MIB, Allocation, Buffer, Purpose, read_log
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.hardware import MachineMemory, ProcessMemory
from tui_chat.lessons.memory import memory
from tui_chat.lessons.report import Report
from tui_chat.lessons.watch import Watch
from tui_chat.models.resolve import builtin_path

ROUNDING = 0.01 * MIB


def logged_cache(engine: Engine) -> float:
    """Size of the KV cache, as llama.cpp's log tells: what everything here is held against."""
    return MIB * sum(map(float, re.findall(r"KV buffer size =\s+([\d.]+) MiB", "\n".join(engine.load_log))))


def text(report: Report, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


def test_figures_are_those_of_the_file_and_of_the_log(pocket: Engine) -> None:
    document = check("memory", memory(pocket, Watch()).document)
    shape = {key.removeprefix("qwen3."): value for key, value in pocket.info.metadata.items()}
    width = int(shape["attention.head_count_kv"]) * int(shape["attention.key_length"])
    cache = document["kv_cache"]
    assert cache["bytes_per_token"] == pocket.info.n_layer * 2 * width * 2
    assert cache["bytes_per_token_and_layer"] * pocket.info.n_layer == cache["bytes_per_token"]
    assert cache["full_bytes"] == cache["size_bytes"] == 512 * cache["bytes_per_token"]
    assert cache["size_bytes"] == pytest.approx(logged_cache(pocket), abs=ROUNDING)
    assert cache["longest_bytes"] == pocket.info.n_ctx_train * cache["bytes_per_token"]
    weights = document["weights"]
    assert sum(entry["size_bytes"] for entry in weights["tensors"]) == weights["size_bytes"] == pocket.info.size_bytes
    sizes = {buffer["purpose"]: buffer["size_bytes"] for buffer in document["buffers"]}
    assert sizes["weights"] == pytest.approx(pocket.info.size_bytes, abs=2 * ROUNDING)
    assert sizes["output"] == document["output_bytes"] == 4 * pocket.info.n_vocab
    assert sizes["compute"] == document["compute_bytes"] > 0
    assert document["state_bytes"] == 0


def test_the_formula_is_arithmetic_that_comes_out(pocket: Engine) -> None:
    report = memory(pocket, Watch())
    formula = report.document["kv_cache"]["formula"]  # type: ignore[index]
    left, right = formula.replace("×", "*").removesuffix(" B").replace(",", "").split("=")
    assert re.fullmatch(r"[\d\s*+().]+", left)
    assert eval(left) == int(right)
    assert formula in text(report)


def test_now_is_what_the_conversation_holds(pocket: Engine) -> None:
    for n in (3, 40):
        pocket.logits(tuple(range(1, n + 1)))
        before = list(pocket.context.ids)
        document = check("memory", memory(pocket, Watch()).document)
        assert (document["n_tokens"], list(pocket.context.ids)) == (n, before)
        assert document["kv_cache"]["now_bytes"] == n * document["kv_cache"]["bytes_per_token"]


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_the_formula_follows_the_type_of_the_cache(kind: Literal["f32", "q8_0"]) -> None:
    options = LoadOptions(n_ctx=300, n_threads=1, type_k=kind, type_v=kind)
    with Engine.load(builtin_path(), options) as engine:
        report = memory(engine, Watch())
        document = check("memory", report.document)
        (cache,) = document["kv_cache"]["caches"]
        assert cache["cells"] == 512 and cache["type_k"] == cache["type_v"] == kind
        assert cache["size_bytes"] == pytest.approx(logged_cache(engine), abs=ROUNDING)
        n_numbers = engine.info.n_layer * 2 * engine.info.n_embd
        assert document["kv_cache"]["bytes_per_token"] == n_numbers * BYTES_PER_NUMBER[kind]
    assert re.search(rf"^{kind} .* now$", text(report), re.MULTILINE)


# Architectures that keep something else


def of(write: Callable[[Path], Path], folder: Path) -> tuple[dict[str, Any], str]:
    with Engine.load(write(folder / "tiny.gguf"), LoadOptions(n_ctx=512, n_threads=1)) as engine:
        report = memory(engine, Watch())
        document = check("memory", report.document)
        assert document["kv_cache"]["size_bytes"] == pytest.approx(logged_cache(engine), abs=2 * ROUNDING)
    return document, text(report)


def test_a_recurrent_model_has_a_state_and_no_formula(tmp_path: Path) -> None:
    document, shown = of(write_recurrent, tmp_path)
    cache = document["kv_cache"]
    assert cache["no_formula"] == "recurrent" and cache["caches"] == []
    assert {cache[key] for key in ("formula", "bytes_per_token", "now_bytes", "full_bytes", "longest_bytes")} == {None}
    # Two layers of 128 × (3 + 16) numbers of four bytes.
    assert document["state_bytes"] == pytest.approx(2 * 128 * 19 * 4, abs=ROUNDING)
    assert "the layers of mamba are recurrent" in shown and "recurrent state" in shown


def test_a_hybrid_has_a_formula_for_its_attention_alone(tmp_path: Path) -> None:
    document, shown = of(write_hybrid, tmp_path)
    assert document["kv_cache"]["bytes_per_token"] == 1 * (32 * 2 + 32 * 2)
    assert "1 layer keeps" in shown and "The other layers are recurrent" in shown


def test_sliding_windows_have_a_cache_of_their_own(tmp_path: Path) -> None:
    document, shown = of(write_sliding, tmp_path)
    whole, window = document["kv_cache"]["caches"]
    assert (whole["n_layers"], whole["window"]) == (1, False)
    assert (window["n_layers"], window["window"]) == (5, True)
    assert document["kv_cache"]["bytes_per_token"] == 6 * (32 * 2 + 32 * 2)
    assert document["kv_cache"]["full_bytes"] == document["kv_cache"]["size_bytes"]
    assert "5 layers look back over 128 tokens only" in shown
    assert "2 heads of queries share them" in shown


def test_latent_attention_is_shown_as_allocated_without_a_formula(tmp_path: Path) -> None:
    document, shown = of(write_latent, tmp_path)
    cache = document["kv_cache"]
    assert (cache["formula"], cache["bytes_per_token"], cache["no_formula"]) == (None, None, "latent attention")
    assert cache["size_bytes"] == pytest.approx(512 * 2 * 48 * 2, abs=ROUNDING)
    assert "is not what llama.cpp set aside for deepseek2" in shown and "latent attention" in shown


# The log


GPU_LOG = """\
print_info: n_vocab               = 1000
print_info: n_embd_k_gqa          = [256, 512, 256]
print_info: n_embd_v_gqa          = [256, 512, 256]
load_tensors: offloading output layer to GPU
load_tensors: offloaded 4/4 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    10.00 MiB
load_tensors:   CPU_Mapped model buffer size =    20.00 MiB
load_tensors:        CUDA0 model buffer size =   100.50 MiB
llama_context: n_outputs_max         = 3
llama_context:  CUDA_Host  output buffer size =     0.01 MiB
llama_kv_cache:        CPU KV buffer size =     1.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =     3.00 MiB
llama_kv_cache: size =    4.00 MiB (  1024 cells,   3 layers,  1/1 seqs), K (f16):    2.00 MiB, V (f16):    2.00 MiB
sched_reserve:      CUDA0 compute buffer size =    99.00 MiB
sched_reserve:      CUDA0 compute buffer size =    40.25 MiB
sched_reserve:  CUDA_Host compute buffer size =     2.00 MiB
""".splitlines()


def test_buffers_add_up_by_device_and_the_last_working_space_counts() -> None:
    found = read_log(GPU_LOG)
    assert found.buffers == (
        Buffer(Purpose.WEIGHTS, "CPU_Mapped", 30 * MIB),
        Buffer(Purpose.WEIGHTS, "CUDA0", 100 * MIB + MIB // 2),
        Buffer(Purpose.CACHE, "CPU", 1 * MIB),
        Buffer(Purpose.CACHE, "CUDA0", 3 * MIB),
        Buffer(Purpose.COMPUTE, "CUDA0", 40 * MIB + MIB // 4),
        Buffer(Purpose.COMPUTE, "CUDA_Host", 2 * MIB),
        Buffer(Purpose.OUTPUT, "CUDA_Host", 3 * 1000 * 4),
    )
    assert found.size_of(Purpose.CACHE) == 4 * MIB
    (cache,) = found.caches
    assert (cache.bytes_per_token, cache.uniform) == (2 * 1024 * 2, False)


def test_a_log_that_tells_nothing_gives_nothing(pocket: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_log([]) == Allocation((), (), {})
    monkeypatch.setattr(lesson, "read_log", lambda _: read_log([]))
    monkeypatch.setattr(lesson, "process_memory", lambda: ProcessMemory(None, None, None, None))
    monkeypatch.setattr(lesson, "machine_memory", lambda: MachineMemory(None, None))
    report = memory(pocket, Watch())
    document = check("memory", report.document)
    assert document["kv_cache"]["no_formula"] == "not logged"
    assert "nothing can be said of it" in text(report) and "this system does not tell" in text(report)


def test_the_models_share_of_a_gpu(monkeypatch: pytest.MonkeyPatch, pocket: Engine) -> None:
    gpu = {"name": "CUDA0", "description": "NVIDIA X", "type": "GPU", "memory_total": 8 << 30, "memory_free": 4 << 30}
    monkeypatch.setattr(lesson, "system_facts", lambda: {"devices": [gpu]})
    monkeypatch.setattr(lesson, "read_log", lambda _: read_log(GPU_LOG))
    report = memory(pocket, Watch())
    (device,) = check("memory", report.document)["devices"]
    assert device["model_bytes"] == round((100.5 + 3 + 40.25) * MIB)
    assert "NVIDIA X: 8.6 GB, 4.3 GB free, 150.7 MB taken by the model" in text(report, 120)


@settings(max_examples=50)
@given(
    n_layers=st.integers(1, 90),
    width=st.integers(1, 64).map(lambda n: 32 * n),
    blocks=st.integers(1, 512),
    type_k=st.sampled_from(sorted(BYTES_PER_NUMBER)),
    type_v=st.sampled_from(sorted(BYTES_PER_NUMBER)),
    spoilt=st.booleans(),
)
def test_the_formula_holds_exactly_where_it_gives_what_was_logged(
    n_layers: int, width: int, blocks: int, type_k: str, type_v: str, spoilt: bool
) -> None:
    cells = 256 * blocks
    k, v = n_layers * width * BYTES_PER_NUMBER[type_k], n_layers * width * BYTES_PER_NUMBER[type_v]
    k_mib, v_mib = cells * k / MIB, cells * v / MIB + 0.02 * spoilt
    sizes = f"K ({type_k}): {k_mib:7.2f} MiB, V ({type_v}): {v_mib:7.2f} MiB"
    found = read_log(
        [
            f"print_info: n_embd_k_gqa          = {width}",
            f"print_info: n_embd_v_gqa          = {width}",
            f"llama_kv_cache: size = {k_mib + v_mib:.2f} MiB ({cells:6} cells, {n_layers:3} layers, 1/1 seqs), {sizes}",
        ]
    )
    assert found.bytes_per_token == (None if spoilt else round(k + v))
    for n in (0, 1, cells):
        assert found.cache_bytes(n, cells) == (None if spoilt else n * round(k + v))


def test_a_window_smaller_than_the_context_does_not_grow() -> None:
    found = read_log(
        [
            "print_info: n_embd_k_gqa = 128",
            "print_info: n_embd_v_gqa = 128",
            "llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells",
            "llama_kv_cache: size = 4.00 MiB (8192 cells, 1 layers, 1/1 seqs), K (f16): 2.00 MiB, V (f16): 2.00 MiB",
            "llama_kv_cache_iswa: creating     SWA KV cache, size = 1024 cells",
            "llama_kv_cache: size = 2.00 MiB (1024 cells, 4 layers, 1/1 seqs), K (f16): 1.00 MiB, V (f16): 1.00 MiB",
        ]
    )
    assert [cache.window for cache in found.caches] == [False, True]
    assert found.cache_bytes(8192, 8192) == 6 * MIB
    assert found.cache_bytes(100, 8192) == 100 * 5 * 512
    assert found.cache_bytes(16384, 8192) == 10 * MIB


# The command line


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["memory", "--n-ctx", "256", "--kv-type", "f32", "--json"]) == 0
    document = check("memory", capsys.readouterr().out)
    assert (document["n_ctx"], document["n_tokens"]) == (256, 0)
    assert document["kv_cache"]["caches"][0]["type_v"] == "f32"
    assert run(["memory"]) == 0
    assert "llama.cpp's log says" in capsys.readouterr().out
    assert run(["memory", "--model", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err
