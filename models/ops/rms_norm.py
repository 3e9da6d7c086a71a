"""RMSNorm (Zhang and Sennrich 2019): y = w x / sqrt(mean(x^2) + epsilon), over the last dimension.

torch has a fused kernel on CUDA only. On a CPU it composes eight operations, each a pass over
memory; here rows are processed in blocks that fit into the cache. Both keep the input and one
number for each row for the backward pass. With s = 1 / sqrt(mean(x^2) + epsilon):

    dx = s (w dy - x s^2 mean(w dy x)),   dw = sum over rows of dy x s
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.distributed import ProcessGroup

from models.ops.blocks import row_blocks

_BLOCK = 1 << 18  # elements, 1 MiB of float32


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        width = x.shape[-1]
        x_RW = x.reshape(-1, width)
        out_RW = torch.empty_like(x_RW)
        scale_R1 = x_RW.new_empty(len(x_RW), 1, dtype=torch.float32)
        ctx.save_for_backward(x, weight, scale_R1)
        ctx.traced = detect_fake_mode((x,)) is not None
        if ctx.traced:  # a dry run: what the fused kernel allocates
            return out_RW.view(x.shape)
        w = weight.float()
        for rows in row_blocks(len(x_RW), width, _BLOCK):
            block = x_RW[rows].float()
            norm_R1 = torch.linalg.vector_norm(block, dim=1, keepdim=True)
            torch.rsqrt(norm_R1.square_().div_(width).add_(epsilon), out=scale_R1[rows])
            if out_RW.dtype is torch.float32:
                torch.mul(block, scale_R1[rows], out=out_RW[rows]).mul_(w)
            else:
                out_RW[rows] = (block * scale_R1[rows]).mul_(w)
        return out_RW.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, scale_R1 = ctx.saved_tensors
        width = x.shape[-1]
        x_RW, grad_RW = x.reshape(-1, width), grads[0].reshape(-1, width)
        dx_RW, dw = torch.empty_like(x_RW), torch.zeros_like(weight, dtype=torch.float32)
        if ctx.traced:
            return dx_RW.view(x.shape), dw.to(weight.dtype), None
        # A LayerNorm's kernel with mean 0 subtracts s mean(w dy) from what is sought.
        none_R1, w = torch.zeros_like(scale_R1), weight.float()
        dx_RW, dw, _ = torch.ops.aten.native_layer_norm_backward(
            grad_RW.float(), x_RW.float(), [width], none_R1, scale_R1, w, None, [True, True, False]
        )
        means_R = grad_RW.float() @ w.div(width)
        dx_RW.add_(means_R[:, None].mul_(scale_R1))
        return dx_RW.to(x.dtype).view(x.shape), dw.to(weight.dtype), None


class _OverRanks(torch.autograd.Function):
    """The norm of channels that ranks share: their squares, and in the backward pass the mean, are
    summed over the ranks.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, epsilon: float, width: int, group: ProcessGroup
    ) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vecdot(wide, wide)[..., None]
        torch.distributed.all_reduce(scale, group=group)
        scale.div_(width).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        ctx.width, ctx.group = width, group
        return (wide * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, scale = ctx.saved_tensors
        normed, grad = x.float() * scale, grads[0].float()
        dw = (grad * normed).flatten(0, -2).sum(0)
        grad = grad * weight
        mean = torch.linalg.vecdot(grad, normed)[..., None]
        torch.distributed.all_reduce(mean, group=ctx.group)
        dx = grad.sub_(normed.mul_(mean.div_(ctx.width))).mul_(scale)
        return dx.to(x.dtype), dw.to(weight.dtype), None, None, None


def rms_norm_over_ranks(
    x: Tensor, weight: Tensor, epsilon: float, *, width: int, group: ProcessGroup
) -> Tensor:
    """The norm over `width` channels, of which x [..., W] and weight [W] are this rank's part."""
    normed: Tensor = _OverRanks.apply(x, weight, epsilon, width, group)  # type: ignore[no-untyped-call]
    return normed


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, *, on_cpu: bool) -> Tensor:
    """The norm of x [..., W] with a weight [W], in x's type; sums are in float32."""
    if not on_cpu and detect_fake_mode((x,)) is None:
        return F.rms_norm(x, weight.shape, weight, epsilon)
    normed: Tensor = _RmsNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return normed
