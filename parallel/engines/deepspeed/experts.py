"""What DeepSpeed has to be told of layers with experts that are not its own.

It looks for its own kind of layer, and for the ranks that hold copies of an expert by the name of
a group: with both it averages experts' gradients and shards them over these ranks alone.
"""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.moe.layer import MoE
from deepspeed.utils import groups
from megatron.core import parallel_state
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler
from torch import nn

from parallel.engines.megatron.model import reduce_experts_apart
from parallel.engines.named_parameters import NamedParameter
from parallel.runtime.process_groups import expert_copies_group

EXPERTS = "experts"
"""The name of the group, by which DeepSpeed finds everything."""


class _Sign(MoE):  # type: ignore[misc]  # DeepSpeed is untyped
    """Without parameters, and never called: DeepSpeed finds an instance of its layer in a model."""

    def __init__(self, experts: int) -> None:
        nn.Module.__init__(self)
        self.num_experts = experts

    def set_deepspeed_parallelism(self, _data_before_expert: bool = False) -> None:
        """Called by DeepSpeed before it asks for its groups, which are Megatron-core's."""
        ranks = torch.distributed.get_process_group_ranks
        copies, dealt = expert_copies_group(), parallel_state.get_expert_model_parallel_group()
        groups._EXPERT_DATA_PARALLEL_GROUP[EXPERTS] = copies
        groups._EXPERT_DATA_PARALLEL_GROUP_RANKS[EXPERTS] = ranks(copies)
        groups._EXPERT_PARALLEL_GROUP[EXPERTS] = dealt
        groups._EXPERT_PARALLEL_GROUP_RANKS[EXPERTS] = ranks(dealt)


def tell_of_experts(model: nn.Module, parameters: list[NamedParameter], experts: int) -> None:
    """Marks experts' parameters and the model; does nothing without experts."""
    if not experts:
        return
    reduce_experts_apart(parameters)
    for named in parameters:
        if named.at.expert:
            named.tensor.group_name = EXPERTS  # type: ignore[attr-defined]
    model.add_module("deepspeed_experts", _Sign(experts))


def apart(groups: list[dict[str, Any]], parameters: list[NamedParameter]) -> list[dict[str, Any]]:
    """The optimizer's groups with experts in groups of their own, as ZeRO wants them."""
    experts = {named.tensor for named in parameters if named.at.expert}
    found = []
    for group in groups:
        own = [each for each in group["params"] if each in experts]
        others = [each for each in group["params"] if each not in experts]
        found.append({**group, "params": others})
        if own:
            found.append({**group, "params": own, "moe": True, "name": EXPERTS})
    return found


def scale_auxiliary_losses(context_ranks: int, micro_batches: int) -> None:
    """What Megatron-core's schedule says to routers: gradients are summed over micro-batches.

    A router's losses are divided by the context ranks, over which gradients are averaged later.
    """
    # In the shape of Megatron-core's own, which a process may set as well.
    MoEAuxLossAutoScaler.set_loss_scale(torch.tensor([context_ranks / micro_batches]))
