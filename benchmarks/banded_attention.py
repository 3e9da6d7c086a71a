"""Banded attention beside a mask that is written out: `python -m benchmarks.banded_attention`.

Forward and backward, after showing that outputs and gradients are the same; and how much memory
each takes beyond what it is given. On CUDA where there is one.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.paired import Spread, measure
from models.ops.attention.banded import (
    AttentionBackend,
    attention_backend,
    band_mask,
    banded_attention,
)
from parallel.planner.trace.memory_tracker import Storages

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-width", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backend = attention_backend(device.type, dtype)
    table = Table(
        title=f"banded attention ({backend}), window {options.window}, {options.heads} heads of "
        f"{options.head_width}, {options.dtype}, {device.type}: forward and backward",
        box=box.SIMPLE,
    )
    for heading in ("tokens", "masked takes", "known within", "dense takes", "known within"):
        table.add_column(heading, justify="right")
    for heading in ("banded ms", "banded MiB", "masked MiB"):
        table.add_column(heading, justify="right")
    for tokens in options.tokens:
        inputs = _inputs(tokens, options, dtype, device)
        sides = _sides(tokens, options.window, backend, device)
        _compare(sides, inputs)
        blocks = {name: _block(attend, inputs) for name, attend in sides.items()}
        found = measure(blocks, rounds=options.rounds, steps=1)
        row = [f"{tokens:,}"]
        for name in ("masked", "dense"):
            ratio = found.ratio(name)
            row += [f"{ratio.median:.2f} x", "{:.2f} to {:.2f}".format(*ratio.interval)]
        row.append(f"{1000 * Spread.of(found.seconds['banded']).median:.1f}")
        row += [f"{_mib(blocks[name], device):.1f}" for name in ("banded", "masked")]
        table.add_row(*row)
    Console(markup=False, width=120).print(table)


def _inputs(
    tokens: int, options: argparse.Namespace, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    size = (1, options.heads, tokens, options.head_width)
    return [
        torch.randn(size, generator=generator).to(device, dtype).requires_grad_() for _ in range(3)
    ]


def _sides(
    tokens: int, window: int, backend: AttentionBackend, device: torch.device
) -> dict[str, Attend]:
    mask = band_mask(tokens, window, device)
    return {
        "banded": lambda q, k, v: banded_attention(q, k, v, window, backend),
        "masked": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        "dense": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    }


def _step(attend: Attend, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out)))


def _compare(sides: dict[str, Attend], inputs: list[Tensor]) -> None:
    both = zip(_step(sides["banded"], inputs), _step(sides["masked"], inputs), strict=True)
    for ours, expected in both:
        torch.testing.assert_close(ours, expected)


def _block(attend: Attend, inputs: list[Tensor]) -> Callable[[int], None]:
    def run(steps: int) -> None:
        for _ in range(steps):
            _step(attend, inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()

    return run


def _mib(block: Callable[[int], None], device: torch.device) -> float:
    """The tensors that there are at once beyond what was given; on CUDA, the allocator's peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        block(1)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with Storages() as storages:
        block(1)
    return storages.peak_bytes / 2**20


if __name__ == "__main__":
    main()
