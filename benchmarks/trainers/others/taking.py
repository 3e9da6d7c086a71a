"""The weights of an engine on one rank, put into a plain model of other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from models.shape import ModelShape
from parallel.engines.named_parameters import NamedParameter


@torch.no_grad()
def take_weights(
    model: nn.Module,
    weights: Iterable[NamedParameter],
    shape: ModelShape,
    *,
    in_layer: Mapping[str, str],
    outside: Mapping[str, str],
) -> None:
    """Sets every parameter of the model.

    Args:
        in_layer: the engine's name of each part of a layer, and the model's.
        outside: the same of what is in no layer.
    """
    own = dict(model.named_parameters())
    for named in weights:
        module, _, kind = named.at.name.rpartition(".")
        if module in outside:
            name = f"{outside[module]}.{kind}"
        else:
            number, _, part = module.removeprefix("decoder.layers.").partition(".")
            name = f"layers.{number}.{in_layer[part]}.{kind}"
        value = named.tensor.detach()
        if module.endswith(".linear_qkv"):
            value = _ungrouped(value, shape)
        target = own.pop(name)
        target.copy_(value[: len(target)])  # the engine's vocabulary is padded
    assert not own, f"not in the engine's model: {sorted(own)}"


def _ungrouped(qkv: Tensor, shape: ModelShape) -> Tensor:
    """Megatron keeps each group's q, k and v together; here all q come before all k."""
    by_group = qkv.view(shape.query_groups, -1, *qkv.shape[1:])
    sizes = [shape.query // shape.query_groups, shape.head_width, shape.head_width]
    return torch.cat([part.flatten(0, 1) for part in torch.split(by_group, sizes, dim=1)])
