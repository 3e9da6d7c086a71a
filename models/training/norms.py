"""Norms of hidden states and of queries and keys, which know how their gradients are summed.

Under tensor parallelism a norm's weight is replicated. With sequence parallelism each rank
normalises its own tokens, and a norm of heads its own heads: the weights' gradients must then be
summed over the tensor ranks. Parameters are marked for it, and engines do it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from torch import Tensor

from configs.settings.network import Norm
from models.ops.rms_norm import rms_norm, rms_norm_over_ranks


class LayerNorm(torch.nn.LayerNorm):
    """torch's LayerNorm, applicable to a slice of the sequence."""

    def __init__(self, config: Any, hidden_size: int, eps: float, **_megatron: Any) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        _mark(self, config)


class RMSNorm(torch.nn.Module):
    """Root mean square 1 (Zhang and Sennrich 2019), applicable to a slice of the sequence."""

    def __init__(self, config: Any, hidden_size: int, eps: float, **_megatron: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.eps, self.on_cpu = eps, bool(config.on_cpu)
        _mark(self, config)

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] to [..., W]."""
        return rms_norm(x, self.weight, self.eps, on_cpu=self.on_cpu)


class AllHeadsNorm(torch.nn.Module):
    """The norm of all heads together, of queries or keys [T, B, N, H] (OLMo 2).

    Tensor ranks hold the weights of their own heads, and add their squares up.
    """

    def __init__(self, config: Any, hidden_size: int, eps: float, *, width: int) -> None:
        super().__init__()
        self.group = parallel_state.get_tensor_model_parallel_group()
        self.width, self.eps, self.on_cpu = width, eps, bool(config.on_cpu)
        own = width // self.group.size()
        self.weight = torch.nn.Parameter(torch.ones(own, dtype=config.params_dtype))
        set_tensor_model_parallel_attributes(self.weight, is_parallel=True, dim=0, stride=1)

    def forward(self, heads_TBNH: Tensor) -> Tensor:
        """The same shape, normalised over both of the last dimensions."""
        flat = heads_TBNH.flatten(2)
        if self.group.size() == 1:
            normed = rms_norm(flat, self.weight, self.eps, on_cpu=self.on_cpu)
        else:
            normed = rms_norm_over_ranks(
                flat, self.weight, self.eps, width=self.width, group=self.group
            )
        return normed.view(heads_TBNH.shape)


@cache
def normed_linear(linear: Any, norm: Any) -> Any:
    """A row-parallel linear whose output, summed over ranks, is normalised."""

    class NormedLinear(linear):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int, *, config: Any, **megatron: Any) -> None:
            super().__init__(inputs, outputs, config=config, **megatron)
            self.norm = norm(config=config, hidden_size=outputs, eps=config.layernorm_epsilon)

        def forward(self, *inputs: Any, **megatron: Any) -> Any:
            out, bias = super().forward(*inputs, **megatron)
            return self.norm(out if bias is None else out + bias), None

    return NormedLinear


def norm_of(kind: Norm) -> Any:
    """The class of a model's norms."""
    return RMSNorm if kind is Norm.rms else LayerNorm


def _mark(norm: torch.nn.Module, config: Any) -> None:
    for parameter in norm.parameters():
        parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
