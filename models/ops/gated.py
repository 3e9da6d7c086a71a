"""Gated activations on a CPU (Shazeer 2020): SwiGLU and GEGLU, in fewer passes over memory.

The input's last dimension holds the gate's half, then the linear half:

    y = act(g) u,   act = SiLU: g s, s = sigmoid(g), or GELU by its tanh approximation

The two slopes, act'(g) u and act(g), overwrite the input, which is not needed any more, so that a
layer keeps as much as before and the backward pass is one multiplication.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.settings.network import Mlp
from models.ops.blocks import row_blocks

_BLOCK = 1 << 18  # elements of an output


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: Mlp) -> Tensor:
        slopes = x.detach()
        inner = x.shape[-1] // 2
        slopes_RI = slopes.view(-1, 2 * inner)
        value_RI = slopes.new_empty(len(slopes_RI), inner)
        for rows in row_blocks(len(slopes_RI), inner, _BLOCK):
            gate, linear = slopes_RI[rows, :inner], slopes_RI[rows, inner:]
            activated, slope = _SLOPES[kind](gate)
            torch.mul(activated, linear, out=value_RI[rows])
            torch.mul(slope, linear, out=gate)
            linear.copy_(activated)
        ctx.save_for_backward(slopes)
        return value_RI.view(*x.shape[:-1], inner)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slopes,) = ctx.saved_tensors
        halves = torch.unflatten(slopes, -1, (2, -1))
        return (halves * grads[0].unsqueeze(-2)).flatten(-2), None


def _silu(gate: Tensor) -> tuple[Tensor, Tensor]:
    """g s, and s + g s (1 - s)."""
    sigmoid = gate.sigmoid()
    activated = gate * sigmoid
    return activated, sigmoid.add_(activated - activated * sigmoid)


def _gelu(gate: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.ops.aten.gelu_backward(torch.ones_like(gate), gate, approximate="tanh")
    return F.gelu(gate, approximate="tanh"), slope


_SLOPES = {Mlp.swiglu: _silu, Mlp.geglu: _gelu}


def gated(x: Tensor, kind: Mlp) -> Tensor:
    """[..., 2 I] to [..., I]; overwrites x if it is contiguous float32 and needs a gradient."""
    if x.requires_grad and x.dtype is torch.float32 and x.is_contiguous():
        value: Tensor = _Gated.apply(x, kind)  # type: ignore[no-untyped-call]
        return value
    gate, linear = x.chunk(2, -1)
    return (F.silu(gate) if kind is Mlp.swiglu else F.gelu(gate, approximate="tanh")) * linear
