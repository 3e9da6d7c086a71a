"""Gated activations on a CPU (Shazeer 2020): SwiGLU and GEGLU, in fewer passes over memory.

The input's last dimension holds the gate's half, then the linear half:

    y = act(g) u,   act = SiLU: g sigmoid(g), or GELU by its tanh approximation

Only the input is kept for the backward pass, which computes the activation again, in blocks that
fit into the cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.network import Mlp

_BLOCK = 1 << 18  # elements of an output


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: Mlp) -> Tensor:
        inner = x.shape[-1] // 2
        x_RI = x.reshape(-1, 2 * inner)
        out_RI = x.new_empty(len(x_RI), inner)
        for rows in _blocks(len(x_RI), inner):
            gate, linear = x_RI[rows, :inner], x_RI[rows, inner:]
            torch.mul(_activated(gate, kind), linear, out=out_RI[rows])
        ctx.save_for_backward(x)
        ctx.kind = kind
        return out_RI.view(*x.shape[:-1], inner)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        inner = x.shape[-1] // 2
        x_RI, grad_RI = x.reshape(-1, 2 * inner), grads[0].reshape(-1, inner)
        dx_RI = torch.empty_like(x_RI)
        for rows in _blocks(len(x_RI), inner):
            gate, linear, grad = x_RI[rows, :inner], x_RI[rows, inner:], grad_RI[rows]
            torch.mul(grad, _activated(gate, ctx.kind), out=dx_RI[rows, inner:])
            dx_RI[rows, :inner] = _slope(grad * linear, gate, ctx.kind)
        return dx_RI.view(x.shape), None


def _blocks(rows: int, width: int) -> list[slice]:
    at_once = max(1, _BLOCK // width)
    return [slice(first, first + at_once) for first in range(0, rows, at_once)]


def _activated(gate: Tensor, kind: Mlp) -> Tensor:
    return F.silu(gate) if kind is Mlp.swiglu else F.gelu(gate, approximate="tanh")


def _slope(grad: Tensor, gate: Tensor, kind: Mlp) -> Tensor:
    """The gradient of the activation's input."""
    if kind is Mlp.swiglu:
        slope: Tensor = torch.ops.aten.silu_backward(grad, gate)
    else:
        slope = torch.ops.aten.gelu_backward(grad, gate, approximate="tanh")
    return slope


def gated(x: Tensor, kind: Mlp) -> Tensor:
    """[..., 2 I] to [..., I]: the activation of the first half times the second half."""
    value: Tensor = _Gated.apply(x, kind)  # type: ignore[no-untyped-call]
    return value
