"""Matmuls and attention by themselves on one GPU, for `benchmarks.gpu`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.flops import attended_pairs
from models.ops.attention.banded import attention_backend, band_mask, banded_attention
from models.shape import ModelShape

WARM_UP, ROUNDS = 2, 7
BACKWARD = 2.5  # times the forward's operations: attention's backward makes the scores again
Sides = dict[str, Callable[[], object]]


def seconds_each(sides: Sides, device: torch.device, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Medians of interleaved runs, after as many that are not counted."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(WARM_UP + rounds):
        for name, run in sides.items():
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            if number >= WARM_UP:
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def matmuls(
    shapes: list[ModelShape],
    rows: list[int],
    dtype: torch.dtype,
    device: torch.device,
    peak: float | None,
) -> list[dict[str, Any]]:
    """The four matmuls of a layer and the logits at each width: TFLOP/s and share of the peak."""
    sizes = {
        (m, n, k)
        for shape in shapes
        for m in rows
        for n, k in (
            *(each.shape for each in shape.layer(0) if each.is_matrix),
            (shape.padded_vocab(), shape.hidden),
        )
    }
    found = []
    for m, n, k in sorted(sizes):
        a = torch.randn(m, k, dtype=dtype, device=device)
        b = torch.randn(n, k, dtype=dtype, device=device)
        work = 2e11 if device.type == "cuda" else 2e9  # long beside a launch
        repeats = max(1, int(work / (2 * m * n * k)))
        # Bound now: the loop goes on to other matrices.
        took = seconds_each({"": lambda a=a, b=b, r=repeats: [F.linear(a, b) for _ in range(r)]},  # type: ignore[misc]
                            device)  # fmt: skip
        rate = 2 * m * n * k * repeats / took[""]
        found.append(
            {
                "m": m,
                "n": n,
                "k": k,
                "tflops": rate / 1e12,
                "share_of_peak": rate / peak if peak else None,
            }
        )
    return found


def attentions(
    tokens: list[int],
    window: int,
    heads: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    peak: float | None,
    bandwidth: float | None,
) -> list[dict[str, Any]]:
    """Forward and backward of the band, of all earlier tokens and of a mask that is written out.

    `peak` in FLOP/s, `bandwidth` in bytes/s. The roofline is that of the pairs that a token sees.
    """
    way = attention_backend(device.type, dtype)
    found = []
    for count in tokens:
        inputs = [
            torch.randn(1, heads, count, width, dtype=dtype, device=device, requires_grad=True)
            for _ in range(3)
        ]
        mask = band_mask(count, window, device)
        attends: dict[str, Callable[..., Tensor]] = {
            "banded": lambda q, k, v: banded_attention(q, k, v, window, way),
            "dense": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            "masked": lambda q, k, v, mask=mask: F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask
            ),
        }
        results = {name: _step(attend, inputs) for name, attend in attends.items()}
        for ours, expected in zip(results["banded"], results["masked"], strict=True):
            torch.testing.assert_close(ours.float(), expected.float(), atol=0.03, rtol=0.03)
        sides: Sides = {
            name: lambda attend=attend, inputs=inputs: _step(attend, inputs)  # type: ignore[misc]
            for name, attend in attends.items()
        }
        took = seconds_each(sides, device)
        roofline = {}
        for name, seen in (("banded", window), ("dense", None)):
            flops = (1 + BACKWARD) * 4 * heads * width * attended_pairs(count, seen)
            moved = 11 * heads * count * width * dtype.itemsize  # 4 forward, 4 + 3 backward
            bound = max(flops / peak, moved / bandwidth) if peak and bandwidth else None
            roofline[name] = bound / took[name] if bound else None
        found.append(
            {
                "tokens": count,
                "way": str(way),
                "milliseconds": {name: 1000 * seconds for name, seconds in took.items()},
                "masked_over_banded": took["masked"] / took["banded"],
                "dense_over_banded": took["dense"] / took["banded"],
                "share_of_roofline": roofline,
            }
        )
    return found


def _step(attend: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
