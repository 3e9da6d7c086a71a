"""The norm of the full gradient, counting each element once wherever it is held."""

from __future__ import annotations

import math

import torch
from megatron.core import parallel_state
from torch import Tensor

from parallel.engines.named_parameters import NamedParameter


@torch.no_grad()
def clip_by_global_norm(parameters: list[NamedParameter], clip: float) -> float:
    """Scales the gradients to a norm of at most `clip` (0: no clipping); returns the norm.

    Gradients are unsharded and already averaged over the data ranks. Collective over the ranks that
    hold one copy of the model.
    """
    first = parallel_state.get_tensor_model_parallel_rank() == 0
    counted = [
        named
        for named in parameters
        if not named.at.expert and not named.tied_copy and (first or named.at.part.parts > 1)
    ]
    squares = _squares(counted)
    torch.distributed.all_reduce(squares, group=parallel_state.get_model_parallel_group())
    experts = [named for named in parameters if named.at.expert]
    if experts:
        # Tensor ranks may hold different experts, or copies, and data ranks different ones.
        own = _squares(experts)
        torch.distributed.all_reduce(
            own, group=parallel_state.get_expert_tensor_and_model_parallel_group()
        )
        squares += own
    norm = math.sqrt(float(squares))
    if 0 < clip < norm:
        factor = clip / (norm + 1e-6)  # as in Megatron and DeepSpeed
        torch._foreach_mul_(
            [n.tensor.grad for n in parameters if n.tensor.grad is not None], factor
        )
    return norm


def _squares(parameters: list[NamedParameter]) -> Tensor:
    # In float64, since torch's float32 norm on CPU has an error of some 1e-6 for a large tensor.
    gradients = (named.tensor.grad for named in parameters)
    norms = [gradient.double().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).square().sum()
