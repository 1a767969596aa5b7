"""`kernels`: the facts of this build and machine, and those of others made up here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import tui_chat
from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.engine.llama import system_facts
from tui_chat.lessons import kernels as lesson
from tui_chat.lessons.allocation import Allocation
from tui_chat.lessons.builds import BUILDS, backends_in, build_command, cpu_features, features_by_backend
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.kernels import kernels
from tui_chat.lessons.report import Report
from tui_chat.lessons.watch import Watch


def text(report: Report) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, 200))


def test_figures_are_those_of_the_build_and_of_the_loaded_model(pocket: Engine) -> None:
    report = kernels(pocket, Watch())
    document, facts = check("kernels", report.document), system_facts()
    assert document["llama_cpp_python"] == facts["llama_cpp_python"]
    assert "cpu" in document["backends"]
    assert [device["name"] for device in document["devices"]] == [device["name"] for device in facts["devices"]]  # type: ignore[attr-defined]
    built = {feature["name"] for feature in document["features"] if feature["built"]}
    assert built == set(features_by_backend(str(facts["system_info"])).get("CPU", {}))
    assert (document["n_threads"], document["n_batch"], document["n_ubatch"]) == (1, pocket.info.n_batch, 63)
    assert document["graph"]["nodes"] > pocket.info.n_layer and document["graph"]["splits"] >= 1
    assert sum(entry["size_bytes"] for entry in document["weights"]) == pytest.approx(pocket.info.size_bytes, rel=0.02)
    shown = text(report)
    for build in document["builds"]:
        assert build["built"] or build["command"] in shown
    for feature in document["features"]:
        assert feature["name"] in shown


def test_the_features_of_each_backend() -> None:
    info = "CUDA : ARCHS = 800,900 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | SVE_CNT = 16 | "
    assert features_by_backend(info) == {
        "CUDA": {"ARCHS": "800,900", "USE_GRAPHS": "1"},
        "CPU": {"SSE3": "1", "AVX2": "1", "SVE_CNT": "16"},
    }
    assert features_by_backend("") == {}


def test_what_the_cpu_has_and_the_build_does_not_use() -> None:
    found = {feature.name: feature for feature in cpu_features(["SSE3", "NEW"], frozenset({"pni", "avx2"}))}
    assert (found["SSE3"].built, found["SSE3"].in_cpu) == (True, True)
    assert (found["AVX2"].built, found["AVX2"].in_cpu) == (False, True)
    assert (found["AMX_INT8"].built, found["AMX_INT8"].in_cpu) == (False, False)
    assert (found["NEW"].built, found["NEW"].in_cpu, found["NEW"].meaning) == (True, None, "")
    assert "NEON" not in found and "LLAMAFILE" not in found
    arm = {
        feature.name: feature.in_cpu for feature in cpu_features(["NEON", "LLAMAFILE"], frozenset({"asimd", "i8mm"}))
    }
    assert (arm["NEON"], arm["MATMUL_INT8"], arm["SVE"], arm["LLAMAFILE"]) == (True, True, False, None)
    assert all(feature.in_cpu is None for feature in cpu_features(["SSE3"], None))
    assert [feature.name for feature in cpu_features(["RISCV_V"], None)] == ["RISCV_V"]


def test_a_feature_that_lies_idle_is_named_with_the_build_that_uses_it(
    pocket: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {**system_facts(), "system_info": "CPU : SSE3 = 1 | AVX2 = 1 |"}
    monkeypatch.setattr(lesson, "system_facts", lambda: facts)
    monkeypatch.setattr(lesson, "cpu_flags", lambda: frozenset({"pni", "avx2", "avx512f"}))
    report = kernels(pocket, Watch())
    document = check("kernels", report.document)
    assert document["unused_features"] == ["AVX512"]
    assert document["builds"][-1]["cmake_args"] == "-DGGML_NATIVE=on"
    assert "This CPU has more than the build uses: AVX512." in text(report)


def test_a_build_with_a_gpu(pocket: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"name": "CUDA0", "description": "NVIDIA X", "type": "GPU", "memory_total": 8 << 30, "memory_free": 4 << 30}
    seen: Any = system_facts()["devices"]
    facts = {
        **system_facts(),
        "devices": [gpu, *seen],
        "supports_gpu_offload": True,
        "system_info": "CUDA : ARCHS = 900 | CPU : AVX2 = 1 |",
    }
    monkeypatch.setattr(lesson, "system_facts", lambda: facts)
    monkeypatch.setattr(lesson, "backends_in", lambda _: frozenset({"cpu", "cuda"}))
    monkeypatch.setattr(lesson, "graphics_drivers", lambda: frozenset({"nvidia", "any"}))
    report = kernels(pocket, Watch())
    builds = {build["backend"]: build for build in check("kernels", report.document)["builds"]}
    assert (builds["cuda"]["built"], builds["cuda"]["present"]) == (True, True)
    assert (builds["vulkan"]["built"], builds["vulkan"]["present"]) == (False, True)
    shown = text(report)
    assert "0 of 7, on CPU" in shown and "ARCHS 900" in shown
    assert "through CUDA – in this build" in shown and builds["cuda"]["command"] not in shown
    assert "through Vulkan – there is one here, and this build does not use it" in shown
    facts["devices"] = seen
    monkeypatch.setattr(lesson, "graphics_drivers", frozenset)
    shown = text(kernels(pocket, Watch()))
    assert "this build could, but sees no GPU" in shown and "in this build, but no such GPU is seen" in shown


def test_of_a_mixture_not_all_weights_are_read(pocket: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("kernels", kernels(pocket, Watch()).document)["experts"] is None
    mixture = Allocation((), (), {"n_expert": "8", "n_expert_used": "2"})
    monkeypatch.setattr(lesson, "read_log", lambda _: mixture)
    report = kernels(pocket, Watch())
    assert check("kernels", report.document)["experts"] == {"n": 8, "used": 2}
    assert "2 of 8 experts" in text(report)


def test_the_command_is_that_of_the_environment_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkout = Path(tui_chat.__file__).resolve().parents[1]
    monkeypatch.setattr(sys, "prefix", str(checkout / ".venv"))
    assert build_command("-DGGML_CUDA=on", "1.2.3") == 'CMAKE_ARGS="-DGGML_CUDA=on" make chat'
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/my envs/bin/python")
    assert build_command("-DGGML_CUDA=on", "1.2.3") == (
        "CMAKE_ARGS=\"-DGGML_CUDA=on\" '/my envs/bin/python' -m pip install --no-cache-dir --force-reinstall "
        "--no-deps llama-cpp-python==1.2.3"
    )


def test_the_gpu_builds_are_those_of_the_readme() -> None:
    readme = (Path(tui_chat.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for build in BUILDS:
        assert build.driver is None or f'CMAKE_ARGS="{build.cmake_args}"' in readme


def test_the_backends_of_a_build_are_its_libraries(tmp_path: Path) -> None:
    for name in ("libggml.so", "libggml-base.so.0", "libggml-cpu-haswell.so", "libggml-metal.dylib", "ggml-cuda.dll"):
        (tmp_path / name).touch()
    assert backends_in(tmp_path) == {"cpu", "metal", "cuda"}


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernels", "--threads", "2", "--flash-attn", "off", "--json"]) == 0
    document = check("kernels", capsys.readouterr().out)
    assert (document["n_threads"], document["flash_attn"]) == (2, "off")
    assert run(["kernels"]) == 0
    assert "Other builds" in capsys.readouterr().out
    assert run(["kernels", "--model", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err
