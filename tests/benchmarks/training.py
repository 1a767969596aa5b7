"""Does our training loop keep up with a plain one? Both in one run, turn by turn, at the same sizes.

    python -m tests.benchmarks.training [--arch gpt2|llama] [--precision float32|bfloat16] [--rounds N] [--steps N]
                                        [--processes N] [--compile none|ours|both] [--json]

The plain loop is what a reader of the GPT-2 paper writes in PyTorch: LayerNorm, learned positions, fused attention,
AdamW, clipped gradients, autocast, DDP where there are several processes. Rates count the tokens of whole rows in all
processes. The ratio is the median over rounds of ours to plain in the same round, so that what else the machine does
falls on both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name every PyTorch reader knows)

WARM_STEPS = 2
"""Of each loop, before its steps are timed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What both loops have in common."""

    arch: str
    precision: str
    compile: str
    processes: int
    rounds: int
    steps: int
    layers: int
    width: int
    heads: int
    ffn: int
    """Width inside our feed-forward part."""
    vocab: int
    rows: int
    """Of a batch, over all processes."""
    length: int
    """Tokens of a row."""

    @property
    def plain_ffn(self) -> int:
        """Width inside the plain feed-forward part: SwiGLU has three matrices where GPT-2 has two."""
        return self.ffn * 3 // 2 if self.arch == "llama" else self.ffn

    @property
    def tokens_per_step(self) -> int:
        """Predicted tokens of a step, over all processes."""
        return self.rows * self.length


class Contestant:
    """A loop under measurement: `step()` does one optimizer step on a batch it fetches itself."""

    def __init__(self, step: Callable[[], object], n_parameters: int) -> None:
        self.step = step
        self.n_parameters = n_parameters
        self.tokens_per_s: list[float] = []


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=("gpt2", "llama"), default="llama", help="of our model (%(default)s)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--compile", choices=("none", "ours", "both"), default="none", help="torch.compile (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    sizes = {"processes": 1, "rounds": 5, "steps": 10, "layers": 6, "width": 192, "heads": 6, "ffn": 512}
    for name, value in (sizes | {"vocab": 2560, "rows": 12, "length": 256}).items():
        parser.add_argument(f"--{name}", type=int, default=value, help="%(default)s")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    setting = Setting(**options)
    if setting.rows % setting.processes:
        parser.error(f"{setting.rows} rows cannot be shared by {setting.processes} processes evenly")
    with TemporaryDirectory(prefix="tui-chat-benchmark-") as scratch:
        report = measure(setting, Path(scratch))
    if as_json:
        print(json.dumps(report, indent=1))
        return
    print(f"{setting.arch}, {setting.precision}, compile {setting.compile}, {setting.processes} processes")
    for name in ("ours", "plain"):
        side = report[name]
        print(f"{name:<6}{side['parameters']:>12,} parameters {side['tokens_per_s']:>10,.0f} tok/s")
    print(f"ratio {report['ratio']:.3f}   by round: {' '.join(f'{ratio:.3f}' for ratio in report['ratios'])}")


def measure(setting: Setting, scratch: Path) -> dict[str, Any]:
    """Both loops in turn, in as many processes as wished; this one has rank 0."""
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_measure, args=(rank, setting, scratch), daemon=True)
        for rank in range(1, setting.processes)
    ]
    for process in others:
        process.start()
    report = _measure(0, setting, scratch)
    for process in others:
        process.join(timeout=30)
    return report


def _measure(rank: int, setting: Setting, scratch: Path) -> dict[str, Any]:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // setting.processes))
    torch.manual_seed(0)
    with ExitStack() as stack:
        if setting.processes > 1:
            meeting = f"file://{scratch / 'meeting'}"
            dist.init_process_group(
                "gloo", init_method=meeting, rank=rank, world_size=setting.processes, timeout=timedelta(minutes=5)
            )
            stack.callback(dist.destroy_process_group)
        rng = np.random.default_rng(1)
        ids = rng.integers(0, setting.vocab, (512, setting.length + 1), dtype=np.uint16)
        sides = {"ours": ours(setting, rank, ids, scratch), "plain": plain(setting, rank, ids)}
        for side in sides.values():
            # Compiling, first allocations and the optimizer's state are not what is measured.
            _timed(side, WARM_STEPS)
        for number in range(setting.rounds):
            for side in list(sides.values())[:: 1 if number % 2 == 0 else -1]:
                seconds = _timed(side, setting.steps)
                side.tokens_per_s.append(setting.steps * setting.tokens_per_step / seconds)
    rates = {name: side.tokens_per_s for name, side in sides.items()}
    ratios = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
    return {
        "setting": asdict(setting) | {"plain_ffn": setting.plain_ffn, "tokens_per_step": setting.tokens_per_step},
        **{
            name: {
                "parameters": side.n_parameters,
                "tokens_per_s": statistics.median(rates[name]),
                "tokens_per_s_by_round": rates[name],
            }
            for name, side in sides.items()
        },
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _timed(side: Contestant, steps: int) -> float:
    """Seconds that `steps` steps take, until the slowest process is done."""
    _meet()
    start = time.perf_counter()
    for _ in range(steps):
        side.step()
    _meet()
    return time.perf_counter() - start


def _meet() -> None:
    if dist.is_initialized():
        dist.barrier()


def ours(setting: Setting, rank: int, ids: np.ndarray[Any, np.dtype[np.uint16]], scratch: Path) -> Contestant:
    """The program's own loop: the one place here that knows how it is called."""
    from tui_chat.checkpoints.shape import Architecture, ModelShape, Positions
    from tui_chat.training.config import Precision, TrainConfig
    from tui_chat.training.dataset import PackedRows
    from tui_chat.training.distributed import Group
    from tui_chat.training.estimate import Portions
    from tui_chat.training.loop import Loop, Plan
    from tui_chat.training.models import build_model

    arch = Architecture(setting.arch)
    shape = ModelShape(
        arch=arch,
        vocab_size=setting.vocab,
        width=setting.width,
        n_layers=setting.layers,
        n_heads=setting.heads,
        n_kv_heads=setting.heads,
        ffn_width=setting.ffn,
        context=setting.length,
        positions=Positions.ROTARY if arch is Architecture.LLAMA else Positions.LEARNED,
        qk_norm=arch is Architecture.LLAMA,
    )
    n_steps = setting.rounds * setting.steps + WARM_STEPS
    loop = Loop(
        TrainConfig(
            out=scratch,
            shape=shape,
            steps=n_steps,
            epochs=None,
            batch=setting.rows,
            length=setting.length,
            long_length=0,
        ),
        Plan(
            n_steps=n_steps,
            device=torch.device("cpu"),
            precision=Precision(setting.precision),
            compiled=setting.compile != "none",
            portions=Portions(setting.rows // setting.processes, passes=1, n_bytes=0, fits=True),
        ),
        build_model(shape),
        (PackedRows(ids, np.ones((len(ids), setting.length), np.float32)),),
        Group(rank, setting.processes),
        None,
    )
    return Contestant(loop.update, loop.model.n_parameters)


def plain(setting: Setting, rank: int, ids: np.ndarray[Any, np.dtype[np.uint16]]) -> Contestant:
    """The plain loop, fused AdamW included: the fastest that stays as readable."""
    gpt: nn.Module = PlainGpt(setting)
    n_parameters = sum(parameter.numel() for parameter in gpt.parameters())
    matrices = [parameter for parameter in gpt.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in gpt.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), fused=True)
    if setting.processes > 1:
        gpt = nn.parallel.DistributedDataParallel(gpt)
    if setting.compile == "both":
        gpt.compile(dynamic=False)
    own_rows = setting.rows // setting.processes
    rng = np.random.default_rng(rank)

    def step() -> float:
        batch = torch.from_numpy(ids[rng.integers(0, len(ids), own_rows)].astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=setting.precision == "bfloat16"):
            loss = gpt(batch[:, :-1], batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return Contestant(step, n_parameters)


class PlainGpt(nn.Module):  # type: ignore[misc] # PyTorch is not looked into
    """GPT-2 with tied embeddings: (B, T) ids and the ids that follow them to the mean loss, nats."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.tokens = nn.Embedding(setting.vocab, setting.width)
        self.places = nn.Embedding(setting.length, setting.width)
        self.blocks = nn.ModuleList(PlainBlock(setting) for _ in range(setting.layers))
        self.norm = nn.LayerNorm(setting.width)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, 0.0, 0.02)

    def forward(self, ids: Tensor, following: Tensor) -> Tensor:
        """One batch."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), following.flatten())


class PlainBlock(nn.Module):  # type: ignore[misc] # PyTorch is not looked into
    """Attention with one matrix for queries, keys and values, then GELU between two matrices."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        width, self.heads = setting.width, setting.heads
        self.attention_norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, setting.plain_ffn), nn.Linear(setting.plain_ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, D) each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ffn_norm(x)), approximate="tanh"))


if __name__ == "__main__":
    main()
