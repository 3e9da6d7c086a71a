"""Where DeepSpeed's optimizers keep a parameter's master copy and Adam's moments.

Without ZeRO they are beside the parameter; with ZeRO 1 and 2, and in the bf16 optimizer of ZeRO 1,
slices of one flat partition per parameter group; with ZeRO 3 slices of flat sub-groups.
"""

from __future__ import annotations

from typing import Any

from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from torch import Tensor

from parallel.engines.named_parameters import NamedParameter
from parallel.engines.optimizer_state import OptimizerState, OwnSlice, SlicedState, WholeState


def optimizer_state(
    optimizer: Any, adam: Any, parameters: list[NamedParameter], data_group: Any
) -> OptimizerState:
    """`optimizer` is DeepSpeed's wrapper of `adam`."""
    if optimizer is adam:
        return WholeState(adam, {}, data_group)
    stage3 = isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3)
    slices: dict[Tensor, OwnSlice] = {}
    for named in parameters:
        own = (
            _of_stage3(optimizer, named, data_group.rank())
            if stage3
            else _of_flat_partition(adam, named.tensor)
        )
        if own is not None:
            slices[named.tensor] = own
    return SlicedState(adam, slices, data_group)


def _of_flat_partition(adam: Any, parameter: Any) -> OwnSlice | None:
    mapping = parameter._hp_mapping
    if mapping is None:  # entirely in other ranks' partitions
        return None
    (main,) = adam.param_groups[mapping.param_group_index]["params"]
    at, place = mapping.hp_fragment_address, mapping.lp_fragment_address
    return OwnSlice(
        main,
        slice(at.start, at.start + at.numel),
        slice(place.start, place.start + place.numel),
    )


def _of_stage3(optimizer: Any, named: NamedParameter, data_rank: int) -> OwnSlice:
    # One of no elements still says in which sub-group they are, for optimizers that ask.
    parameter: Any = named.tensor
    group, start, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
    first = data_rank * size
    kept = max(0, min(size, named.at.shape.numel() - first))  # the last partition is padded
    main = optimizer.fp32_partitioned_groups_flat[group]
    return OwnSlice(main, slice(start, start + kept), slice(first, first + kept))
