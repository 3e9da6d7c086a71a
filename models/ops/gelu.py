"""GPT-2's GELU on a CPU, computed from a sigmoid, in less time than torch's.

    y = x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x sigmoid(u),  u = A x + B x^3

(Hendrycks and Gimpel 2016; Radford et al. 2019.) torch's kernel computes a tanh forward and another
one backward. Here the slope is computed along with the value, as x u' = 3 u - 2 A x:

    dy/dx = s + x u' s (1 - s) = s + 3 s (1 - s) (u - 2/3 A x),  s = sigmoid(u)

The slope overwrites x, which is not needed any more, so a layer keeps as much as before.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_A = 2 * math.sqrt(2 / math.pi)
_B = 0.044715 * _A
_BLOCK = 1 << 20  # elements, 4 MiB of float32: the working set fits into the cache


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        slope, value = x.detach(), torch.empty_like(x)
        for block, values in zip(_blocks(slope), _blocks(value), strict=True):
            inner, gate = _inner_and_gate(block)
            inner.sub_(block, alpha=2 / 3 * _A)
            torch.ops.aten.sigmoid_backward.grad_input(inner, gate, grad_input=inner)
            torch.mul(block, gate, out=values)
            torch.add(gate, inner, alpha=3, out=block)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return slope * grads[0]


def _inner_and_gate(block: Tensor) -> tuple[Tensor, Tensor]:
    """u and sigmoid(u)."""
    inner = torch.addcmul(block.new_tensor(_A), block, block, value=_B).mul_(block)
    return inner, inner.sigmoid()


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    return x.view(-1).split(_BLOCK)  # type: ignore[no-untyped-call]


def host_gelu(x: Tensor) -> Tensor:
    """The GELU of x of any shape; overwrites x if it is contiguous float32."""
    if x.dtype is not torch.float32 or not x.is_contiguous():
        return F.gelu(x, approximate="tanh")
    if x.requires_grad:
        value: Tensor = _Gelu.apply(x)  # type: ignore[no-untyped-call]
        return value
    for block in _blocks(x):
        block.mul_(_inner_and_gate(block)[1])
    return x
