"""Where Megatron's three optimizers keep a parameter's master copy and Adam's moments.

FP32Optimizer keeps them beside the parameter, Float16OptimizerWithFloat16Params beside a float32
copy, DistributedOptimizer (ZeRO-1) as slices of a flat buffer, each on the data rank that owns it.
"""

from __future__ import annotations

from typing import Any

from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.optimizer.optimizer import Float16OptimizerWithFloat16Params
from megatron.core.optimizer.optimizer_config import ParamKey, ParamPredicate
from torch import Tensor

from parallel.engines.named_parameters import NamedParameter
from parallel.engines.newton_schulz import is_muons
from parallel.engines.optimizer_state import OptimizerState, OwnSlice, SlicedState, WholeState


def muon_groups(parameters: list[NamedParameter]) -> dict[ParamKey, Any]:
    """Has Megatron put Muon's matrices into a group of their own, which says so."""
    matrices = {named.tensor for named in parameters if is_muons(named.at)}
    key = ParamKey(predicate=ParamPredicate(name="muon", fn=lambda weight: weight in matrices))
    return {key: {"muon": True}}


def optimizer_state(optimizer: Any, data_group: Any) -> OptimizerState:
    """The optimizer's masters and moments: slices with ZeRO-1, else unsharded."""
    if isinstance(optimizer, DistributedOptimizer):
        return SlicedState(optimizer.optimizer, _slices(optimizer), data_group)
    return WholeState(optimizer.optimizer, _masters(optimizer), data_group)


def _masters(optimizer: Any) -> dict[Tensor, Tensor]:
    masters: dict[Tensor, Tensor] = {}
    if isinstance(optimizer, Float16OptimizerWithFloat16Params):
        for half, full in zip(
            optimizer.float16_groups, optimizer.fp32_from_float16_groups, strict=True
        ):
            masters.update(zip(half, full, strict=True))
    return masters


def _slices(optimizer: DistributedOptimizer) -> dict[Tensor, OwnSlice]:
    slices: dict[Tensor, OwnSlice] = {}
    for buffer in optimizer.gbuf_ranges:
        for buckets in buffer.values():
            for bucket in buckets:
                for parameter, ranges in bucket["param_map"].items():
                    group, order = optimizer.model_param_group_index_map[parameter]
                    main = optimizer.optimizer.param_groups[group]["params"][order]
                    place = slice(ranges["param"].start, ranges["param"].end)
                    slices[parameter] = OwnSlice(main, slice(None), place)
    return slices
