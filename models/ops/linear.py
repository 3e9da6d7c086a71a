"""Megatron-core's tensor-parallel linears with fewer passes over memory on a CPU.

Megatron-core adds a bias after its matmul, and computes each weight's gradient separately before
adding it to the sum over micro-batches: fused kernels hide this on a GPU, but on a CPU each is a
pass over memory. Here the bias and the sum are part of the matmuls (BLAS's beta). On CUDA, and with
sequence parallelism, the classes behave as Megatron-core's own.

Shape suffixes: R rows (tokens of all samples), I inputs, O outputs, both on this rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from torch import Tensor
from torch.distributed import ProcessGroup

from models.ops.half_precision import upcast_if_unsupported


class _HostLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, group: ProcessGroup | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        ctx.weight, ctx.has_bias, ctx.group = weight_OI, bias_O is not None, group
        bias = None if bias_O is None else upcast_if_unsupported(bias_O)
        return F.linear(upcast_if_unsupported(x), upcast_if_unsupported(weight_OI), bias).to(
            x.dtype
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight_OI = ctx.saved_tensors
        grad, dtype = upcast_if_unsupported(grads[0]), grads[0].dtype
        grad_RO, x_RI = grad.flatten(0, -2), upcast_if_unsupported(x).flatten(0, -2)
        grad_x, reduced = None, None
        if ctx.needs_input_grad[0]:
            grad_x = grad.matmul(upcast_if_unsupported(weight_OI)).to(dtype)
            if ctx.group is not None:
                reduced = torch.distributed.all_reduce(grad_x, group=ctx.group, async_op=True)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            # The product is accumulated directly into Megatron-core's sum over micro-batches;
            # autograd gets no gradient.
            total_OI = getattr(ctx.weight, "main_grad", None)
            if total_OI is not None and total_OI.dtype is grad.dtype:
                total_OI.addmm_(grad_RO.t(), x_RI)
            else:
                grad_weight = grad_RO.t().mm(x_RI).to(dtype)
        grad_bias = grad_RO.sum(0).to(dtype) if ctx.has_bias else None
        if reduced is not None:
            reduced.wait()
        return grad_x, grad_weight, grad_bias, None


def host_linear(
    input: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None,
    allreduce_dgrad: bool,
    tp_group: ProcessGroup | None,
    **_megatron: Any,
) -> Tensor:
    """Replaces Megatron-core's `_forward_impl`: x W^T + b.

    Args:
        allreduce_dgrad: sum the input's gradient over `tp_group`.
    """
    result: Tensor = _HostLinear.apply(  # type: ignore[no-untyped-call]
        input, weight, bias, tp_group if allreduce_dgrad else None
    )
    return result


def on_host(config: Any) -> bool:
    """Whether a layer of this TransformerConfig uses this module's implementation."""
    return bool(config.on_cpu) and not config.sequence_parallel


class _OnHost:
    """The CPU implementation shared by both linears: on one tensor rank just the matmul."""

    weight: Tensor
    bias: Tensor | None
    whole: bool  # unsharded: nothing to gather, sum, or add later

    def _take_over(self, config: Any) -> None:
        # Tokens come to an expert as they are, whatever they are split by elsewhere.
        alone = on_host(config) or (config.on_cpu and self.is_expert)  # type: ignore[attr-defined]
        self.whole = alone and self.tp_group.size() == 1  # type: ignore[attr-defined]
        if on_host(config):
            self._forward_impl = host_linear

    def forward(self, input_: Tensor, *others: Any, **megatron: Any) -> Any:
        if not self.whole:
            return super().forward(input_, *others, **megatron)  # type: ignore[misc]
        assert not others, others
        linear = host_linear(
            input_, self.weight, bias=self.bias, allreduce_dgrad=False, tp_group=None
        )
        return linear, None


class ColumnLinear(_OnHost, ColumnParallelLinear):  # type: ignore[misc]  # Megatron-core is untyped
    """Splits outputs over tensor ranks; on a CPU the matmul adds the bias itself."""

    def __init__(self, *sizes: int, config: Any, skip_bias_add: bool, **megatron: Any) -> None:
        super().__init__(
            *sizes, config=config, skip_bias_add=skip_bias_add and not on_host(config), **megatron
        )
        self._take_over(config)


class RowLinear(_OnHost, RowParallelLinear):  # type: ignore[misc]
    """With several ranks the bias is added once, after the sum."""

    def __init__(self, *sizes: int, config: Any, **megatron: Any) -> None:
        super().__init__(*sizes, config=config, **megatron)
        self._take_over(config)
