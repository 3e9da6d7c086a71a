"""The parameters a rank holds, under names and positions that do not depend on the layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from megatron.core import parallel_state
from torch import Tensor

from models.initialise import Part, initial_weight
from models.shape import ModelShape
from parallel.engines.base import ParameterPart
from parallel.layout import Layout

# Transformer Engine fuses each norm with the linear after it.
_FUSED_NORMS = {
    "self_attention.linear_qkv.layer_norm_": "input_layernorm.",
    "mlp.linear_fc1.layer_norm_": "pre_mlp_layernorm.",
}


@dataclass(frozen=True, slots=True, eq=False)
class NamedParameter:
    """A tensor of this rank, and its position in a global parameter."""

    tensor: torch.nn.Parameter
    at: ParameterPart
    tied_copy: bool  # the last stage's copy of the embedding, for the logits


def part_here(name: str, shape: ModelShape, layout: Layout) -> ParameterPart:
    """This rank's shard of the parameter `name`."""
    tensor_rank = parallel_state.get_tensor_model_parallel_rank()
    parameter, parts = shape.parameter(name), layout.tensor
    part = Part()
    if parameter.split is not None and parts > 1:
        part = Part(parameter.split, tensor_rank, parts, parameter.blocks)
    elif parameter.padded:
        part = Part(dim=0)
    return ParameterPart(
        name=name,
        shape=torch.Size(parameter.shape_on_rank(parts)),
        part=part,
        whole=torch.Size(parameter.shape),
        padded=parameter.padded,
    )


def unfused(name: str) -> str:
    """The name a norm has when Transformer Engine does not fuse it."""
    for fused, plain in _FUSED_NORMS.items():
        name = name.replace(fused, plain)
    return name


def initial_value(named: NamedParameter, shape: ModelShape, seed: int) -> Tensor:
    """This rank's part of the initial value, which is the same under every layout."""
    at = named.at
    return initial_weight(at.name, at.shape, at.part, shape, seed)
