"""The norm of the full gradient, counting each element once wherever it is held."""

from __future__ import annotations

import math

import torch
from megatron.core import parallel_state

from parallel.engines.named_parameters import NamedParameter


@torch.no_grad()
def clip_by_global_norm(parameters: list[NamedParameter], clip: float) -> float:
    """Scales the gradients to a norm of at most `clip` (0: no clipping); returns the norm.

    Gradients are unsharded and already averaged over the data ranks. Collective over the ranks that
    hold one copy of the model.
    """
    first = parallel_state.get_tensor_model_parallel_rank() == 0
    counted = [
        named.tensor.grad
        for named in parameters
        if not named.tied_copy and (first or named.at.part.parts > 1)
    ]
    # In float64, since torch's float32 norm on CPU has an error of some 1e-6 for a large tensor.
    norms = [gradient.double().norm() for gradient in counted if gradient is not None]
    squares = torch.stack(norms).square().sum()
    torch.distributed.all_reduce(squares, group=parallel_state.get_model_parallel_group())
    norm = math.sqrt(float(squares))
    if 0 < clip < norm:
        factor = clip / (norm + 1e-6)  # as in Megatron and DeepSpeed
        torch._foreach_mul_(
            [n.tensor.grad for n in parameters if n.tensor.grad is not None], factor
        )
    return norm
