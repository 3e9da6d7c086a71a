"""The parameters a rank holds, under names and positions that do not depend on the layout."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from megatron.core import parallel_state
from torch import Tensor

from models.initialise import Part, initial_weight
from models.layer_table import Parameter
from models.shape import ModelShape
from parallel.engines.base import ParameterPart
from parallel.layout import Layout

# Transformer Engine fuses each norm with the linear after it.
_FUSED_NORMS = {
    "self_attention.linear_qkv.layer_norm_": "input_layernorm.",
    "mlp.linear_fc1.layer_norm_": "pre_mlp_layernorm.",
}

_ONE_EXPERT = re.compile(r"\.experts\.local_experts\.(\d+)\.")
_GROUPED_EXPERTS = re.compile(r"\.experts\.(linear_fc\d)\.weight(\d+)$")  # Transformer Engine's


@dataclass(frozen=True, slots=True, eq=False)
class NamedParameter:
    """A tensor of this rank, and its position in a global parameter."""

    tensor: torch.nn.Parameter
    at: ParameterPart
    tied_copy: bool  # the last stage's copy of the embedding, for the logits


def part_here(name: str, shape: ModelShape, layout: Layout) -> ParameterPart:
    """This rank's shard of the parameter `name`."""
    parameter = shape.parameter(name)
    rank = (
        parallel_state.get_tensor_model_parallel_rank()
        if parameter.expert is None
        else parallel_state.get_expert_tensor_parallel_rank()
    )
    return part_of(name, parameter, rank, parameter.parts(layout.cut))


def part_of(name: str, parameter: Parameter, rank: int, ranks: int) -> ParameterPart:
    """The shard of one of the `ranks` that share the parameter with the global name `name`."""
    part = Part()
    if parameter.split is not None and ranks > 1:
        part = Part(parameter.split, rank, ranks, parameter.blocks)
    elif parameter.padded:
        part = Part(dim=0)
    return ParameterPart(
        name=name,
        shape=torch.Size(parameter.shape_on_rank(ranks)),
        part=part,
        whole=torch.Size(parameter.shape),
        padded=parameter.padded,
        expert=parameter.expert is not None,
    )


def unfused(name: str) -> str:
    """The name a norm has when Transformer Engine does not fuse it."""
    for fused, plain in _FUSED_NORMS.items():
        name = name.replace(fused, plain)
    return name


def global_expert(name: str, first: int) -> str:
    """The name with an expert's number among all, of which this rank's begin with `first`."""
    if match := _ONE_EXPERT.search(name):
        return f"{name[: match.start()]}.experts.{first + int(match[1])}.{name[match.end() :]}"
    if match := _GROUPED_EXPERTS.search(name):
        return f"{name[: match.start()]}.experts.{first + int(match[2])}.{match[1]}.weight"
    return name


def initial_value(named: NamedParameter, shape: ModelShape, seed: int) -> Tensor:
    """This rank's part of the initial value, which is the same under every layout."""
    at = named.at
    return initial_weight(at.name, at.shape, at.part, shape, seed)
